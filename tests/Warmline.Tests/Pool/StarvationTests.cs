using System.Globalization;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A burst of blocking calls in a process that has two threads for them: slower, and none is lost. In a process of its own, with the server in this one.</summary>
public sealed class StarvationTests
{
    const string Server = "WARMLINE_TEST_SERVER";
    const int Calls = 40;

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_burst_of_blocking_calls_is_slower_and_loses_nothing(bool http2)
    {
        await using var server = await MockLlmServer.StartAsync(new()
        {
            Protocols = http2 ? HttpProtocols.Http1AndHttp2 : HttpProtocols.Http1,
            OnRequest = _ => new() { DelayBeforeHeaders = TimeSpan.FromMilliseconds(50) },
        }, cancellationToken: Rig.Ct);

        var found = await ChildProcess.RunAsync(typeof(Child), (Server, server.BaseAddress.ToString()));

        Assert.True(found == $"{Calls} x 200", found);
    }

    public sealed class Child
    {
        [Fact]
        public async Task Plays()
        {
            ChildProcess.SkipUnlessChild();
            ThreadPool.SetMinThreads(2, 2);
            var options = new ConnectionPoolOptions
            {
#pragma warning disable CA5359 // The server is the test's own, in another process.
                SslOptions = new() { RemoteCertificateValidationCallback = (_, _, _, _) => true },
#pragma warning restore CA5359
                Timeouts = { Pool = TimeSpan.FromSeconds(5), Connect = TimeSpan.FromSeconds(4) },   // over before there are threads for all
            };
            await using var pool = new ConnectionPool(options);
            using var client = pool.CreateClient(new Uri(Environment.GetEnvironmentVariable(Server)!));
            var calls = Enumerable.Range(0, Calls).Select(_ => Task.Run(() => Call(client))).ToArray();
            var found = await Task.WhenAll(calls);

            ChildProcess.Tell(string.Join("; ", found.GroupBy(outcome => outcome).Select(group => $"{group.Count()} x {group.Key}")));
        }

        static string Call(HttpClient client)
        {
            try
            {
                using var request = Support.Calls.Chat();
                request.Content = new StringContent("""{"model":"m","messages":[]}""", null, "application/json");
                using var response = client.Send(request);
                return ((int)response.StatusCode).ToString(CultureInfo.InvariantCulture);
            }
            catch (Exception error)
            {
                return error.ToString();
            }
        }
    }
}
