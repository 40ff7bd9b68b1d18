using System.Net;
using Microsoft.AspNetCore.Http;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>What goes to a proxy, and what becomes of its answers.</summary>
internal static class ProxyBehaviours
{
    const string Corp = "http://llm.test:8000/v1?q=1";
    const string Agent = "my-app/1.0";

    const string Names = "some proxies refuse a tunnel to a client without a `User-Agent`";

    public static Behaviour[] All { get; } =
    [
        new("plain http: what the proxy is asked", side => AskAsync(side, Corp), On: On.Http1),
        new("plain http: the proxy answers 403", side => AnswerAsync(side, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"), On: On.Http1),
        new("plain http: the proxy answers 405", side => AnswerAsync(side, "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"), On: On.Http1),
        new("plain http: the proxy requires credentials, and none are set", side => AnswerAsync(
            side, "HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"), On: On.Http1),
        new("plain http: the proxy closes without a response", side => AnswerAsync(side, ""), On: On.Http1),
        new("plain http, 2.0 Exact", side => VersionAsync(side, HttpVersionPolicy.RequestVersionExact), On: On.Http1),
        new("plain http, 2.0 OrHigher", side => VersionAsync(side, HttpVersionPolicy.RequestVersionOrHigher), On: On.Http1),
        new("plain http, 2.0 OrLower", side => VersionAsync(side, HttpVersionPolicy.RequestVersionOrLower), On: On.Http1),
        new("plain http with `Upgrade: websocket`", side => AskAsync(side, Corp, "Upgrade"), On: On.Http1),
        new("`ws://`: what the proxy is asked", side => AskAsync(side, "ws://llm.test:8000/", "Upgrade"), On: On.Http1),
        new("https: the headers of `CONNECT`, of a call with `User-Agent`", side => TunnelAsync(side, Agent)),
        new("https: the headers of `CONNECT`, of a call without", side => TunnelAsync(side, null), Names),
        new("https: a proxy that refuses a tunnel without `User-Agent`", FilterAsync),
        new("a proxy object that throws", ThrowAsync),
    ];

    static async Task<string> AskAsync(Side side, string address, string? header = null)
    {
        var proxy = side.ServeProxy(static head =>
            head.StartsWith("CONNECT", StringComparison.Ordinal) ? ScriptedProxy.Forbidden : ScriptedProxy.Forwarded);
        var request = side.Request(HttpMethod.Get, new Uri(address));
        if (header is not null)
        {
            request.Headers.Add(header, "websocket");
            request.Headers.Add("Connection", header);
        }

        await Side.TellAsync(side.SendAsync(request));
        return string.Join(", ", proxy.Heads.Select(static head => $"`{head.Split(" HTTP/")[0]}`"));
    }

    static async Task<string> AnswerAsync(Side side, string answer)
    {
        side.ServeProxy(_ => answer);
        return await Side.TellAsync(side.SendAsync(side.Request(HttpMethod.Post, new Uri(Corp), new StringContent("hi"))));
    }

    static async Task<string> VersionAsync(Side side, HttpVersionPolicy policy)
    {
        var proxy = side.ServeProxy(static _ => ScriptedProxy.Forwarded);
        var request = new HttpRequestMessage(HttpMethod.Get, Corp) { Version = HttpVersion.Version20, VersionPolicy = policy };
        var told = await Side.TellAsync(side.SendAsync(request));
        return $"{told}; {proxy.Heads.Count} requests";
    }

    static async Task<string> TunnelAsync(Side side, string? agent)
    {
        var address = await side.ServeAsync(static _ => Task.CompletedTask);
        var proxy = side.ServeProxy(static _ => ScriptedProxy.Open, address.Port);
        using var response = await side.SendAsync(With(side.Request(HttpMethod.Get, address), agent));
        var version = typeof(ConnectionPool).Assembly.GetName().Version!.ToString(3);
        return string.Join(", ", proxy.Heads.SelectMany(static head => head.Split("\r\n")).Skip(1).Where(static line => line.Length > 0)
            .Select(line => line.StartsWith("Host:", StringComparison.Ordinal) ? "Host"
                : line.Replace(version, "…", StringComparison.Ordinal)));
    }

    static async Task<string> FilterAsync(Side side)
    {
        var address = await side.ServeAsync(static context => context.Response.WriteAsync("hi"));
        side.ServeProxy(
            static head => ScriptedProxy.Header(head, "User-Agent") is null ? ScriptedProxy.Forbidden : ScriptedProxy.Open, address.Port);
        return await Side.TellAsync(side.SendAsync(With(side.Request(HttpMethod.Get, address), Agent)));
    }

    static async Task<string> ThrowAsync(Side side)
    {
        var address = await side.ServeAsync(static context => context.Response.WriteAsync("hi"));
        side.Proxy = new Throwing();
        return await Side.TellAsync(side.GetAsync(address));
    }

    static HttpRequestMessage With(HttpRequestMessage request, string? agent)
    {
        if (agent is not null)
        {
            request.Headers.UserAgent.ParseAdd(agent);
        }

        return request;
    }

    sealed class Throwing : IWebProxy
    {
        public ICredentials? Credentials { get; set; }

        public Uri? GetProxy(Uri destination) => throw new InvalidOperationException("The script of the proxy is broken.");

        public bool IsBypassed(Uri host) => false;
    }
}
