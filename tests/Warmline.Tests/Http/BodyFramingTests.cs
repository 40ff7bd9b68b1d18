using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>A length counts only if it framed the body, and a lease ends with its body: whatever the headers claim.</summary>
public sealed class BodyFramingTests
{
    const string Hello = "5\r\nhello\r\n";
    const string Events = "f\r\ndata: {\"a\":1}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n";

    static readonly string[] Framings =
    [
        "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 500\r\n",
        "Transfer-Encoding: Chunked\r\nContent-Length: 500\r\n",
        "Content-Length: 500\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
    ];

    /// <summary>Answers whose headers say that nothing comes, or that are no messages of that length, and whose body goes on.</summary>
    public enum Odd
    {
        ChunksBehindLengthZero,
        DataBehindLengthZero,
        HeadWithoutEndOfStream,
        NoContentWithoutEndOfStream,
        NotModifiedWithoutEndOfStream,
        UpgradeWithLengthZero,
    }

    public static TheoryData<string, string, bool> Answers
    {
        get
        {
            var answers = new TheoryData<string, string, bool>();
            foreach (var framing in Framings)
            {
                foreach (var how in new[] { "buffered", "streamed", "left" })
                {
                    answers.Add(framing, how, true);
                }
            }

            answers.Add(Framings[0], "buffered", false);
            answers.Add(Framings[6], "streamed", false);
            return answers;
        }
    }

    public static TheoryData<Odd> Odds => [.. Enum.GetValues<Odd>()];

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Answers))]
    public async Task Chunks_override_a_length(string framing, string how, bool isPool)
    {
        await using var side = new Side(isPool, http2: false);
        var connections = new ConcurrentBag<int>();
        var address = side.ServeRaw(async peer =>
        {
            while (await peer.ReadHeadAsync() is not "")
            {
                await peer.ReadAsync(2);
                connections.Add(peer.Number);
                await peer.SayAsync($"HTTP/1.1 200 OK\r\nContent-Type: text/{(how == "left" ? "event-stream" : "plain")}\r\n{framing}\r\n{(how == "left" ? Events : Hello)}0\r\n\r\n");
            }
        });
        for (var call = 0; call < 3; call++)
        {
            Assert.Equal(how == "left" ? "data: {\"a\":1}\n\ndata: [DONE]\n\n" : "hello", await CallAsync(side, address, how));
            await side.SettledAsync();
        }

        Assert.Equal([0, 0, 0], connections);
        Assert.True(side.Stats is null || Failures(side) == (0, 0, 0), $"{side.Stats?.Faults}");
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", true)]
    [InlineData("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", true)]
    [InlineData("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", false)]
    public async Task The_place_is_taken_as_long_as_the_body_runs(string framing, bool isPool)
    {
        await using var side = new Side(isPool, http2: false);
        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var address = side.ServeRaw(async peer =>
        {
            while (await peer.ReadHeadAsync() is not "")
            {
                await peer.SayAsync($"HTTP/1.1 200 OK\r\n{framing}\r\n");
                if (peer.Number == 0)
                {
                    await end.Task;
                }

                await peer.SayAsync(Hello + "0\r\n\r\n");
            }
        });
        using var first = await side.GetAsync(address);
        Assert.True(side.Stats is null or { Active: 1, Connections: 1 });

        Assert.Equal("200 \"hello\"", await Side.TellAsync(side.GetAsync(address)));   // on a second connection

        end.SetResult();
        Assert.Equal("hello", await first.Content.ReadAsStringAsync(Side.Ct));
        await side.SettledAsync();
        Assert.True(side.Stats is null or { NewConnections: 2 });
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Odds))]
    public async Task The_callers_token_ends_a_read_in_every_state(Odd odd)
    {
        await using var side = new Side(isPool: true, http2: IsHttp2(odd));
        using var response = await OddAsync(side, odd);
        using var cancel = new CancellationTokenSource();
        var reading = ReadOnAsync(response, cancel.Token);
        await Eventually.TrueAsync(() => reading.IsCompleted || side.Pool.GetStreams() is [{ Phase: StreamPhase.Reading }], () => Rig.Describe(side.Stats!));
        Assert.False(reading.IsCompleted);

        await cancel.CancelAsync();

        Assert.Equal(cancel.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading)).CancellationToken);
        await side.SettledAsync();
        Assert.Equal((0, 0, 0), Failures(side));
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Odds))]
    public async Task The_read_clock_ends_a_read_in_every_state(Odd odd)
    {
        if (odd is Odd.UpgradeWithLengthZero)
        {
            return;   // that connection is the caller's, who may be silent as long as it likes
        }

        var time = new ManualTime();
        await using var side = new Side(isPool: true, http2: IsHttp2(odd)) { Time = time, Configure = static options => options.Timeouts.Read = TimeSpan.FromMinutes(1) };
        using var response = await OddAsync(side, odd);
        var reading = ReadOnAsync(response, CancellationToken.None);
        await Eventually.TrueAsync(() =>
        {
            time.Advance(TimeSpan.FromSeconds(5));
            return reading.IsCompleted;
        }, () => "No clock ended it.");

        Assert.Equal(StallPhase.Read, (await Assert.ThrowsAsync<RequestStalledException>(() => reading)).Phase);
        await side.SettledAsync();
        Assert.Equal((0, 0, 1), Failures(side));
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Odds))]
    public async Task Leaving_an_answer_that_goes_on_ends_its_lease(Odd odd)
    {
        await using var side = new Side(isPool: true, http2: IsHttp2(odd));
        var response = await OddAsync(side, odd);
        Assert.Equal(1, side.Stats!.Active);

        response.Dispose();

        await side.SettledAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("streamed")]
    [InlineData("buffered")]
    public async Task A_body_of_http2_that_is_shorter_than_its_length_is_an_error_and_counted(string how)
    {
        await using var side = new Side(isPool: true, http2: true);
        var address = side.ServeFrames(async peer =>
        {
            var stream = await peer.ReadRequestAsync();
            await peer.WriteAsync(RawHttp2Server.Headers, 4, stream, [0x88, .. Header(28, "500")]);
            await peer.WriteAsync(RawHttp2Server.Data, 1, stream, Encoding.ASCII.GetBytes("hello"));
        });

        var error = await Assert.ThrowsAnyAsync<Exception>(() => CallAsync(side, address, how));

        var broken = Assert.IsType<HttpIOException>(error is HttpRequestException ? error.InnerException : error);
        Assert.Equal((HttpRequestError.ResponseEnded, "The response ended after 5 of 500 bytes. (ResponseEnded)"), (broken.HttpRequestError, broken.Message));
        await side.SettledAsync();
        Assert.Equal((0, 1, 0), Failures(side));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("Content-Length: 500\r\n\r\nhello")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")]
    [InlineData("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n")]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")]
    public async Task A_body_that_breaks_off_is_an_error_and_counted(string answer)
    {
        await using var side = new Side(isPool: true, http2: false);
        var address = side.ServeRaw(async peer =>
        {
            await peer.ReadHeadAsync();
            await peer.ReadAsync(2);
            await peer.SayAsync($"HTTP/1.1 200 OK\r\n{answer}");
        });

        await Assert.ThrowsAsync<HttpIOException>(() => CallAsync(side, address, "streamed"));

        await side.SettledAsync();
        Assert.Equal((0, 1, 0), Failures(side));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "")]
    [InlineData("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n0\r\n\r\n", "")]
    [InlineData("Transfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n5\r\nhello\r\n0\r\nx-a: 1\r\n\r\n", "hello")]
    [InlineData("Content-Length: 5\r\nContent-Range: bytes 0-4/500\r\n\r\nhello", "hello")]
    public async Task A_body_that_is_empty_or_has_trailers_or_is_a_part_keeps_its_connection(string answer, string expected)
    {
        await using var side = new Side(isPool: true, http2: false);
        var address = side.ServeRaw(async peer =>
        {
            while (await peer.ReadHeadAsync() is not "")
            {
                await peer.ReadAsync(2);
                await peer.SayAsync($"HTTP/1.1 {(answer.Contains("Range", StringComparison.Ordinal) ? 206 : 200)} OK\r\n{answer}");
            }
        });
        for (var call = 0; call < 3; call++)
        {
            Assert.Equal(expected, await CallAsync(side, address, "streamed"));
            await side.SettledAsync();
        }

        Assert.Equal(1, side.Stats!.NewConnections);
        Assert.Equal((0, 0, 0), Failures(side));
    }

    static (long Abandoned, long Failed, long Stalled) Failures(Side side) => side.Stats!.Faults is var faults ? (faults.Abandoned, faults.FailedUnknown, faults.Stalled) : default;

    static bool IsHttp2(Odd odd) => odd is not (Odd.ChunksBehindLengthZero or Odd.UpgradeWithLengthZero);

    static async Task<string> CallAsync(Side side, Uri address, string how)
    {
        var request = side.Request(HttpMethod.Post, address, new StringContent("{}"));
        if (how == "buffered")
        {
            using var buffered = await side.Client.SendAsync(request, Side.Ct);
            return await buffered.Content.ReadAsStringAsync(Side.Ct);
        }

        using var response = await side.SendAsync(request);
        var body = await response.Content.ReadAsStreamAsync(Side.Ct);
        if (how == "left")
        {
            return await SseServer.ReadUntilAsync(body, "[DONE]\n\n");
        }

        using var reader = new StreamReader(body);
        return await reader.ReadToEndAsync(Side.Ct);
    }

    static async Task ReadOnAsync(HttpResponseMessage response, CancellationToken ct)
    {
        var (body, buffer) = (await response.Content.ReadAsStreamAsync(CancellationToken.None), new byte[100]);
        while (await body.ReadAsync(buffer, ct) > 0)
        {
        }
    }

    static async Task<HttpResponseMessage> OddAsync(Side side, Odd odd)
    {
        if (!IsHttp2(odd))
        {
            var upgrades = odd is Odd.UpgradeWithLengthZero;
            var raw = side.ServeRaw(async peer =>
            {
                await peer.ReadHeadAsync();
                await peer.SayAsync(upgrades ? "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\nContent-Length: 0\r\n\r\nhello"
                    : "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + Hello);
                await peer.ReadToEndAsync();
            });
            var upgrade = side.Request(HttpMethod.Get, raw);
            if (upgrades)
            {
                upgrade.Headers.Connection.Add("Upgrade");
                upgrade.Headers.Upgrade.ParseAdd("chat");
            }

            return await side.SendAsync(upgrade);
        }

        var address = side.ServeFrames(async peer =>
        {
            var stream = await peer.ReadRequestAsync();
            await peer.WriteAsync(RawHttp2Server.Headers, 4, stream, odd switch
            {
                Odd.NoContentWithoutEndOfStream => [0x89],
                Odd.NotModifiedWithoutEndOfStream => [0x8b, .. Header(28, "100")],
                Odd.HeadWithoutEndOfStream => [0x88, .. Header(28, "100")],
                _ => [0x88, .. Header(28, "0")],
            });
            if (odd is Odd.DataBehindLengthZero)
            {
                await peer.WriteAsync(RawHttp2Server.Data, 0, stream, Encoding.ASCII.GetBytes("hello"));
            }
        });
        return await side.SendAsync(side.Request(odd is Odd.HeadWithoutEndOfStream ? HttpMethod.Head : HttpMethod.Get, address));
    }

    /// <summary>A header whose name stands in HPACK's static table, not indexed.</summary>
    static byte[] Header(int name, string value) => [15, (byte)(name - 15), (byte)value.Length, .. Encoding.ASCII.GetBytes(value)];
}
