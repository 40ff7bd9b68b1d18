using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Warmline.MockLlm;

/// <summary>The events of one stream in a provider's shape.</summary>
internal sealed record EventStream
{
    public required string Head { get; init; }
    public required int Tokens { get; init; }
    public required Func<int, string> Token { get; init; }
    public required string Tail { get; init; }
    public required string Ping { get; init; }

    /// <summary>The provider pings by itself while no token comes.</summary>
    public bool Pings { get; init; }

    /// <summary>What an overloaded provider writes after so many tokens.</summary>
    public required Func<int, string> Error { get; init; }

    /// <summary>As <see cref="Error"/>; only the Responses API has two forms.</summary>
    public Func<int, string>? Failed { get; init; }
}

/// <summary>The body of an answer on its way out: its pace, its exact end, and everything that a script does to it.</summary>
internal sealed class AnswerBody(HttpContext http, RequestEntry entry, ReplyPlan plan, CounterBoard board, DelayScheduler scheduler, CancellationToken aborted)
{
    static readonly TimeSpan PingInterval = TimeSpan.FromSeconds(15);

    readonly bool _whole = plan.DribbleBytes is null && (plan.TruncateAfterBytes is null || entry.Connection.Http2 is not null);
    readonly Http2Tap? _tap = entry.Connection.Http2;
    long _sent;
    bool _over;

    /// <summary>The whole answer at once.</summary>
    public async Task JsonAsync(string json)
    {
        SetContentType("application/json");
        var half = json.Length / 2;
        var breaks = plan.FaultAfterTokens is not null && plan.Fault is not MockFault.None and not MockFault.ErrorEvent and not MockFault.Failed;
        json = breaks && plan.Fault == MockFault.Garbage ? json[..half] + "this is no JSON" : json;
        if (!breaks || plan.Fault != MockFault.End)
        {
            http.Response.ContentLength = Encoding.UTF8.GetByteCount(json);
        }

        await BeginAsync().ConfigureAwait(false);
        if (breaks && plan.Fault != MockFault.Garbage)
        {
            await WriteAsync(json[..half]).ConfigureAwait(false);
            await FaultAsync("", _ => "").ConfigureAwait(false);
            json = json[half..];
        }

        await FinishAsync(json).ConfigureAwait(false);
    }

    /// <summary>Server-sent events: the head leaves with the first token, the tail with the last one.</summary>
    public async Task EventsAsync(EventStream events)
    {
        SetContentType("text/event-stream; charset=utf-8");
        http.Response.Headers.CacheControl = "no-cache";
        await BeginAsync().ConfigureAwait(false);
        await WriteAsync(events.Head).ConfigureAwait(false);
        var start = scheduler.Now;
        for (var i = 0; i < events.Tokens && !_over; i++)
        {
            if (i > 0 && plan.TokenGap > TimeSpan.Zero)
            {
                await FlushAsync().ConfigureAwait(false);
                await UntilTokenAsync(scheduler.Add(start, plan.TokenGap * i), events).ConfigureAwait(false);
            }
            else if (i % 64 == 63)
            {
                await FlushAsync().ConfigureAwait(false);
            }

            if (i == plan.FaultAfterTokens)
            {
                await FaultAsync(events.Ping, plan.Fault == MockFault.Failed ? events.Failed ?? events.Error : events.Error).ConfigureAwait(false);
            }

            if (!_over)
            {
                await WriteAsync(events.Token(i)).ConfigureAwait(false);
                Volatile.Write(ref entry.Tokens, i + 1);
            }
        }

        if (plan.FaultAfterTokens >= events.Tokens)
        {
            await FaultAsync(events.Ping, plan.Fault == MockFault.Failed ? events.Failed ?? events.Error : events.Error).ConfigureAwait(false);
        }

        if (plan.TailDelay is { } delay && !_over)
        {
            await WriteAsync(events.Tail + Extra()).ConfigureAwait(false);
            await FlushAsync().ConfigureAwait(false);
            await WaitAsync(delay).ConfigureAwait(false);
            await FinishAsync("").ConfigureAwait(false);
        }
        else
        {
            await FinishAsync(events.Tail + Extra()).ConfigureAwait(false);
        }
    }

    string Extra() => plan.ExtraBytes > 0 ? string.Concat(Enumerable.Repeat(": extra\n", (plan.ExtraBytes / 8) + 1))[..plan.ExtraBytes] : "";

    async Task BeginAsync()
    {
        if (_tap is not null && (plan.TruncateAfterBytes is not null || plan.DribbleBytes is not null || plan.Fault != MockFault.None))
        {
            _tap.Watch(StreamId, plan.TruncateAfterBytes);
        }

        if (plan.DelayBeforeBody is { } delay)
        {
            await http.Response.StartAsync(aborted).ConfigureAwait(false);
            await FlushAsync().ConfigureAwait(false);
            await WaitAsync(delay).ConfigureAwait(false);
        }
    }

    /// <summary>The provider's, unless the script has set one, or none.</summary>
    void SetContentType(string type)
    {
        if (plan.Headers?.Keys.Contains("Content-Type", StringComparer.OrdinalIgnoreCase) != true)
        {
            http.Response.ContentType = type;
        }
    }

    int StreamId => http.Features.Get<IHttp2StreamIdFeature>()!.StreamId;

    /// <summary>What was written before has left when this begins. Sets <see cref="_over"/> where nothing may follow.</summary>
    async Task FaultAsync(string ping, Func<int, string> error)
    {
        await FlushAsync().ConfigureAwait(false);
        await PassedAsync().ConfigureAwait(false);
        switch (plan.Fault)
        {
            case MockFault.Cancel or MockFault.InternalError or MockFault.Refuse or MockFault.Downgrade:
                Break(plan.Fault);
                break;
            case MockFault.Silence:
                await SilenceAsync(ping).ConfigureAwait(false);
                break;
            case MockFault.End:
                await FinishAsync("").ConfigureAwait(false);
                break;
            case MockFault.ErrorEvent or MockFault.Failed:
                await FinishAsync(error(entry.Tokens)).ConfigureAwait(false);
                break;
            case MockFault.Garbage:
                await WriteAsync("data: {\"this is no JSON\n\n").ConfigureAwait(false);
                break;
            case MockFault.GoAway:
                entry.Connection.Faults.Fail(MockFault.GoAway);
                break;
            case MockFault.Vanish:
                entry.Connection.Faults.Fail(MockFault.Vanish);
                await WaitAsync(Timeout.InfiniteTimeSpan).ConfigureAwait(false);
                break;
            default:
                board.RequestEnded(entry, http.Response.StatusCode, completed: false, abortedByClient: false);
                entry.Connection.Faults.Fail(plan.Fault);
                throw new OperationCanceledException();
        }
    }

    /// <summary>Breaks off an answer whose first bytes have left.</summary>
    void Break(MockFault fault)
    {
        board.RequestEnded(entry, http.Response.StatusCode, completed: false, abortedByClient: false);
        _over = true;
        if (!ResetStream(http, fault))
        {
            throw new BrokenOffException();
        }
    }

    /// <summary>HTTP/2: RST_STREAM. False over HTTP/1.1, or when the fault is none of a stream.</summary>
    public static bool ResetStream(HttpContext http, MockFault fault)
    {
        int? code = fault switch { MockFault.InternalError => 2, MockFault.Refuse => 7, MockFault.Cancel => 8, MockFault.Downgrade => 13, _ => null }; // RFC 9113 section 7
        if (code is not { } known || http.Features.Get<IHttpResetFeature>() is not { } feature)
        {
            return false;
        }

        feature.Reset(known);
        return true;
    }

    async Task SilenceAsync(string ping)
    {
        while (plan.PingInterval is { } interval && interval > TimeSpan.Zero && ping.Length > 0)
        {
            await WaitAsync(interval).ConfigureAwait(false);
            await WriteAsync(ping).ConfigureAwait(false);
            await FlushAsync().ConfigureAwait(false);
        }

        await WaitAsync(Timeout.InfiniteTimeSpan).ConfigureAwait(false);
    }

    async ValueTask UntilTokenAsync(long due, EventStream events)
    {
        var interval = plan.PingInterval ?? PingInterval;
        while ((events.Pings || plan.PingInterval > TimeSpan.Zero) && scheduler.Add(scheduler.Now, interval) < due)
        {
            await scheduler.DelayAsync(interval, aborted).ConfigureAwait(false);
            await WriteAsync(events.Ping).ConfigureAwait(false);
            await FlushAsync().ConfigureAwait(false);
        }

        await scheduler.UntilAsync(due, aborted).ConfigureAwait(false);
    }

    ValueTask WaitAsync(TimeSpan time) =>
        time == Timeout.InfiniteTimeSpan ? new ValueTask(Task.Delay(time, scheduler.Time, aborted)) : scheduler.DelayAsync(time, aborted);

    async Task FinishAsync(string last)
    {
        if (_over)
        {
            return;
        }

        aborted.ThrowIfCancellationRequested();
        if (_whole && !entry.Connection.Faults.IsVanished)
        {
            Encode(last);
            Count();
            if (http.Response is { HasStarted: true, ContentLength: not null })
            {
                // Kestrel does not, when a body of known length is completed after its head had gone.
                await FlushAsync().ConfigureAwait(false);
            }
        }
        else
        {
            await WritePiecesAsync(last, isLast: true).ConfigureAwait(false);
        }

        _over = true;
        await http.Response.CompleteAsync().ConfigureAwait(false);
    }

    /// <summary>
    /// Before the last bytes leave: a client that answers the end with its next request must never find two streams open.
    /// </summary>
    void Count() => board.RequestEnded(entry, http.Response.StatusCode, completed: plan.TruncateAfterBytes is null, abortedByClient: false);

    Task FlushAsync() => _whole ? http.Response.BodyWriter.FlushAsync(aborted).AsTask() : http.Response.Body.FlushAsync(aborted);

    ValueTask WriteAsync(string text)
    {
        if (_whole && !entry.Connection.Faults.IsVanished)
        {
            Encode(text);
            return ValueTask.CompletedTask;
        }

        return new ValueTask(WritePiecesAsync(text, isLast: false));
    }

    void Encode(string text)
    {
        if (text.Length > 0)
        {
            _sent += Encoding.UTF8.GetBytes(text, http.Response.BodyWriter);
        }
    }

    async Task WritePiecesAsync(string text, bool isLast)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        var size = Math.Max(1, plan.DribbleBytes ?? bytes.Length);
        for (var at = 0; at < bytes.Length; at += size)
        {
            var piece = bytes.AsMemory(at, Math.Min(size, bytes.Length - at));
            if (plan.DribbleGap is { } gap && _sent > 0)
            {
                await WaitAsync(gap).ConfigureAwait(false);
            }

            await UnlessVanishedAsync().ConfigureAwait(false);
            if (isLast && at + size >= bytes.Length)
            {
                Count();
            }

            if (_tap is null && plan.TruncateAfterBytes is { } most && _sent + piece.Length > most)
            {
                await CutAsync(piece, (int)(most - _sent)).ConfigureAwait(false);
            }

            _sent += piece.Length;
            await http.Response.Body.WriteAsync(piece, aborted).ConfigureAwait(false);
            await http.Response.Body.FlushAsync(aborted).ConfigureAwait(false);
            await PassedAsync().ConfigureAwait(false);
        }

        await UnlessVanishedAsync().ConfigureAwait(false);
        if (isLast)
        {
            Count();   // idempotent
        }
    }

    /// <summary>HTTP/2: Kestrel's flush is over before its frames have left, and a RST_STREAM would take their place.</summary>
    Task PassedAsync() => _tap is null || plan.TruncateAfterBytes is not null ? Task.CompletedTask : _tap.PassedAsync(StreamId, _sent).WaitAsync(aborted);

    /// <summary>On a connection that has vanished an answer never gets on.</summary>
    ValueTask UnlessVanishedAsync() => entry.Connection.Faults.IsVanished ? WaitAsync(Timeout.InfiniteTimeSpan) : ValueTask.CompletedTask;

    /// <summary>HTTP/1.1: of this piece only so many bytes leave, then FIN.</summary>
    async Task CutAsync(ReadOnlyMemory<byte> piece, int bytes)
    {
        await http.Response.StartAsync(aborted).ConfigureAwait(false);
        await http.Response.Body.FlushAsync(aborted).ConfigureAwait(false);
        var chunkHead = http.Response.ContentLength is null ? piece.Length.ToString("x").Length + 2 : 0;
        entry.Connection.Faults.CutAfter(chunkHead + bytes);
        board.RequestEnded(entry, http.Response.StatusCode, completed: false, abortedByClient: false);
        await http.Response.Body.WriteAsync(piece, aborted).ConfigureAwait(false);
        await http.Response.Body.FlushAsync(aborted).ConfigureAwait(false);
        entry.Connection.Faults.Fail(MockFault.Fin);
        throw new OperationCanceledException();
    }
}
