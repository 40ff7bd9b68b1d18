using System.Net.ServerSentEvents;
using System.Text;
using Warmline.Providers;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>What the watcher tells of a stream of events, however it is cut.</summary>
public sealed class SseWatcherTests
{
    const int Seed = 20_261;

    [Fact]
    public void A_chat_completion_of_openai_ends_with_done() =>
        Assert.Equal(new Findings(Events: 4, Pings: 0, Contents: 3, Errors: 0, IsOver: true, IsNearEnd: true, LastEvent: "[DONE]"), Watch(SseFixtures.OpenAiChat));

    [Fact]
    public void A_message_of_anthropic_ends_with_message_stop() =>
        Assert.Equal(new Findings(Events: 7, Pings: 1, Contents: 2, Errors: 0, IsOver: true, IsNearEnd: true, LastEvent: "message_stop"), Watch(SseFixtures.Anthropic));

    [Fact]
    public void A_response_of_openai_ends_with_response_completed() =>
        Assert.Equal(new Findings(Events: 7, Pings: 1, Contents: 2, Errors: 0, IsOver: true, IsNearEnd: true, LastEvent: "response.completed"), Watch(SseFixtures.OpenAiResponses));

    [Fact]
    public void A_response_that_fails_has_two_errors_and_ends_with_the_second()
    {
        Assert.Equal(new Findings(Events: 3, Pings: 0, Contents: 0, Errors: 2, IsOver: true, IsNearEnd: true, LastEvent: "response.failed"), Watch(SseFixtures.OpenAiFailed));

        var upToTheError = SseFixtures.OpenAiFailed[..SseFixtures.OpenAiFailed.IndexOf("event: response.failed", StringComparison.Ordinal)];
        Assert.Equal(new Findings(Events: 2, Pings: 0, Contents: 0, Errors: 1, IsOver: false, IsNearEnd: true, LastEvent: "error"), Watch(upToTheError));
    }

    [Fact]
    public void Nothing_before_its_last_event_makes_a_stream_look_ended()
    {
        foreach (var stream in SseFixtures.All.Except([SseFixtures.OpenAiFailed]))
        {
            var last = stream.LastIndexOf("\n\n", stream.Length - 3, StringComparison.Ordinal) + 2;
            var watcher = new SseWatcher();
            for (var at = 0; at < last; at++)
            {
                watcher.Feed(Encoding.UTF8.GetBytes(stream[at].ToString()));
                Assert.False(watcher.IsOver || watcher.IsNearEnd, $"after: {stream[..at]}");
            }
        }
    }

    [Theory]
    [InlineData("data: {\"type\":\"message_stop\"}\n\n", true)]   // a gateway that drops the event lines
    [InlineData("data:{ \"type\" : \"response.incomplete\",\"response\":{}}\n\n", true)]
    [InlineData("event: message\ndata: {\"type\":\"response.completed\"}\n\n", true)]   // "message" is what HTML calls an event without a name
    [InlineData("data: {\"type\":\"message_stop\"}\nevent: message_stop\n\n", true)]
    [InlineData("data:[DONE]\n\n", true)]
    [InlineData("event: done\ndata: [DONE]\n\n", true)]
    [InlineData("id: 7\nretry: 10\ndata: [DONE]\n\n", true)]
    [InlineData("data: [DONE]\ndata:\n\n", false)]
    [InlineData("data: x\ndata: [DONE]\n\n", false)]
    [InlineData("data: [DONE] \n\n", false)]
    [InlineData("data:  [DONE]\n\n", false)]
    [InlineData(": [DONE]\n\n", false)]
    [InlineData("[DONE]\n\n", false)]
    [InlineData("database: [DONE]\n\n", false)]
    [InlineData("event: message_stop\n\n", false)]   // no data, no event
    [InlineData("event: message_stopped\ndata: x\n\n", false)]
    [InlineData("event: content_block_delta\ndata: {\"type\":\"message_stop\"}\n\n", false)]   // the event line has the word
    [InlineData("data: {\"delta\":\"x\",\"type\":\"message_stop\"}\n\n", false)]   // a member further on may be anything
    [InlineData("data: \"message_stop\"\n\n", false)]
    [InlineData("data: [DONE]\n\ndata: {\"more\":1}\n\n", false)]   // something followed: it was not the end
    public void The_end_is_a_whole_event(string stream, bool isOver) => Assert.Equal(isOver, Watch(stream).IsOver);

    [Theory]
    [InlineData("data: [DONE]\n", true)]
    [InlineData("event: message_stop\ndata: {\"type\":\"message_stop\"}\n", true)]
    [InlineData("data: [DONE]", false)]
    [InlineData("event: message_stop\n", false)]
    [InlineData("data: [DONE]\n\n: bye\n\n", true)]
    [InlineData("data: [DONE]\n\ndata: {\"more\":1}\n", false)]
    [InlineData("event: error\ndata: {}\n\n", true)]
    [InlineData("data: {\"error\":{\"message\":\"overloaded\"}}\n\n", true)]
    [InlineData("data: {\"error\": null,\"choices\":[]}\n\n", false)]
    [InlineData("event: error\ndata: {}\n\ndata: {\"choices\":[]}\n\n", false)]   // it went on after all
    public void A_reader_by_lines_may_leave_before_the_blank_line(string stream, bool isNearEnd) => Assert.Equal(isNearEnd, Watch(stream).IsNearEnd);

    [Theory]
    [InlineData("event: ping\ndata: {}\n\n")]
    [InlineData("data: {\"type\": \"ping\"}\n\n")]
    [InlineData("event: keepalive\ndata: {}\n\n")]
    [InlineData(": OPENROUTER PROCESSING\n\n")]
    [InlineData("data:\n\n")]
    public void Pings_and_comments_are_no_events(string stream)
    {
        var watcher = new SseWatcher();
        Assert.Equal(SseKind.None, watcher.Feed(Encoding.UTF8.GetBytes(stream)));
        Assert.Equal(new Findings(0, Pings: 1, 0, 0, false, false, null), Of(watcher));
    }

    [Fact]
    public void The_name_of_an_unknown_event_is_kept_short_and_harmless_and_its_data_is_not()
    {
        Assert.Equal("custom.progress", Watch("event: custom.progress\ndata: secret\n\nevent: ping\ndata: {}\n\n").LastEvent);
        Assert.Equal("a?b?c?", Watch("event: a\tb<c\u0001\ndata: x\n\n").LastEvent);
        Assert.Equal(new string('n', 48), Watch($"event: {new string('n', 5_000)}\ndata: x\n\n").LastEvent);
        Assert.Equal("message", Watch("data: {\"type\":\"secret\"}\n\n").LastEvent);
        Assert.Equal("one", Watch("event: one\ndata: x\n\nevent: two\ndata: never ended\n").LastEvent);
    }

    [Fact]
    public void Every_cut_leads_to_the_same_findings()
    {
        foreach (var stream in Variants())
        {
            var bytes = Encoding.UTF8.GetBytes(stream);
            var whole = Watch(stream);
            for (var cut = 0; cut <= bytes.Length; cut++)
            {
                var watcher = new SseWatcher();
                var found = watcher.Feed(bytes.AsSpan(0, cut)) | watcher.Feed(bytes.AsSpan(cut));
                Assert.True(whole == Of(watcher), $"cut at {cut} of: {stream}\n{whole}\n{Of(watcher)}");
                Assert.Equal(new SseWatcher().Feed(bytes), found);
            }
        }
    }

    [Fact]
    public void Random_pieces_and_the_platforms_own_parser_lead_to_the_same_findings()
    {
        var random = new Random(Seed);
        for (var round = 0; round < 20_000; round++)
        {
            var stream = round % 50 == 0 ? Variants().ElementAt(random.Next(16)) : Invent(random);
            var bytes = Encoding.UTF8.GetBytes(stream);
            var watcher = new SseWatcher();
            for (var at = 0; at < bytes.Length;)
            {
                var piece = Math.Min(bytes.Length - at, random.Next(4) == 0 ? random.Next(200) : random.Next(5));
                watcher.Feed(bytes.AsSpan(at, piece));
                at += piece;
            }

            var expected = Parse(bytes);
            Assert.True(expected == Of(watcher) with { LastEvent = null, IsNearEnd = false, Pings = expected.Pings },
                $"seed {Seed}, round {round}: {stream.Replace("\r", "\\r", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal)}\nexpected {expected}\ngot {Of(watcher)}");
            Assert.True(Watch(stream) == Of(watcher), $"seed {Seed}, round {round}");
        }
    }

    [Fact]
    public void Ten_thousand_events_allocate_nothing()
    {
        var bytes = Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat(SseFixtures.Anthropic + SseFixtures.OpenAiResponses + SseFixtures.OpenAiChat, 600)));
        var watcher = new SseWatcher();
        watcher.Feed(bytes);
        var events = watcher.Events;

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var at = 0; at < bytes.Length; at += 333)
        {
            watcher.Feed(bytes.AsSpan(at, Math.Min(333, bytes.Length - at)));
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.True(watcher.Events - events > 10_000);
    }

    static Findings Watch(string stream)
    {
        var watcher = new SseWatcher();
        watcher.Feed(Encoding.UTF8.GetBytes(stream));
        return Of(watcher);
    }

    static Findings Of(SseWatcher watcher) => new(watcher.Events, watcher.Pings, watcher.Contents, watcher.Errors, watcher.IsOver, watcher.IsNearEnd, watcher.LastEvent);

    /// <summary>The same by System.Net.ServerSentEvents, as far as it can tell.</summary>
    static Findings Parse(byte[] bytes)
    {
        var kinds = SseParser.Create(new MemoryStream(bytes), static (name, data) => SseEvents.KindOf(name, data)).Enumerate().Select(item => item.Data).ToList();
        var real = kinds.Where(kind => kind is not SseKind.None).ToList();
        return new(real.Count, kinds.Count - real.Count, real.Count(kind => kind is SseKind.Content), real.Count(kind => kind.HasFlag(SseKind.Error)), real.Count > 0 && real[^1].HasFlag(SseKind.Terminal), false, null);
    }

    /// <summary>Each recorded stream with each line end, with and without a mark at its beginning, and with a very long line in it.</summary>
    static IEnumerable<string> Variants() =>
        from stream in SseFixtures.All
        from end in new[] { "\n", "\r\n", "\r" }
        from mark in new[] { "", "\uFEFF" }
        select mark + stream.ReplaceLineEndings("\n").Replace("…", new string('x', 300), StringComparison.Ordinal).Replace("\n", end, StringComparison.Ordinal);

    static string Invent(Random random)
    {
        string[] lines =
        [
            "", "", "", "", "data: [DONE]", "data:[DONE]", "data", "data:", "data: {\"type\":\"message_stop\"}", "data: {\"type\":\"response.failed\"}", "data: {\"error\":{}}", "data: {\"error\":null}", "data: x", "data: {\"id\":1}",
            "event: ping", "event: message_stop", "event:response.completed", "event: error", "event: custom", "event: message", "event: content_block_delta", ": comment", ":", "id: 1", "retry: 5", "database: x", "eventual",
            "data: " + new string('y', random.Next(300)), "event: " + new string('z', random.Next(1, 200)),
        ];
        string[] ends = random.Next(2) == 0 ? ["\n", "\r\n", "\r"] : ["\n"];
        var stream = new StringBuilder(random.Next(8) == 0 ? "\uFEFF" : "");
        var (named, hasData) = (false, false);
        for (var count = random.Next(1, 25); count > 0; count--)
        {
            var line = lines[random.Next(lines.Length)];
            if (line.Length == 0)
            {
                // The platform's parser carries a name without data over to the next event; HTML forgets it.
                stream.Append(named && !hasData ? "data: x\n" : "");
                (named, hasData) = (false, false);
            }

            named |= line.StartsWith("event:", StringComparison.Ordinal);
            hasData |= line is "data" || line.StartsWith("data:", StringComparison.Ordinal);
            stream.Append(line).Append(ends[random.Next(ends.Length)]);
        }

        return stream.ToString();
    }

    sealed record Findings(long Events, long Pings, long Contents, long Errors, bool IsOver, bool IsNearEnd, string? LastEvent);
}
