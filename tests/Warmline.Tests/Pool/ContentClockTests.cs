using System.Net;
using System.Text;
using System.Threading.Channels;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A stream of events that brings bytes and gets nowhere ends in the content clock; one that gets on, or is no such stream, does not.</summary>
public sealed class ContentClockTests
{
    const string Start = "event: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n";
    const string Ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    const string Delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n";
    const string Framing = "event: response.in_progress\ndata: {}\n\n";

    static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);
    static readonly TimeSpan Step = TimeSpan.FromSeconds(5);

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, Ping)]
    [InlineData(false, Ping)]
    [InlineData(true, ": keep-alive\n\n")]
    [InlineData(false, ": keep-alive\n\n")]
    [InlineData(true, "x")]   // a line that never ends
    [InlineData(false, "data: y\n")]   // an event that never ends
    public async Task Pings_comments_and_dribble_end_in_the_content_clock(bool http2, string piece)
    {
        await using var play = await Playing.StartAsync(http2, options => options.Timeouts.Content = Limit);
        await play.SayAsync(Start);
        var waited = TimeSpan.Zero;
        for (; !play.Reading.IsCompleted && waited < TimeSpan.FromHours(1); waited += Step)
        {
            await play.SayAsync(piece);
            play.Time.Advance(Step);
        }

        Assert.True(waited < TimeSpan.FromHours(1), "No clock ended it.");
        var error = await Assert.ThrowsAsync<RequestStalledException>(() => play.Reading);

        Assert.Equal((StallPhase.Content, Limit, RequestVerdict.Unknown, "content_block_delta", 2L), (error.Phase, error.Limit, error.Verdict, error.LastEvent, error.EventsSeen));
        Assert.True(waited >= Limit && error.Silence >= Limit, $"{waited}, {error.Silence}");
        Assert.Equal($"Only pings, and no event, came from {play.Origin} for 60 s (Timeouts.Content), after 2 events, the last of them content_block_delta. Raise Timeouts.Content if the call may take that long.", error.Message);
        await play.Server.AbortedAsync(1);
        await play.Server.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, Delta)]
    [InlineData(false, Delta)]
    [InlineData(true, Framing)]
    [InlineData(false, "data: {\"unknown\":1}\n\n")]
    public async Task A_stream_that_gets_on_between_its_pings_is_not_cut(bool http2, string progress)
    {
        await using var play = await Playing.StartAsync(http2, options => options.Timeouts.Content = Limit);
        for (var round = 0; round < 100; round++)
        {
            await play.SayAsync(round % 9 == 0 ? progress : Ping);   // 45 s without an event, at 60 s allowed
            play.Time.Advance(Step);
        }

        await play.EndAsync();
        Assert.Equal(0, play.Server.Aborted);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_callers_own_pauses_do_not_count(bool http2)
    {
        await using var play = await Playing.StartAsync(http2, options => options.Timeouts.Content = Limit, reads: false);
        for (var round = 0; round < 20; round++)
        {
            await play.SayAsync(Ping);
            await play.ReadAsync();
            play.Time.Advance(TimeSpan.FromHours(1));   // the caller is elsewhere
        }

        Assert.Equal(0, play.Server.Aborted);
        Assert.Equal(1, play.Server.Stats.Active);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("application/json", "{\"a\":", " ")]
    [InlineData("application/json", "\n\n \t\r\n[", "\n")]
    [InlineData("application/json", "\uFEFF{\"a\":1}", "\n")]
    [InlineData("text/plain", "x", " ")]
    [InlineData("text/plain", "da", "ta")]
    [InlineData("text/plain", " data: a\n", "\n")]   // a field's name begins its line
    [InlineData("text/plain", "id: 1\nname: x\n", "id: 2\n")]   // a text whose further lines are no fields of an event
    [InlineData("application/x-ndjson", "{\"a\":\"data: \"}\n", "\n")]
    [InlineData("text/event-streams", "event-streams\n", ": x\n")]
    [InlineData("text/event-stream", "{\"error\":", " ")]   // what it is called does not make JSON a stream of events
    [InlineData("text/event-stream", ": x\n", "\n", "gzip")]   // which the pool does not undo unasked: it cannot see the events
    [InlineData("application/json", "\n", "\n", "br")]
    [InlineData("text/event-stream", "\0\n", ": x\n", "made-up")]   // an encoding that nobody knows, over bytes that are no events
    [InlineData(null, "x", "\n")]
    public async Task Other_bodies_have_no_content_clock_once_they_have_begun(string? type, string start, string piece, string? encoding = null)
    {
        await using var play = await Playing.StartAsync(http2: true, options => options.Timeouts.Content = Limit, type: type, encoding: encoding);
        await play.SayAsync(start);
        for (var round = 0; round < 100; round++)
        {
            await play.SayAsync(piece);
            play.Time.Advance(Step);
        }

        await play.EndAsync();
        Assert.Equal(0, play.Server.Aborted);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "application/json", "\n")]
    [InlineData(false, "application/json", "\n")]
    [InlineData(true, "application/json", " ")]
    [InlineData(false, "text/plain", "\r\n")]
    [InlineData(true, "audio/mpeg", "\t")]
    [InlineData(false, null, "\n")]
    [InlineData(true, "application/json", "\n", "\uFEFF")]
    [InlineData(true, "application/json", "\n", "", "none")]
    [InlineData(false, "application/json", "\n", "", "identity")]
    [InlineData(false, "application/json", "\n", "", "gzip")]   // undone by the pool: there is whitespace inside
    [InlineData(true, "application/json", "\n", "", "gzip")]
    [InlineData(false, "application/json", "\n", "", null, 5_000L)]
    [InlineData(true, "application/json", "\n", "", null, 5_000L)]
    public async Task Whitespace_alone_ends_in_the_content_clock_whatever_the_type(bool http2, string? type, string piece, string start = "", string? encoding = null, long? length = null)
    {
        await using var play = await Playing.StartAsync(http2, options => (options.Timeouts.Content, options.AutomaticDecompression) = (Limit, DecompressionMethods.GZip),
            type: type, encoding: encoding, length: length);
        await play.SayAsync(start + piece);
        await EndsByContentAsync(play, piece, $"Nothing but whitespace came from {play.Origin} for 60 s (Timeouts.Content). Raise Timeouts.Content if the call may take that long.");
        await play.Server.AbortedAsync(1);
        await play.Server.QuietAsync();
        Assert.Equal(1, play.Server.Stats.Faults.StalledIn[StallPhase.Content]);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Whitespace_alone_ends_a_buffered_call_too(bool http2)
    {
        await using var play = await Playing.StartAsync(http2, options => options.Timeouts.Content = Limit, type: "application/json", buffers: true);
        await Eventually.TrueAsync(() =>
        {
            play.Write("\n");
            play.Time.Advance(Step);
            return play.Reading.IsCompleted;
        }, () => "No clock ended it.");

        Assert.Equal(StallPhase.Content, (await Assert.ThrowsAsync<RequestStalledException>(() => play.Reading)).Phase);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "application/json")]
    [InlineData(false, "application/x-ndjson")]
    [InlineData(true, "text/plain")]
    [InlineData(false, null)]
    [InlineData(true, "text/event-stream", "none")]
    [InlineData(false, "text/event-stream", "identity")]
    [InlineData(true, "text/event-stream", "utf-8")]
    public async Task Events_have_their_content_clock_under_any_type(bool http2, string? type, string? encoding = null)
    {
        await using var play = await Playing.StartAsync(http2, options => options.Timeouts.Content = Limit, type: type, encoding: encoding);
        foreach (var piece in new[] { "\n", "\r\n", "da", "ta: {\"a\":1}", "\n\n" })
        {
            await play.SayAsync(piece);
        }

        await EndsByContentAsync(play, ": ping\n\n", $"Only pings, and no event, came from {play.Origin} for 60 s (Timeouts.Content), after 1 event, message. Raise Timeouts.Content if the call may take that long.");
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("application/json")]
    [InlineData("text/event-stream")]
    public async Task The_callers_own_pauses_between_blank_lines_do_not_count(string type)
    {
        await using var play = await Playing.StartAsync(http2: true, options => options.Timeouts.Content = Limit, reads: false, type: type);
        for (var round = 0; round < 20; round++)
        {
            await play.SayAsync("\n");
            await play.ReadAsync();
            play.Time.Advance(TimeSpan.FromHours(1));   // the caller is elsewhere
        }

        Assert.Equal((0, 1), (play.Server.Aborted, play.Server.Stats.Active));
    }

    static async Task EndsByContentAsync(Playing play, string piece, string message)
    {
        var waited = TimeSpan.Zero;
        for (; !play.Reading.IsCompleted && waited < TimeSpan.FromHours(1); waited += Step)
        {
            await play.SayAsync(piece);
            play.Time.Advance(Step);
        }

        Assert.True(waited < TimeSpan.FromHours(1), "No clock ended it.");
        var error = await Assert.ThrowsAsync<RequestStalledException>(() => play.Reading);
        Assert.Equal((StallPhase.Content, message), (error.Phase, error.Message));
        Assert.True(waited >= Limit && error.Silence >= Limit, $"{waited}, {error.Silence}");
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_call_can_bring_its_own_content_clock(bool isInfinite)
    {
        var own = new PoolRequestOptions { Timeouts = new() { Content = isInfinite ? Timeout.InfiniteTimeSpan : Limit } };
        await using var play = await Playing.StartAsync(http2: true, options => options.Timeouts.Content = isInfinite ? Limit : Timeout.InfiniteTimeSpan, own: own);
        for (var round = 0; round < 100 && !play.Reading.IsCompleted; round++)
        {
            await play.SayAsync(Ping);
            play.Time.Advance(Step);
        }

        if (isInfinite)
        {
            await play.EndAsync();
        }
        else
        {
            Assert.True(play.Reading.IsCompleted, "No clock ended it.");
            Assert.Equal(StallPhase.Content, (await Assert.ThrowsAsync<RequestStalledException>(() => play.Reading)).Phase);
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Silence_names_the_last_event_and_how_long_it_was(bool http2)
    {
        await using var play = await Playing.StartAsync(http2, options => options.Timeouts.Read = Limit);
        await play.SayAsync(Start + Ping + "event: my.own\ndata: secret\n\n");
        while (!play.Reading.IsCompleted)
        {
            play.Time.Advance(Step);
            await Task.Yield();
        }

        var error = await Assert.ThrowsAsync<RequestStalledException>(() => play.Reading);

        Assert.Equal((StallPhase.Read, "my.own", 3L), (error.Phase, error.LastEvent, error.EventsSeen));
        Assert.InRange(error.Silence, Limit, Limit + Step);
        Assert.EndsWith("for 60 s (Timeouts.Read), after 3 events, the last of them my.own. Raise Timeouts.Read if the call may take that long.", error.Message, StringComparison.Ordinal);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Mere_silence_is_the_read_clocks_alone(bool http2)
    {
        await using var play = await Playing.StartAsync(http2, options => (options.Timeouts.Read, options.Timeouts.Content) = (Timeout.InfiniteTimeSpan, Limit));
        await play.SayAsync(Start);
        await Eventually.TrueAsync(() => play.IsWaiting, () => "The reader does not wait.");
        play.Time.Advance(TimeSpan.FromHours(1));

        await play.EndAsync();
        Assert.Equal(0, play.Server.Aborted);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_default_is_ten_minutes()
    {
        await using var play = await Playing.StartAsync(http2: true, static _ => { });
        var waited = TimeSpan.Zero;
        for (; !play.Reading.IsCompleted; waited += TimeSpan.FromSeconds(30))
        {
            await play.SayAsync(Ping);
            play.Time.Advance(TimeSpan.FromSeconds(30));
        }

        Assert.Equal((StallPhase.Content, null), ((await Assert.ThrowsAsync<RequestStalledException>(() => play.Reading)) is var error ? error.Phase : default, error.LastEvent));
        Assert.True(waited >= TimeSpan.FromMinutes(10), $"{waited}");
    }

    /// <summary>A stream that the test speaks, on a clock that it turns, and a reader of it.</summary>
    sealed class Playing : IAsyncDisposable
    {
        readonly Channel<string> _script = Channel.CreateUnbounded<string>();
        readonly byte[] _buffer = new byte[4096];
        Stream _body = null!;
        long _said;
        long _read;

        public ManualTime Time { get; } = new();

        public SseServer Server { get; private set; } = null!;

        public Task Reading { get; private set; } = Task.CompletedTask;

        public bool IsWaiting => Server.Pool.GetStreams() is [{ Phase: StreamPhase.Reading }];

        public string Origin => Server.Address.GetLeftPart(UriPartial.Authority);

        public static async Task<Playing> StartAsync(bool http2, Action<ConnectionPoolOptions> configure, bool reads = true, string? type = "text/event-stream; charset=utf-8", PoolRequestOptions? own = null, string? encoding = null,
            long? length = null, bool buffers = false)
        {
            var play = new Playing();
            play.Server = await SseServer.StartAsync(http2, async answer =>
            {
                answer.Response.ContentType = type;
                answer.Response.Headers.ContentEncoding = encoding;
                answer.Response.ContentLength = length;
                await answer.Response.Body.FlushAsync();
                await answer.FollowAsync(play._script.Reader, packs: encoding == "gzip" && play.Server.Options.AutomaticDecompression is not DecompressionMethods.None);
            }, configure, play.Time);
            await play.Server.WarmUpAsync();
            if (buffers)
            {
                play._body = Stream.Null;
                play.Reading = play.Server.Client.SendAsync(Calls.Chat(stream: true), Rig.Ct);
                await Eventually.TrueAsync(() => play.IsWaiting, () => Rig.Describe(play.Server.Stats));
                return play;
            }

            var response = await play.Server.SendAsync(own);
            Assert.Equal(type, response.Content.Headers.ContentType?.ToString());
            play._body = await response.Content.ReadAsStreamAsync(Rig.Ct);
            play.Reading = reads ? play.ReadAllAsync() : Task.CompletedTask;
            return play;
        }

        /// <summary>Says so much, and waits until it was read, or nobody reads any more.</summary>
        public async Task SayAsync(string text)
        {
            _said += Encoding.UTF8.GetByteCount(text);
            await _script.Writer.WriteAsync(text, Rig.Ct);
            await Eventually.TrueAsync(() => Reading.IsCompleted || Interlocked.Read(ref _read) == _said, () => $"{_read} of {_said} bytes read; {Rig.Describe(Server.Stats)}");
        }

        public void Write(string text) => Assert.True(_script.Writer.TryWrite(text));

        /// <summary>What was said, in as many reads as it takes.</summary>
        public async Task ReadAsync()
        {
            while (_read < _said)
            {
                _read += await _body.ReadAsync(_buffer, Rig.Ct);
            }
        }

        public async Task EndAsync()
        {
            _script.Writer.Complete();
            await Reading;
        }

        public async ValueTask DisposeAsync()
        {
            await _body.DisposeAsync();
            await Server.DisposeAsync();
        }

        async Task ReadAllAsync()
        {
            for (int read; (read = await _body.ReadAsync(_buffer, Rig.Ct)) > 0;)
            {
                Interlocked.Add(ref _read, read);
            }
        }
    }
}
