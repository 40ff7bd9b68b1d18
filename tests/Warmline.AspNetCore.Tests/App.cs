using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Warmline.AspNetCore.Tests;

/// <summary>An application on a free port of this machine, reached over real sockets.</summary>
internal sealed class App : IAsyncDisposable
{
    App(WebApplication web)
    {
        Web = web;
        Client = new HttpClient { BaseAddress = Address, Timeout = Timeout.InfiniteTimeSpan };
    }

    public WebApplication Web { get; }

    public HttpClient Client { get; }

    public Uri Address => new($"http://127.0.0.1:{Port}");

    public int Port => new Uri(Web.Urls.First()).Port;

    /// <param name="services">What it is made of.</param>
    /// <param name="map">What it answers.</param>
    /// <param name="listen">Where it listens.</param>
    public static async Task<App> StartAsync(Action<IServiceCollection> services, Action<WebApplication> map, string listen = "http://127.0.0.1:0")
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.SetMinimumLevel(LogLevel.Error);   // what goes wrong is seen beside the test that fails
        builder.WebHost.UseUrls(listen);
        services(builder.Services);
        var web = builder.Build();
        map(web);
        await web.StartAsync(Eventually.Ct);
        return new App(web);
    }

    public Task<string> GetAsync(string path) => Client.GetStringAsync(new Uri(path, UriKind.Relative), Eventually.Ct);

    /// <summary>One call with headers of one's own.</summary>
    public async Task<(HttpStatusCode Status, string Text, string? Type)> CallAsync(string path, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        foreach (var (name, value) in headers)
        {
            Assert.True(request.Headers.TryAddWithoutValidation(name, value));
        }

        using var response = await Client.SendAsync(request, Eventually.Ct);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Eventually.Ct), response.Content.Headers.ContentType?.ToString());
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Web.DisposeAsync();
    }
}
