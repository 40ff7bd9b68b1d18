using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;

namespace Warmline.AspNetCore;

/// <summary>
/// Whether a caller is on this machine. The address alone does not tell: a proxy beside the application makes every caller look local, so a
/// request that shows signs of one is not; and a web page may have its own name resolve to 127.0.0.1 and read the answer as its own (DNS
/// rebinding), so the name in the address bar must be a local one too.
/// </summary>
/// <remarks>No address at all counts as local: it is what requests have that came over no network (a Unix socket, a named pipe, the test
/// host). What cannot be seen is a proxy on this machine that adds no header: the page on monitoring says so.</remarks>
internal static class CallerCheck
{
    /// <summary>
    /// What proxies add; <c>X-Original-For</c> is where ASP.NET Core's own middleware puts what it has taken from <c>X-Forwarded-For</c>.
    /// </summary>
    static readonly string[] ProxyHeaders =
    [
        "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "X-Original-For", "X-Original-Host", "X-Original-Proto",
        "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Envoy-External-Address", "CF-Connecting-IP", "True-Client-IP", "Fastly-Client-IP",
    ];

    /// <summary>Lets only callers of this machine through to the handler; the others get 403 and one sentence.</summary>
    public static RequestDelegate Guard(string method, bool allowRemote, RequestDelegate handler) => allowRemote
        ? handler
        : context => Refusal(context) is not { } why
            ? handler(context)
            : AnswerAsync(context, StatusCodes.Status403Forbidden, $"This address answers callers on its own machine only, and {why}: set AllowRemote in {method} to open it, and protect it then, as by RequireAuthorization.");

    /// <summary>An answer of one plain sentence.</summary>
    public static Task AnswerAsync(HttpContext context, int status, string sentence)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "text/plain; charset=utf-8";
        context.Response.Headers.CacheControl = "no-store";
        return context.Response.WriteAsync(sentence + "\n", context.RequestAborted);
    }

    /// <summary>Why the caller is not taken for a local one; <see langword="null"/> when it is.</summary>
    static string? Refusal(HttpContext context)
    {
        if (context.Connection.RemoteIpAddress is { } address && !IsLoopback(address))
        {
            return "this one is on another";
        }

        foreach (var name in ProxyHeaders)
        {
            if (context.Request.Headers.ContainsKey(name))
            {
                return $"this one came through a proxy ({name})";
            }
        }

        if (!IsLocalName(context.Request.Host.Host))
        {
            return "this one asked for it by a name that is not localhost or a loopback address";
        }

        // A page of another site, where the application lets such pages read its answers (CORS).
        return context.Request.Headers.Origin is { Count: > 0 } origin && !IsLocalOrigin(origin) ? "this one is a web page from elsewhere" : null;
    }

    static bool IsLocalOrigin(StringValues origin) => Uri.TryCreate(origin.ToString(), UriKind.Absolute, out var address) && IsLocalName(address.Host);

    /// <summary>A loopback address, <c>localhost</c>, or a name below it (RFC 6761 6.3: nobody can own one).</summary>
    static bool IsLocalName(string host)
    {
        var name = host.EndsWith('.') ? host[..^1] : host;
        return name.Equals("localhost", StringComparison.OrdinalIgnoreCase) || name.EndsWith(".localhost", StringComparison.OrdinalIgnoreCase)
            || (IPAddress.TryParse(host, out var address) && IsLoopback(address));
    }

    /// <summary>All of 127.0.0.0/8, also as a socket for both families shows it (::ffff:127.0.0.2), and ::1.</summary>
    static bool IsLoopback(IPAddress address) => IPAddress.IsLoopback(address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address);
}
