using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.TestHost;
using Microsoft.Extensions.DependencyInjection;

namespace Warmline.AspNetCore.Tests;

/// <summary>Who is answered.</summary>
public sealed class CallerTests
{
    public static TheoryData<string> Paths => ["/warmline/stats", "/warmline/live", "/metrics"];

    [Theory(Timeout = Eventually.Patience)]
    [InlineData("http://127.0.0.1:0", "127.0.0.1")]
    [InlineData("http://127.0.0.1:0", "127.0.0.2")]
    [InlineData("http://127.0.0.1:0", "localhost")]
    [InlineData("http://127.0.0.1:0", "LOCALHOST.")]
    [InlineData("http://127.0.0.1:0", "app.localhost")]
    [InlineData("http://[::1]:0", "[::1]")]
    [InlineData("http://[::]:0", "[::1]")]
    [InlineData("http://[::]:0", "127.0.0.1")]   // a socket for both families shows this caller as ::ffff:127.0.0.1
    public async Task A_caller_on_this_machine_is_answered(string listen, string name)
    {
        await using var app = await StartAsync(listen: listen);
        var to = name.StartsWith('[') ? IPAddress.IPv6Loopback : IPAddress.Loopback;

        foreach (var path in new[] { "/warmline/stats", "/metrics" })
        {
            Assert.Equal(HttpStatusCode.OK, (await CallAsync(app.Port, to, path, name)).Status);
        }
    }

    [Theory(Timeout = Eventually.Patience)]
    [InlineData("203.0.113.7")]
    [InlineData("::ffff:203.0.113.7")]
    [InlineData("::ffff:127.0.0.1", true)]
    [InlineData("::ffff:127.9.9.9", true)]
    [InlineData("2001:db8::1")]
    [InlineData("10.0.0.1")]
    [InlineData("0.0.0.0")]
    [InlineData("::")]
    [InlineData("fe80::1")]
    public async Task An_address_decides_whatever_it_is_written_as(string address, bool local = false)
    {
        await using var app = await StartAsync(from: IPAddress.Parse(address));

        foreach (var path in Paths.Select(row => row.Data).Where(path => !local || path != "/warmline/live"))   // which would not end
        {
            await (local ? AnsweredAsync(app, path) : RefusedAsync(app, path, "this one is on another"));
        }
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task A_caller_over_the_network_is_refused_and_answered_where_that_is_allowed()
    {
        await using var closed = await StartAsync(listen: "http://[::]:0");
        await using var open = await StartAsync(listen: "http://[::]:0", allowRemote: true);
        var addresses = NetworkInterface.GetAllNetworkInterfaces().Where(card => card.OperationalStatus == OperationalStatus.Up)
            .SelectMany(card => card.GetIPProperties().UnicastAddresses).Select(unicast => unicast.Address)
            .Where(address => address.AddressFamily == AddressFamily.InterNetwork && !IPAddress.IsLoopback(address)).ToList();

        foreach (var address in addresses)   // none on a machine without network: then the address that a test makes up above has to do
        {
            var refused = await CallAsync(closed.Port, address, "/metrics", "localhost");
            Assert.Equal(HttpStatusCode.Forbidden, refused.Status);
            Assert.Contains("set AllowRemote in MapPoolMetrics", refused.Text, StringComparison.Ordinal);
            Assert.Equal(HttpStatusCode.OK, (await CallAsync(open.Port, address, "/metrics", address.ToString())).Status);
        }
    }

    [Theory(Timeout = Eventually.Patience)]
    [InlineData("X-Forwarded-For", "127.0.0.1")]
    [InlineData("Forwarded", "for=127.0.0.1")]
    [InlineData("X-Real-IP", "127.0.0.1")]
    [InlineData("X-Forwarded-Host", "localhost")]
    [InlineData("Via", "1.1 proxy")]
    [InlineData("X-Original-For", "[::1]:4711")]
    [InlineData("x-forwarded-proto", "https")]
    public async Task A_caller_behind_a_proxy_of_this_machine_is_refused(string name, string value)
    {
        await using var app = await StartAsync();

        foreach (var path in Paths.Select(row => row.Data))
        {
            await RefusedAsync(app, path, "came through a proxy", (name, value));
        }
    }

    [Theory(Timeout = Eventually.Patience)]
    [InlineData("Host", "evil.example")]
    [InlineData("Host", "127.0.0.1.evil.example")]
    [InlineData("Host", "localhost.evil.example")]
    [InlineData("Host", "evillocalhost")]
    [InlineData("Host", "203.0.113.7")]
    [InlineData("Origin", "https://evil.example")]
    [InlineData("Origin", "null")]
    public async Task A_web_page_cannot_read_through_its_readers_browser(string name, string value)
    {
        await using var app = await StartAsync();

        foreach (var path in Paths.Select(row => row.Data))
        {
            await RefusedAsync(app, path, name == "Host" ? "by a name that is not localhost" : "a web page from elsewhere", (name, value));
        }
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task A_page_of_this_machine_and_everybody_where_that_is_allowed_can_read()
    {
        await using var closed = await StartAsync();
        await using var open = await StartAsync(allowRemote: true, from: IPAddress.Parse("203.0.113.7"));

        await AnsweredAsync(closed, "/metrics", ("Origin", "http://localhost:3000"));
        foreach (var path in new[] { "/warmline/stats", "/metrics" })
        {
            await AnsweredAsync(open, path, ("Host", "app.example"), ("X-Forwarded-For", "198.51.100.3"), ("Origin", "https://app.example"));
        }
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task A_caller_without_an_address_came_over_no_network()
    {
        var folder = Directory.CreateTempSubdirectory("warmline-socket-");
        try
        {
            var path = Path.Combine(folder.FullName, "app.sock");
            await using var app = await StartAsync(listen: "http:" + $"//unix:{path}");   // in two parts, or it looked like a host of one machine
            using var client = new HttpClient(new SocketsHttpHandler
            {
                ConnectCallback = async (_, ct) =>
                {
                    var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), ct);
                    return new NetworkStream(socket, ownsSocket: true);
                },
            });

            Assert.Contains("\"pools\"", await client.GetStringAsync(new Uri("http://localhost/warmline/stats"), Eventually.Ct), StringComparison.Ordinal);
            using var proxied = await client.GetAsync(new Uri("http://app.example/warmline/stats"), Eventually.Ct);   // the name that a proxy passes on
            Assert.Equal(HttpStatusCode.Forbidden, proxied.StatusCode);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task An_applications_own_tests_are_answered()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseTestServer();
        builder.Services.AddConnectionPool();
        await using var app = builder.Build();
        app.MapPoolStats();
        await app.StartAsync(Eventually.Ct);

        Assert.Contains("\"pools\"", await app.GetTestClient().GetStringAsync(new Uri("/warmline/stats", UriKind.Relative), Eventually.Ct), StringComparison.Ordinal);
    }

    [Theory(Timeout = Eventually.Patience)]
    [MemberData(nameof(Paths))]
    public async Task Conventions_of_the_application_reach_every_endpoint(string path)
    {
        await using var app = await App.StartAsync(services =>
        {
            services.AddConnectionPool();
            services.AddAuthentication().AddCookie(cookies => cookies.Events.OnRedirectToLogin = context =>
            {
                context.Response.StatusCode = StatusCodes.Status401Unauthorized;
                return Task.CompletedTask;
            });
            services.AddAuthorization(options => options.DefaultPolicy = new AuthorizationPolicyBuilder("Cookies").RequireAuthenticatedUser().Build());
        }, web =>
        {
            web.MapPoolStats().RequireAuthorization();
            web.MapPoolMetrics().RequireAuthorization();
        });

        Assert.Equal(HttpStatusCode.Unauthorized, (await app.CallAsync(path)).Status);
    }

    static Task<App> StartAsync(bool allowRemote = false, IPAddress? from = null, string listen = "http://127.0.0.1:0") => App.StartAsync(services => services.AddConnectionPool(), web =>
    {
        if (from is not null)
        {
            web.Use((context, next) =>
            {
                context.Connection.RemoteIpAddress = from;
                return next(context);
            });
        }

        web.MapPoolStats(configure: o => o.AllowRemote = allowRemote);
        web.MapPoolMetrics(configure: o => o.AllowRemote = allowRemote);
    }, listen);

    static async Task AnsweredAsync(App app, string path, params (string, string)[] headers)
    {
        var (status, text, _) = await app.CallAsync(path, headers);
        Assert.True(status == HttpStatusCode.OK, $"{path}: {status} {text}");
    }

    static async Task RefusedAsync(App app, string path, string why, params (string, string)[] headers)
    {
        var (status, text, type) = await app.CallAsync(path, headers);
        Assert.Equal((HttpStatusCode.Forbidden, "text/plain; charset=utf-8"), (status, type));
        Assert.Contains(why, text, StringComparison.Ordinal);
        Assert.Contains($"set AllowRemote in {(path == "/metrics" ? "MapPoolMetrics" : "MapPoolStats")}", text, StringComparison.Ordinal);
        Assert.Single(text.TrimEnd('\n').Split('\n'));
    }

    /// <summary>A call to one address under another name.</summary>
    static async Task<(HttpStatusCode Status, string Text)> CallAsync(int port, IPAddress to, string path, string name)
    {
        using var client = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, ct) =>
            {
                var socket = new Socket(to.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                await socket.ConnectAsync(to, port, ct);
                return new NetworkStream(socket, ownsSocket: true);
            },
        });
        using var response = await client.GetAsync(new Uri($"http://{name}:{port}{path}"), Eventually.Ct);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Eventually.Ct));
    }
}
