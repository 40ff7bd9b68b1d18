using System.Buffers;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>
/// Thrown out of the handler on purpose: Kestrel then ends the stream without its end, after everything written has left.
/// </summary>
internal sealed class BrokenOffException() : Exception("scripted: broken off");

/// <summary>One request and its answer: the parsed body, the pacing, and the exact moment at which it ends.</summary>
internal sealed class Exchange(
    HttpContext http, RequestEntry entry, ReplyPlan plan, CounterBoard board, DelayScheduler scheduler, DateTimeOffset now, CancellationToken aborted) : IDisposable
{
    /// <summary>Often enough to be steady.</summary>
    const int ReadsPerSecond = 50;

    static readonly string[] Words = ["Warm", " connections", " answer", " at", " once", ";", " cold", " ones", " shake", " hands", " first", "."];
    JsonDocument? _body;
    string? _model;
    ReplyPlan? _refusal;

    public HttpContext Http => http;
    public RequestEntry Entry => entry;
    public ReplyPlan Plan => _refusal ?? plan;
    public DateTimeOffset Now => now;
    public long UnixTime => now.ToUnixTimeSeconds();
    /// <summary>The client, the connection or the server has gone.</summary>
    public CancellationToken Aborted => aborted;

    /// <summary>The model asked for, escaped for JSON.</summary>
    public string Model => _model ??= JsonEncodedText.Encode(Text("model") ?? "mock-model").ToString();

    public bool Streams => Property("stream") is { ValueKind: JsonValueKind.True };

    /// <summary>About four bytes to a token, as real tokenizers have it for English.</summary>
    public long PromptTokens => Math.Max(1, entry.BodyLength / 4);

    public JsonElement? Body => _body?.RootElement;

    /// <summary>Tokens of the completion, and whether the request's own limit cut it short.</summary>
    public (int Count, bool Cut) Tokens(string limitName, string? otherLimitName = null)
    {
        var limit = Number(limitName) ?? (otherLimitName is null ? null : Number(otherLimitName));
        return !plan.TokensFixed && limit < plan.Tokens ? ((int)limit, true) : (plan.Tokens, false);
    }

    public string? Text(string name) => Property(name) is { ValueKind: JsonValueKind.String } value ? value.GetString() : null;

    public long? Number(string name) => Property(name) is { ValueKind: JsonValueKind.Number } value && value.TryGetInt64(out var number) ? number : null;
    
    public JsonElement? Property(string name) =>
        Body is { ValueKind: JsonValueKind.Object } body && body.TryGetProperty(name, out var value) ? value : null;

    public static string Token(int index) => index % Words.Length == 0 && index > 0 ? " Warm" : Words[index % Words.Length];

    public static string Completion(int tokens)
    {
        var text = new StringBuilder();
        for (var i = 0; i < tokens; i++)
        {
            text.Append(Token(i));
        }

        return text.ToString();
    }

    /// <summary>An id that looks like the provider's and is the same in every run: made from the request's number.</summary>
    public string Id(string prefix, int length)
    {
        const string Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        var state = (ulong)entry.Sequence * 0x9E3779B97F4A7C15 + (ulong)prefix.Length;
        return string.Create(prefix.Length + length, (prefix, state), static (text, from) =>
        {
            from.prefix.CopyTo(text);
            var x = from.state;
            for (var i = from.prefix.Length; i < text.Length; i++)
            {
                // splitmix64
                x += 0x9E3779B97F4A7C15;
                var z = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
                z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
                text[i] = Alphabet[(int)((z ^ (z >> 31)) % (ulong)Alphabet.Length)];
            }
        });
    }

    /// <summary>Reads the whole body. False when it is not a JSON object.</summary>
    public async Task<bool> ReadBodyAsync()
    {
        var bytes = ArrayPool<byte>.Shared.Rent((int)Math.Clamp(http.Request.ContentLength ?? 4096, 1, 1 << 20));
        try
        {
            var (length, started) = (0, scheduler.Now);
            while (true)
            {
                var read = await http.Request.Body.ReadAsync(bytes.AsMemory(length, await RoomAsync(started, length, bytes.Length - length).ConfigureAwait(false)), Aborted).ConfigureAwait(false);
                length += read;
                entry.BodyLength = length;
                if (read == 0)
                {
                    break;
                }

                if (length == bytes.Length)
                {
                    var larger = ArrayPool<byte>.Shared.Rent(length * 2);
                    bytes.CopyTo(larger, 0);
                    ArrayPool<byte>.Shared.Return(bytes);
                    bytes = larger;
                }
            }

            // A copy of its own: the document refers to its bytes as long as it lives.
            _body = JsonDocument.Parse(bytes.AsSpan(0, length).ToArray());
            return _body.RootElement.ValueKind == JsonValueKind.Object;
        }
        catch (JsonException)
        {
            return false;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <summary>Waits until more of the body may be read, and says how much.</summary>
    async ValueTask<int> RoomAsync(long started, int read, int room)
    {
        if (plan.ReadBytesPerSecond is not { } rate)
        {
            return room;
        }

        if (rate == 0)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, scheduler.Time, Aborted).ConfigureAwait(false);
        }

        // From the start, so that lateness does not add up.
        await scheduler.UntilAsync(scheduler.Add(started, TimeSpan.FromSeconds((double)read / rate)), Aborted).ConfigureAwait(false);
        return Math.Clamp(rate / ReadsPerSecond, 1, room);
    }

    /// <summary>It is above the rate limit: 429 in place of what was planned.</summary>
    public void Refuse(TimeSpan wait, bool isTokens) => _refusal = new ReplyPlan
    {
        Status = StatusCodes.Status429TooManyRequests,
        RetryAfter = TimeSpan.FromMilliseconds(Math.Ceiling(wait.TotalMilliseconds)),   // as it is sent, and never too early
        IsRefused = true,
        ErrorType = isTokens ? "tokens" : null,
    };

    public ValueTask ServeAsync() =>
        plan.Delay == Timeout.InfiniteTimeSpan
            ? new ValueTask(Task.Delay(Timeout.InfiniteTimeSpan, scheduler.Time, Aborted))
            : scheduler.DelayAsync(plan.Delay, Aborted);

    public Task JsonAsync(string json) => Answer().JsonAsync(json);

    public Task EventsAsync(EventStream events) => Answer().EventsAsync(events);

    AnswerBody Answer() => new(http, entry, Plan, board, scheduler, aborted);

    /// <summary>The script's fault in place of the answer. False: there is an answer all the same.</summary>
    public async Task<bool> FailAsync()
    {
        var faults = entry.Connection.Faults;
        switch (plan.FaultAfterTokens is null ? plan.Fault : MockFault.None)
        {
            case MockFault.None:
                return false;
            case MockFault.GoAway:
                faults.Fail(MockFault.GoAway);
                return false;
            case MockFault.Silence:
                await Task.Delay(Timeout.InfiniteTimeSpan, scheduler.Time, aborted).ConfigureAwait(false);
                break;
            case MockFault.Garbage:
                End();
                await faults.AnswerGarbageAsync().ConfigureAwait(false);
                break;
            case MockFault.Vanish:
                faults.Fail(MockFault.Vanish);
                End();
                await Task.Delay(Timeout.InfiniteTimeSpan, scheduler.Time, aborted).ConfigureAwait(false);
                break;
            case MockFault.Fin or MockFault.Reset:
                End();
                faults.Fail(plan.Fault);
                break;
            default:
                End();
                if (!AnswerBody.ResetStream(http, plan.Fault))
                {
                    http.Abort();
                }

                break;
        }

        return true;
    }

    void End()
    {
        if (plan.LeavesUnprocessed)
        {
            board.Unprocessed(entry);
        }

        board.RequestEnded(entry, 0, completed: false, abortedByClient: false);
    }

    public void Dispose() => _body?.Dispose();
}
