using System.Text;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Warmline.MockLlm;
using Warmline.Tests.Support;

namespace Warmline.Tests.Hosting;

/// <summary>Small hosts around a pool: no files, no environment, every log message kept.</summary>
internal static class HostRig
{
    public static HostApplicationBuilder Builder(LogRecorder? logs = null, TimeProvider? time = null)
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddSingleton<ILoggerFactory>(logs ?? new LogRecorder());
        if (time is not null)
        {
            builder.Services.AddSingleton(time);
        }

        return builder;
    }

    public static IConfigurationRoot Json(string json) => new ConfigurationBuilder().AddJsonStream(new MemoryStream(Encoding.UTF8.GetBytes(json))).Build();

    public static IConfigurationRoot Values(params (string Key, string? Value)[] values) =>
        new ConfigurationBuilder().AddInMemoryCollection(values.Select(pair => KeyValuePair.Create(pair.Key, pair.Value))).Build();

    public static Action<ConnectionPoolOptions> Trusting(MockLlmServer mock, Action<ConnectionPoolOptions>? more = null) => options =>
    {
        options.SslOptions = mock.CreateClientSslOptions();
        more?.Invoke(options);
    };
}
