using System.Net;
using System.Text;
using Microsoft.AspNetCore.Http;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>Reading the body of an answer in every way, and leaving it in every state.</summary>
internal static class BodyBehaviours
{
    const string Sync = "the pool waits for its own asynchronous work, so synchronous callers may ride HTTP/2";

    public static Behaviour[] All { get; } =
    [
        new("disposed unread, the body being short and whole", side => LeaveAsync(side, endless: false, async response => await Task.CompletedTask)),
        new("disposed unread, the body being short and under way", LateAsync),
        new("disposed unread, the body going on", side => LeaveAsync(side, endless: true, async response => await Task.CompletedTask)),
        new("disposed in mid-read", side => LeaveAsync(side, endless: true, async response => await (await response.Content.ReadAsStreamAsync(Side.Ct)).ReadExactlyAsync(new byte[5], Side.Ct))),
        new("only the stream disposed in mid-read", side => LeaveAsync(side, endless: true, async response =>
        {
            await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
            await body.ReadExactlyAsync(new byte[5], Side.Ct);
        })),
        new("disposed after the end", side => LeaveAsync(side, endless: false, async response => await response.Content.ReadAsStringAsync(Side.Ct))),
        new("disposed twice", side => LeaveAsync(side, endless: false, async response =>
        {
            await response.Content.ReadAsStringAsync(Side.Ct);
            response.Dispose();
        })),
        new("a read that is cancelled", CancelReadAsync),
        new("a read after the response was disposed", ReadDisposedAsync, "the end that the caller made himself must not look like the end of the answer"),
        new("a second read after the end", ReadAgainAsync),
        new("`ReadAsStringAsync` twice", TwiceAsync),
        new("`Stream.Read`, `ReadByte`, `CopyTo`", SyncAsync),
        new("`BeginRead` and `EndRead`", BeginReadAsync),
        new("`ReadAsStream`, `CopyTo` of the content", ContentSyncAsync),
        new("a read of 0 bytes", ZeroAsync),
        new("a read into null, and beyond the buffer", ArgumentsAsync),
        new("what the stream can, and can after it was disposed", CanAsync),
        new("`HttpClient.Send`", SendAsync, Sync),
        new("`MaxResponseContentBufferSize` exceeded", TooLargeAsync),
        new("events as they come", EventsAsync),
    ];

    static RequestDelegate Answer(bool endless) => async context =>
    {
        context.Response.ContentLength = endless ? null : 5;
        await context.Response.WriteAsync("hello");
        await context.Response.Body.FlushAsync();
        if (endless)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider(), context.RequestAborted).ContinueWith(static _ => { }, TaskScheduler.Default);
        }
    };

#pragma warning disable RS0030 // For a delay without an end.
    static TimeProvider TimeProvider() => System.TimeProvider.System;
#pragma warning restore RS0030

    static async Task<string> LeaveAsync(Side side, bool endless, Func<HttpResponseMessage, Task> use)
    {
        var address = await side.ServeAsync(Answer(endless));
        var response = await side.GetAsync(address);
        await use(response);
        response.Dispose();
        return await side.AfterAsync(address);
    }

    static async Task<string> LateAsync(Side side)
    {
        var disposed = new TaskCompletionSource();
        var address = await side.ServeAsync(async context =>
        {
            context.Response.ContentLength = 10;
            await context.Response.WriteAsync("hello");
            await context.Response.Body.FlushAsync();
            await disposed.Task;
            await context.Response.WriteAsync("world");
        });
        (await side.GetAsync(address)).Dispose();
        disposed.SetResult();
        await side.ComesAsync(new TaskCompletionSource().Task, never: true);   // the bare handler tells nobody when it has read on
        return await side.AfterAsync(address);
    }

    static async Task<string> CancelReadAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: true));
        using var response = await side.GetAsync(address);
        await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        await body.ReadExactlyAsync(new byte[5], Side.Ct);
        using var cancel = new CancellationTokenSource();
        var read = body.ReadAsync(new byte[5], cancel.Token);
        await cancel.CancelAsync();
        return $"{await ErrorAsync(async () => await read)}; {await side.AfterAsync(address)}";
    }

    static async Task<string> ReadDisposedAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        var response = await side.GetAsync(address);
        var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        response.Dispose();
        return $"stream: {await ErrorAsync(() => body.ReadExactlyAsync(new byte[5], Side.Ct).AsTask())}, content: {await ErrorAsync(() => response.Content.ReadAsStringAsync(Side.Ct))}";
    }

    static async Task<string> ReadAgainAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        using var response = await side.GetAsync(address);
        await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        await body.ReadExactlyAsync(new byte[5], Side.Ct);
        return $"{await body.ReadAsync(new byte[5], Side.Ct)}, {await body.ReadAsync(new byte[5], Side.Ct)}, {body.Read(new byte[5])}";
    }

    static async Task<string> TwiceAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        using var response = await side.GetAsync(address);
        return $"{await response.Content.ReadAsStringAsync(Side.Ct)}, {await response.Content.ReadAsStringAsync(Side.Ct)}";
    }

    static async Task<string> SyncAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        using var response = await side.GetAsync(address);
        using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        var buffer = new byte[2];
        body.ReadExactly(buffer);
        return $"{Encoding.ASCII.GetString(buffer)}+{(char)body.ReadByte()}+{CopyTo(body.CopyTo)}, then {body.ReadByte()}; {await side.AfterAsync(address)}";
    }

    static async Task<string> BeginReadAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        using var response = await side.GetAsync(address);
        using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        var buffer = new byte[5];
        return $"{body.EndRead(body.BeginRead(buffer, 0, 5, null, null))} bytes";
    }

    static async Task<string> ContentSyncAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        using var first = await side.GetAsync(address);
        using var reader = new StreamReader(first.Content.ReadAsStream(Side.Ct));
        using var second = await side.GetAsync(address);
        return $"{reader.ReadToEnd()}, {CopyTo(stream => second.Content.CopyTo(stream, null, Side.Ct))}";
    }

    static async Task<string> ZeroAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        using var response = await side.GetAsync(address);
        await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        return $"{await body.ReadAsync(Memory<byte>.Empty, Side.Ct)}, then {await new StreamReader(body).ReadToEndAsync(Side.Ct)}";
    }

    static async Task<string> ArgumentsAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: true));
        using var response = await side.GetAsync(address);
        await using var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        await body.ReadExactlyAsync(new byte[5], Side.Ct);
        return $"{await ErrorAsync(() => body.ReadAsync(null!, 0, 0, Side.Ct))}, {await ErrorAsync(() => body.ReadAsync(new byte[4], 2, 3, Side.Ct))}, {await ErrorAsync(() => Task.FromResult(body.Read(null!, 0, 1)))}";
    }

    static async Task<string> CanAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        using var response = await side.GetAsync(address);
        var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        var before = Can(body);
        await body.DisposeAsync();
        return $"{before}, then {Can(body)}";

        static string Can(Stream stream) => (stream.CanRead, stream.CanWrite, stream.CanSeek) switch { (true, false, false) => "reading", (false, false, false) => "nothing", var other => $"{other}" };
    }

    static async Task<string> SendAsync(Side side)
    {
        var address = await side.ServeAsync(Answer(endless: false));
        return await Task.Run(async () =>
        {
            try
            {
                using var response = side.Client.Send(side.Request(HttpMethod.Get, address), Side.Ct);
                return await response.Content.ReadAsStringAsync(Side.Ct);
            }
            catch (Exception error)
            {
                return Side.Tell(error);
            }
        });
    }

    static async Task<string> TooLargeAsync(Side side)
    {
        var address = await side.ServeAsync(context => context.Response.WriteAsync(new string('x', 10_000)));
        side.Client.MaxResponseContentBufferSize = 1_000;
        return await Side.TellAsync(side.Client.SendAsync(side.Request(HttpMethod.Get, address), Side.Ct));
    }

    static async Task<string> EventsAsync(Side side)
    {
        var seen = new SemaphoreSlim(0);
        var address = await side.ServeAsync(async context =>
        {
            for (var i = 1; i <= 3; i++)
            {
                await context.Response.WriteAsync($"data: {i}\n\n");
                await context.Response.Body.FlushAsync();
                await seen.WaitAsync(context.RequestAborted);
            }
        });
        using var response = await side.GetAsync(address);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(Side.Ct));
        var events = "";
        while (await reader.ReadLineAsync(Side.Ct) is { } line)
        {
            if (line.Length > 0)
            {
                events += line[6..];
                seen.Release();
            }
        }

        return $"{events}; {await side.AfterAsync(address)}";
    }

    static string CopyTo(Action<Stream> copy)
    {
        using var to = new MemoryStream();
        copy(to);
        return Encoding.ASCII.GetString(to.ToArray());
    }

    static async Task<string> ErrorAsync(Func<Task> what)
    {
        try
        {
            await what();
            return "no error";
        }
        catch (Exception error)
        {
            return Side.Tell(error);
        }
    }
}
