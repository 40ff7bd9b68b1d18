using System.Net;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Http;

namespace Warmline.Tests.Http;

/// <summary>Redirects, followed and not.</summary>
internal static class RedirectBehaviours
{
    static readonly string[] Secrets = ["Authorization", "Proxy-Authorization", "Cookie", "x-api-key", "api-key", "x-goog-api-key", "Ocp-Apim-Subscription-Key", "x-plain"];

    public static Behaviour[] All { get; } =
    [
        .. new[] { 300, 301, 302, 303, 307, 308 }.Select(status => new Behaviour($"POST, then {status}", side => MethodAsync(side, HttpMethod.Post, status))),
        new("PUT, then 302", side => MethodAsync(side, HttpMethod.Put, 302)),
        new("PUT, then 303", side => MethodAsync(side, HttpMethod.Put, 303)),
        new("HEAD, then 303", side => MethodAsync(side, HttpMethod.Head, 303)),
        new("GET, then 304", side => MethodAsync(side, HttpMethod.Get, 304)),
        new("`AllowAutoRedirect` left out", side => MethodAsync(side, HttpMethod.Post, 307, follow: false)),
        new("no `Location`", side => LocationAsync(side, null)),
        new("a relative `Location`", side => LocationAsync(side, "end?q=1")),
        new("a fragment is inherited", side => LocationAsync(side, "/end", "#top")),
        new("a fragment of its own", side => LocationAsync(side, "/end#other", "#top")),
        new("from https to http", side => LocationAsync(side, "http://localhost:1/")),
        new("in a circle", CircleAsync),
        new("credentials on the same origin", side => SecretsAsync(side, otherOrigin: false), "the same server asked for them; a call that moved from `/v1` to `/v1/` should not end in 401"),
        new("credentials on another origin", side => SecretsAsync(side, otherOrigin: true), "API keys are credentials, and so are cookies and what proxies are told: none of the other server's business"),
        new("the request afterwards", RequestAsync, "the caller's request stays his; where the answer came from is told by `response.RequestMessage`"),
        new("with a single place in the pool", SinglePlaceAsync),
        new("a redirect with a body of 3 MB", LongBodyAsync, On: On.Http1),
        new("a body that cannot be read twice, then 307", OnceAsync),
        new("a body that is under way when 307 comes", UnderWayAsync, "the answer is heard at once, and the body starts again at the new place", On.Http1),
    ];

    static async Task<string> MethodAsync(Side side, HttpMethod method, int status, bool follow = true)
    {
        side.AllowAutoRedirect = follow;
        var seen = "not followed";
        var address = await side.ServeAsync(async context =>
        {
            var body = await new StreamReader(context.Request.Body).ReadToEndAsync();
            if (context.Request.Path == "/end")
            {
                seen = $"{context.Request.Method} {(body.Length == 0 ? "without a body" : $"\"{body}\"")}";
            }
            else if (context.Request.Path == "/")
            {
                context.Response.StatusCode = status;
                context.Response.Headers.Location = "/end";
            }
        });
        using var response = await side.SendAsync(side.Request(method, address, method == HttpMethod.Get || method == HttpMethod.Head ? null : new StringContent("x")));
        return $"{seen}; {(int)response.StatusCode}; {await side.AfterAsync(address)}";
    }

    static async Task<string> LocationAsync(Side side, string? location, string fragment = "")
    {
        side.AllowAutoRedirect = true;
        var address = await side.ServeAsync(context =>
        {
            if (context.Request.Path == "/a/b")
            {
                context.Response.StatusCode = 302;
                context.Response.Headers.Location = location;
            }

            return Task.CompletedTask;
        });
        using var response = await side.GetAsync(new Uri(address, "a/b" + fragment));
        var at = response.RequestMessage!.RequestUri!;
        return $"{(int)response.StatusCode} at {at.PathAndQuery}{at.Fragment}";
    }

    static async Task<string> CircleAsync(Side side)
    {
        side.AllowAutoRedirect = true;
        var calls = 0;
        var address = await side.ServeAsync(context =>
        {
            calls++;
            context.Response.StatusCode = 302;
            context.Response.Headers.Location = "/";
            return Task.CompletedTask;
        });
        return $"{await Side.TellAsync(side.GetAsync(address))} after {calls} calls";
    }

    static async Task<string> SecretsAsync(Side side, bool otherOrigin)
    {
        side.AllowAutoRedirect = true;
        var end = await side.ServeAsync(EndAsync);
        var address = await side.ServeAsync(context =>
        {
            if (context.Request.Path == "/end")
            {
                return EndAsync(context);
            }

            context.Response.StatusCode = 307;
            context.Response.Headers.Location = otherOrigin ? new Uri(end, "end").AbsoluteUri : "/end";
            return Task.CompletedTask;
        });
        var request = side.Request(HttpMethod.Get, address);
        foreach (var secret in Secrets)
        {
            request.Headers.TryAddWithoutValidation(secret, "s");
        }

        return $"sent on: {await (await side.SendAsync(request)).Content.ReadAsStringAsync(Side.Ct)}";

        static Task EndAsync(HttpContext context) => context.Response.WriteAsync(string.Join(", ", Secrets.Where(context.Request.Headers.ContainsKey)));
    }

    static async Task<string> RequestAsync(Side side)
    {
        side.AllowAutoRedirect = true;
        var address = await side.ServeAsync(context =>
        {
            if (context.Request.Path == "/")
            {
                context.Response.StatusCode = 302;
                context.Response.Headers.Location = "/end";
            }

            return Task.CompletedTask;
        });
        var request = side.Request(HttpMethod.Post, address, new StringContent("x"));
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", "x");
        using var response = await side.SendAsync(request);
        return $"{request.Method} {request.RequestUri!.PathAndQuery}, {(request.Content is null ? "without its" : "with its")} content, {(request.Headers.Authorization is null ? "without" : "with")} Authorization; "
            + $"the answer is of {response.RequestMessage!.Method} {response.RequestMessage.RequestUri!.PathAndQuery}";
    }

    static Task<string> SinglePlaceAsync(Side side)
    {
        side.MaxConcurrentRequests = 1;
        return MethodAsync(side, HttpMethod.Post, 307);
    }

    static async Task<string> LongBodyAsync(Side side)
    {
        side.AllowAutoRedirect = true;
        var connections = new HashSet<string>();
        var address = await side.ServeAsync(async context =>
        {
            connections.Add(context.Connection.Id);
            if (context.Request.Path == "/")
            {
                context.Response.StatusCode = 302;
                context.Response.Headers.Location = "/end";
                await context.Response.WriteAsync(new string('x', 3_000_000));
            }
        });
        return $"{await Side.TellAsync(side.GetAsync(address))} on {connections.Count} connections";
    }

    static async Task<string> OnceAsync(Side side)
    {
        side.AllowAutoRedirect = true;
        var address = await side.ServeAsync(async context =>
        {
            await context.Request.Body.CopyToAsync(Stream.Null);
            context.Response.StatusCode = 307;
            context.Response.Headers.Location = "/end";
        });
        var source = new GatedStream(1000, 0);
        source.Open();
        return await Side.TellAsync(side.PostAsync(address, new StreamContent(source)));
    }

    static async Task<string> UnderWayAsync(Side side)
    {
        side.AllowAutoRedirect = true;
        var gate = new TaskCompletionSource();
        var times = 0;
        var address = await side.ServeAsync(async context =>
        {
            if (context.Request.Path == "/")
            {
                await context.Request.Body.ReadExactlyAsync(new byte[100]);
                context.Response.StatusCode = 307;
                context.Response.Headers.Location = "/end";
                await context.Response.CompleteAsync();
                return;
            }

            await new StreamReader(context.Request.Body).ReadToEndAsync();
            await context.Response.WriteAsync("whole");
        });
        var call = side.PostAsync(address, new OwnContent(async (stream, ct) =>
        {
            await stream.WriteAsync(new byte[50_000], ct);
            await stream.FlushAsync(ct);
            if (Interlocked.Increment(ref times) == 1)
            {
                await gate.Task.WaitAsync(ct);
            }
        }));
        var early = await side.ComesAsync(call);
        gate.SetResult();
        return $"{await Side.TellAsync(call)} {(early ? "at once" : "after the body")}";
    }
}
