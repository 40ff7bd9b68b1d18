using System.Net;
using System.Net.ServerSentEvents;
using System.Text;
using System.Threading.Channels;
using Warmline.Options;
using Warmline.Providers;
using Warmline.Tests.Providers;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The events of a stream, read by the pool's own method; their times; and that watching them costs no memory.</summary>
public sealed class StreamTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, SseFixtures.OpenAiChat, 4, "[DONE]")]
    [InlineData(false, SseFixtures.OpenAiChat, 4, "[DONE]")]
    [InlineData(true, SseFixtures.Anthropic, 8, """{"type": "message_stop"}""")]
    [InlineData(false, SseFixtures.Anthropic, 8, """{"type": "message_stop"}""")]
    [InlineData(true, SseFixtures.OpenAiFailed, 3, """{"type":"response.failed","sequence_number":2,"response":{"id":"resp_67","status":"failed"}}""")]
    public async Task All_events_are_given_up_to_the_terminal_one_and_the_connection_is_kept(bool http2, string stream, int count, string last)
    {
        var time = new ManualTime();   // it stands still, so no clock ends anything
        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(stream);
            await play.UntilAsync(end.Task);
        }, time: time);
        await server.WarmUpAsync();
        using var response = await server.SendAsync();

        var items = new List<SseItem<string>>();
        await foreach (var item in response.ReadServerSentEventsAsync(Rig.Ct))
        {
            items.Add(item);
        }

        Assert.Equal((count, last), (items.Count, items[^1].Data));   // and that although the body has not ended
        Assert.Equal(1, server.Stats.Active);
        end.SetResult();
        await server.QuietAsync();
        using var next = await server.SendAsync();
        Assert.Equal(stream, await next.Content.ReadAsStringAsync(Rig.Ct));
        Assert.Equal((1, 0), (server.Connections, server.Aborted));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Breaking_off_stops_the_provider(bool http2)
    {
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.Anthropic.Replace("event: message_stop\ndata: {\"type\": \"message_stop\"}\n\n", "", StringComparison.Ordinal));
            await play.ForeverAsync();
        });
        using var response = await server.SendAsync();

        await foreach (var item in response.ReadServerSentEventsAsync(Rig.Ct))
        {
            if (item.EventType == "content_block_delta")
            {
                break;
            }
        }

        await server.AbortedAsync(1);
        await server.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    [InlineData(false, false)]
    public async Task Cancelling_aborts_the_exchange(bool http2, bool byEnumerator)
    {
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync("data: {}\n\n");
            await play.ForeverAsync();
        });
        using var response = await server.SendAsync();
        using var caller = new CancellationTokenSource();
        await using var events = (byEnumerator ? response.ReadServerSentEventsAsync() : response.ReadServerSentEventsAsync(caller.Token)).GetAsyncEnumerator(byEnumerator ? caller.Token : default);
        Assert.True(await events.MoveNextAsync());
        var next = events.MoveNextAsync().AsTask();
        await caller.CancelAsync();

        var error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => next);

        Assert.Equal(caller.Token, error.CancellationToken);
        await server.AbortedAsync(1);
        await server.QuietAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_stream_that_ends_without_a_terminal_event_gives_what_it_had()
    {
        await using var server = await SseServer.StartAsync(http2: false, play => play.SayAsync("event: a\ndata: 1\n\ndata: 2\ndata: 3\n\ndata: cut off"));
        using var response = await server.SendAsync();

        var items = await response.ReadServerSentEventsAsync((name, data) => $"{name}:{Encoding.UTF8.GetString(data)}", Rig.Ct).ToListAsync(Rig.Ct);

        Assert.Equal(["a:1", "message:2\n3"], items.Select(item => item.Data));
        await server.QuietAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_the_callers_parser_throws_is_his_and_stops_the_provider()
    {
        await using var server = await SseServer.StartAsync(http2: true, async play =>
        {
            await play.SayAsync("data: {}\n\n");
            await play.ForeverAsync();
        });
        using var response = await server.SendAsync();

        await Assert.ThrowsAsync<FormatException>(async () => await response.ReadServerSentEventsAsync<int>((_, _) => throw new FormatException("mine"), Rig.Ct).ToListAsync(Rig.Ct));

        await server.AbortedAsync(1);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Another_content_type_is_named_at_once()
    {
        await using var rig = await Rig.StartAsync();
        using var refused = await rig.SendAsync(Calls.Chat(true, ("x-mock-status", "429")));
        var error = Assert.Throws<InvalidOperationException>(() => refused.ReadServerSentEventsAsync(Rig.Ct));
        Assert.StartsWith("The response has the content type 'application/json' and the status 429, and is no stream of server-sent events (text/event-stream).", error.Message, StringComparison.Ordinal);
        Assert.Contains("rate_limit", await refused.Content.ReadAsStringAsync(Rig.Ct), StringComparison.Ordinal);   // it is still to be read

        using var empty = new HttpResponseMessage(HttpStatusCode.NoContent);
        Assert.Contains("content type 'none' and the status 204", Assert.Throws<InvalidOperationException>(() => empty.ReadServerSentEventsAsync(Rig.Ct)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("text/event-stream", true)]
    [InlineData("Text/Event-Stream; charset=utf-8", true)]
    [InlineData("text/event-streams", false)]
    [InlineData("application/json", false)]
    public async Task A_response_need_not_come_from_a_pool(string type, bool isStream)
    {
        using var response = new HttpResponseMessage { Content = new StringContent(SseFixtures.OpenAiResponses) };
        response.Content.Headers.Remove("Content-Type");
        response.Content.Headers.TryAddWithoutValidation("Content-Type", type);
        if (!isStream)
        {
            Assert.Throws<InvalidOperationException>(() => response.ReadServerSentEventsAsync(Rig.Ct));
            return;
        }

        var items = await response.ReadServerSentEventsAsync(Rig.Ct).ToListAsync(Rig.Ct);
        Assert.Equal((8, "response.completed"), (items.Count, items[^1].EventType));
        Assert.False(response.TryGetPoolTimings(out _));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_times_of_the_tokens_are_told(bool http2)
    {
        var (time, script) = (new ManualTime(), Channel.CreateUnbounded<string>());
        await using var server = await SseServer.StartAsync(http2, play => play.FollowAsync(script.Reader), time: time);
        await server.WarmUpAsync();
        await script.Writer.WriteAsync(Event("message_start"), Rig.Ct);
        using var response = await server.SendAsync();
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        await SseServer.ReadUntilAsync(body, Event("message_start"));
        Assert.True(response.TryGetPoolTimings(out var timings));
        Assert.Equal((null, 0, null, null), (timings.FirstToken, timings.Tokens, timings.LongestTokenGap, timings.MeanTokenGap));

        await SayAsync(1, Event("ping"));
        await SayAsync(1, Event("content_block_start"));
        await SayAsync(1, Event("content_block_delta"));
        Assert.True(response.TryGetPoolTimings(out timings));
        Assert.Equal((TimeSpan.FromSeconds(3), 1, null, null), (timings.FirstToken, timings.Tokens, timings.LongestTokenGap, timings.MeanTokenGap));

        await SayAsync(2, Event("ping"));
        await SayAsync(5, Event("content_block_delta") + Event("content_block_delta"));
        await SayAsync(1, Event("content_block_delta"));
        await SayAsync(9, Event("message_stop"));
        Assert.True(response.TryGetPoolTimings(out timings));
        Assert.Equal((TimeSpan.FromSeconds(3), 4, TimeSpan.FromSeconds(7), TimeSpan.FromSeconds(8) / 3), (timings.FirstToken, timings.Tokens, timings.LongestTokenGap, timings.MeanTokenGap));

        async Task SayAsync(int seconds, string text)
        {
            time.Advance(TimeSpan.FromSeconds(seconds));
            await script.Writer.WriteAsync(text, Rig.Ct);
            await SseServer.ReadUntilAsync(body, text);
        }

        static string Event(string name) => $"event: {name}\ndata: {{\"type\":\"{name}\"}}\n\n";
    }

    [Fact]
    public async Task Reading_ten_thousand_events_allocates_nothing()
    {
        var bytes = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat(SseFixtures.Anthropic.Replace("message_stop", "content_block_delta", StringComparison.Ordinal), 3_000)));
        var exchange = new Exchange();
        await using var body = new ResponseBody(new MemoryStream(bytes), exchange, null);
        body.Watch(isDecoded: false);
        var buffer = new byte[777];
        Assert.Equal(777, await body.ReadAsync(buffer, Rig.Ct));

        var allocated = ReadAll();

        // The runtime may allocate a little on any thread while it compiles; one object for each event would be fifty times as much.
        Assert.Equal((true, true, true), (allocated < exchange.Events!.Events, exchange.Events.Events > 20_000, exchange.Ended));

        long ReadAll()
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            while (true)
            {
                var read = body.ReadAsync(buffer.AsMemory(), CancellationToken.None);   // complete, as the stream is in memory
                if (!read.IsCompletedSuccessfully || read.Result == 0)
                {
                    break;
                }
            }

            return GC.GetAllocatedBytesForCurrentThread() - before;
        }
    }

    sealed class Exchange : IExchange
    {
        public bool IsCovered(long written, int bytes) => true;

        public RequestClocks Clocks { get; } = new(new CoarseClock(new ManualTime(), TimeSpan.FromSeconds(1)), CallTimeouts.Default);

        public TimeSpan Now => TimeSpan.FromSeconds(1);

        public SseWatcher? Events { get; set; }

        public bool EndsWithItsAnswer => true;

        public bool Ended { get; private set; }

        public void UploadBegan() => throw new NotSupportedException();

        public void UploadEnded(bool whole, bool cancelled) => throw new NotSupportedException();

        public void ResponseAbandoned(bool isCounted) => throw new NotSupportedException();

        public void ResponseLeaked() => throw new NotSupportedException();

        public void StreamErrorSeen() => throw new NotSupportedException();

        public void ResponseEnded(bool whole) => Ended = whole;

        public Exception? Translate(Exception error, CancellationToken caller) => null;
    }
}
