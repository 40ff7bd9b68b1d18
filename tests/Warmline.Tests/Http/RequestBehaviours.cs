using System.Net;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>What a request says, how it may be given up, and that it is its caller's again afterwards.</summary>
internal static class RequestBehaviours
{
    const string Rides = "a version and a policy that were not chosen are what SDKs leave as they are: such calls ride HTTP/2 where the server speaks it";

    const string Shares = "both refuse; the pool sees it on a connection that it shares with other calls, the bare handler in a handshake of its own";
    const string NoHttp3 = "there is no HTTP/3 in the pool: such a call rides the highest version that it has";

    public static Behaviour[] All { get; } =
    [
        new("`new HttpRequestMessage` (1.1, OrLower) to a server of both", side => VersionAsync(side, HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrLower), Rides, On.Http1),
        new("1.1 Exact to a server of both", side => VersionAsync(side, HttpVersion.Version11, HttpVersionPolicy.RequestVersionExact), On: On.Http1),
        new("1.1 OrHigher to a server of both", side => VersionAsync(side, HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrHigher), On: On.Http1),
        new("2.0 OrLower to a server of both", side => VersionAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrLower), On: On.Http2),
        new("2.0 Exact to a server of both", side => VersionAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact), On: On.Http2),
        new("2.0 OrLower to a server of 1.1", side => VersionAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrLower, HttpProtocols.Http1), On: On.Http1),
        new("2.0 Exact to a server of 1.1", side => VersionAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact, HttpProtocols.Http1), On: On.Http1),
        new("2.0 OrHigher to a server of both", side => VersionAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrHigher), On: On.Http2),
        new("2.0 OrHigher to a server of 1.1", side => VersionAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrHigher, HttpProtocols.Http1), Shares, On.Http1),
        new("2.0 Exact with `Upgrade` to a server of both", side => UpgradeAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionExact), On: On.Http2),
        new("2.0 OrHigher with `Upgrade` to a server of both", side => UpgradeAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrHigher), On: On.Http2),
        new("2.0 OrLower with `Upgrade` to a server of HTTP/2 alone", side => UpgradeAsync(side, HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrLower, HttpProtocols.Http2), On: On.Http2),
        new("1.1 OrHigher with `Upgrade` to a server of HTTP/2 alone", side => UpgradeAsync(side, HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrHigher, HttpProtocols.Http2), On: On.Http2),
        new("1.1 OrLower with `Upgrade` to a server of both", side => UpgradeAsync(side, HttpVersion.Version11, HttpVersionPolicy.RequestVersionOrLower), On: On.Http1),
        .. FallbackBehaviours.All,
        new("versions that are none (0.9, 1.2, 2.1, 4.0), with any policy", NoVersionsAsync),
        new("1.0 with a content of unknown length", UnknownLengthAsync, On: On.Http1),
        new("1.0 with `Expect: 100-continue`", ExpectAsync, On: On.Http1),
        new("`Transfer-Encoding: chunked` without content", side => RefusedAsync(side, request => request.Headers.TransferEncodingChunked = true)),
        new("a header value that is not ASCII", side => RefusedAsync(side, request => request.Headers.Add("x-title", "Café"))),
        new("3.0 Exact", side => VersionAsync(side, HttpVersion.Version30, HttpVersionPolicy.RequestVersionExact), On: On.Http2),
        new("3.0 OrHigher", side => VersionAsync(side, HttpVersion.Version30, HttpVersionPolicy.RequestVersionOrHigher), NoHttp3, On.Http2),
        new("3.0 OrLower", side => VersionAsync(side, HttpVersion.Version30, HttpVersionPolicy.RequestVersionOrLower), On: On.Http2),
        new("GET, PUT, PATCH, DELETE, OPTIONS and a method of one's own", MethodsAsync),
        new("path, query and fragment", TargetAsync),
        new("a `Host` header of one's own", HostAsync, On: On.Http1),
        new("headers twice, odd and empty", HeadersAsync),
        new("the request after success", side => RestoredAsync(side, fails: false)),
        new("the request after a failure", side => RestoredAsync(side, fails: true)),
        new("one request sent twice by an HttpClient", TwiceAsync),
        new("one request sent twice by an HttpMessageInvoker", TwiceByInvokerAsync),
        new("a relative address without a base", side => Side.TellAsync(side.SendAsync(new HttpRequestMessage(HttpMethod.Get, "models")))),
        new("another scheme", side => Side.TellAsync(side.SendAsync(new HttpRequestMessage(HttpMethod.Get, "ftp://localhost/a")))),
        new("nobody listens", side => Side.TellAsync(side.SendAsync(side.Request(HttpMethod.Get, NobodyListens())))),
        new("`HttpClient.Timeout` before the headers", side => TimeoutAsync(side, HttpCompletionOption.ResponseHeadersRead)),
        new("`HttpClient.Timeout` in the body of a buffered call", side => TimeoutAsync(side, HttpCompletionOption.ResponseContentRead)),
        new("`CancelPendingRequests`", side => CancelAsync(side, (client, _) => client.CancelPendingRequests())),
        new("the caller's token", side => CancelAsync(side, (_, token) => token.Cancel())),
        new("a token that is cancelled before the call", CancelledAsync),
        new("cancelled in the middle of the request body", CancelUploadAsync),
    ];

    static Task<string> UpgradeAsync(Side side, Version version, HttpVersionPolicy policy, HttpProtocols protocols = HttpProtocols.Http1AndHttp2) =>
        VersionAsync(side, version, policy, protocols, request => request.Headers.TryAddWithoutValidation("Upgrade", "h2c"));

    static async Task<string> VersionAsync(Side side, Version version, HttpVersionPolicy policy, HttpProtocols protocols = HttpProtocols.Http1AndHttp2, Action<HttpRequestMessage>? change = null)
    {
        var address = await side.ServeAsync(context => context.Response.WriteAsync($"{context.Request.Protocol}{(context.Request.Headers.ContainsKey("Upgrade") ? " with Upgrade" : "")}"), protocols: protocols);
        try
        {
            var request = new HttpRequestMessage(HttpMethod.Post, address) { Version = version, VersionPolicy = policy };
            change?.Invoke(request);
            using var response = await side.SendAsync(request);
            return $"{await response.Content.ReadAsStringAsync(Side.Ct)}, told as {response.Version}";
        }
        catch (Exception error)
        {
            return Side.Tell(error);
        }
    }

    static async Task<string> NoVersionsAsync(Side side)
    {
        var address = await side.ServeAsync(_ => Task.CompletedTask);
        var outcomes = new HashSet<string>(StringComparer.Ordinal);
        foreach (var version in new Version[] { new(0, 9), new(1, 2), new(2, 1), new(4, 0) })
        {
            foreach (var policy in Enum.GetValues<HttpVersionPolicy>())
            {
                outcomes.Add(await Side.TellAsync(side.SendAsync(new HttpRequestMessage(HttpMethod.Get, address) { Version = version, VersionPolicy = policy })));
            }
        }

        return string.Join(", ", outcomes);
    }

    static async Task<string> UnknownLengthAsync(Side side)
    {
        var address = await side.ServeAsync(_ => Task.CompletedTask);
        return await Side.TellAsync(side.SendAsync(new HttpRequestMessage(HttpMethod.Post, address) { Version = HttpVersion.Version10, Content = new OwnContent((_, _) => Task.CompletedTask) }));
    }

    static async Task<string> ExpectAsync(Side side)
    {
        var address = side.ServeRaw(async peer =>
        {
            var head = await peer.ReadHeadAsync();
            await peer.ReadAsync(1);
            await peer.SayAsync(RawHttp1.Ok($"{head.Split("\r\n")[0]}, {(head.Contains("Expect", StringComparison.Ordinal) ? "with" : "without")} Expect"));
        });
        return await Side.TellAsync(side.SendAsync(new HttpRequestMessage(HttpMethod.Post, address)
        {
            Version = HttpVersion.Version10, VersionPolicy = HttpVersionPolicy.RequestVersionExact, Content = new StringContent("x"), Headers = { ExpectContinue = true },
        }));
    }

    static async Task<string> RefusedAsync(Side side, Action<HttpRequestMessage> change)
    {
        var address = await side.ServeAsync(_ => Task.CompletedTask);
        await Side.TellAsync(side.GetAsync(address));
        var request = side.Request(HttpMethod.Post, address);
        change(request);
        return $"{await Side.TellAsync(side.SendAsync(request))}; {await side.AfterAsync(address)}";
    }

    static async Task<string> MethodsAsync(Side side)
    {
        var address = await side.ServeAsync(async context => await context.Response.WriteAsync($"{context.Request.Method} {await new StreamReader(context.Request.Body).ReadToEndAsync()}".TrimEnd()));
        var outcomes = new List<string>();
        foreach (var method in new[] { HttpMethod.Get, HttpMethod.Put, HttpMethod.Patch, HttpMethod.Delete, HttpMethod.Options, new HttpMethod("QUERY") })
        {
            outcomes.Add(await Side.TellAsync(side.SendAsync(side.Request(method, address, method == HttpMethod.Get ? null : new StringContent("x")))));
        }

        return string.Join(", ", outcomes);
    }

    static async Task<string> TargetAsync(Side side)
    {
        var address = await side.ServeAsync(context => context.Response.WriteAsync(context.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget));
        return await Side.TellAsync(side.GetAsync(new Uri(address, "a%2Fb/ü?q=1%202&r=[]#top")));
    }

    static async Task<string> HostAsync(Side side)
    {
        var address = side.ServeRaw(async peer =>
        {
            var head = await peer.ReadHeadAsync();
            await peer.SayAsync(RawHttp1.Ok(head.Split("\r\n").Single(line => line.StartsWith("Host:", StringComparison.Ordinal))));
        });
        var request = side.Request(HttpMethod.Get, address);
        request.Headers.Host = "provider.example:8443";
        return await Side.TellAsync(side.SendAsync(request));
    }

    static async Task<string> HeadersAsync(Side side)
    {
        var address = await side.ServeAsync(context => context.Response.WriteAsync(string.Join(", ",
            context.Request.Headers.Where(header => header.Key.StartsWith("x-", StringComparison.OrdinalIgnoreCase) || header.Key == "User-Agent").OrderBy(header => header.Key, StringComparer.OrdinalIgnoreCase)
                .Select(header => $"{header.Key.ToLowerInvariant()}={header.Value}"))));
        var request = side.Request(HttpMethod.Get, address);
        request.Headers.Add("x-two", ["a", "b"]);
        request.Headers.TryAddWithoutValidation("x-odd", "(;,=");
        request.Headers.Add("x-empty", "");
        request.Headers.TryAddWithoutValidation("User-Agent", "OpenAI/Python 1.0 ()(");
        return await Side.TellAsync(side.SendAsync(request));
    }

    static async Task<string> RestoredAsync(Side side, bool fails)
    {
        var address = fails ? NobodyListens() : await side.ServeAsync(context => Task.CompletedTask);
        side.AutomaticDecompression = DecompressionMethods.All;
        var content = new StringContent(new string('x', 50_000));
        var request = new HttpRequestMessage(HttpMethod.Post, address) { Content = content, Version = side.Version, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        request.Headers.Add("x-a", "b");
        request.Headers.AcceptEncoding.ParseAdd("gzip");
        request.Headers.AcceptEncoding.ParseAdd("deflate");
        request.Headers.AcceptEncoding.ParseAdd("br");
        await Side.TellAsync(side.SendAsync(request));
        var same = ReferenceEquals(content, request.Content) && request.Version == side.Version && request.VersionPolicy is HttpVersionPolicy.RequestVersionExact
            && request.Headers.Count() == 2 && request.RequestUri == address && request.Method == HttpMethod.Post;
        return $"{(same ? "as it was" : "changed")}, its content {(await ReadableAsync(content) ? "alive" : "disposed")}";
    }

    static async Task<bool> ReadableAsync(HttpContent content)
    {
        try
        {
            return (await content.ReadAsStringAsync(Side.Ct)).Length > 0;
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
    }

    static async Task<string> TwiceAsync(Side side)
    {
        var address = await side.ServeAsync(context => Task.CompletedTask);
        var request = side.Request(HttpMethod.Post, address, new StringContent("x"));
        return $"{await Side.TellAsync(side.SendAsync(request))}, {await Side.TellAsync(side.SendAsync(request))}";
    }

    static async Task<string> TwiceByInvokerAsync(Side side)
    {
        var address = await side.ServeAsync(async context => await context.Response.WriteAsync(await new StreamReader(context.Request.Body).ReadToEndAsync()));
        var request = side.Request(HttpMethod.Post, address, new StringContent("x"));
        return $"{await Side.TellAsync(side.Invoker.SendAsync(request, Side.Ct))}, {await Side.TellAsync(side.Invoker.SendAsync(request, Side.Ct))}";
    }

    static async Task<string> TimeoutAsync(Side side, HttpCompletionOption completion)
    {
        var address = await side.ServeAsync(async context =>
        {
            if (completion is HttpCompletionOption.ResponseContentRead)
            {
                await context.Response.Body.FlushAsync();
            }

            await Never(context);
        });
        side.Client.Timeout = TimeSpan.FromMilliseconds(500);
        return await Side.TellAsync(side.Client.SendAsync(side.Request(HttpMethod.Post, address, new StringContent("x")), completion, Side.Ct));
    }

    static async Task<string> CancelAsync(Side side, Action<HttpClient, CancellationTokenSource> cancel)
    {
        var came = new TaskCompletionSource();
        var address = await side.ServeAsync(async context =>
        {
            if (context.Request.Method == "POST")
            {
                came.TrySetResult();
                await Never(context);
            }
        });
        using var token = new CancellationTokenSource();
        var call = side.SendAsync(side.Request(HttpMethod.Post, address, new StringContent("x")), token.Token);
        await came.Task.WaitAsync(Side.Ct);
        cancel(side.Client, token);
        return $"{await Side.TellAsync(call)}; {await side.AfterAsync(address)}";
    }

    static async Task<string> CancelledAsync(Side side)
    {
        var address = await side.ServeAsync(context => Task.CompletedTask);
        return await Side.TellAsync(side.SendAsync(side.Request(HttpMethod.Post, address, new StringContent("x")), new CancellationToken(canceled: true)));
    }

    static async Task<string> CancelUploadAsync(Side side)
    {
        var seen = new TaskCompletionSource<string>();
        var address = await side.ServeAsync(async context =>
        {
            try
            {
                await context.Request.Body.CopyToAsync(Stream.Null);
                seen.TrySetResult("a whole body");
            }
            catch (Exception error) when (error is IOException or OperationCanceledException or Microsoft.AspNetCore.Http.BadHttpRequestException)
            {
                seen.TrySetResult("a body that broke off");
            }
        });
        var source = new GatedStream(64 * 1024, 64 * 1024);
        using var cancel = new CancellationTokenSource();
        var call = side.SendAsync(side.Request(HttpMethod.Post, address, new StreamContent(source)), cancel.Token);
        await source.Waiting;
        await cancel.CancelAsync();
        return $"{await Side.TellAsync(call)}; the server saw {await seen.Task.WaitAsync(Side.Ct)}";
    }

    static Uri NobodyListens()
    {
        using var server = new RawServer();
        return new Uri($"https://localhost:{server.Port}/");
    }

    static Task Never(HttpContext context)
    {
        var ended = new TaskCompletionSource();
        context.RequestAborted.Register(() => ended.TrySetResult());
        return ended.Task;
    }
}
