using System.Net;
using System.Text;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>The write clock measures silence on the wire, however long one call into the platform takes; and a connection that takes no
/// bodies gets no new ones.</summary>
public sealed class UploadProgressTests : UploadTestBase
{
    const int Window = 65_535;

    public static TheoryData<string> Bodies => ["bytes", "memory", "one write", "stream", "multipart", "json text", "json object"];

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Bodies))]
    public async Task Over_http2_a_body_that_gets_on_slowly_is_sent_whole(string kind)
    {
        using var server = new RawHttp2Server();
        var stream = 0;
        server.Serve((connection, frame, _) =>
        {
            stream = frame.Type is RawHttp2Server.Headers ? frame.Stream : stream;
            return frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask;
        });
        await using var pool = server.NewPool(options => options.Timeouts.Write = Write, Time);
        using var client = pool.CreateClient(server.Address);

        var call = client.PostAsync("v1", Body(kind), Rig.Ct);
        for (long granted = Window; !call.IsCompleted; granted += Window)
        {
            await Eventually.TrueAsync(() => call.IsCompleted || (server.Served is [var only, ..] && only.BodyBytes >= granted));
            Time.Advance(Step);
            if (!call.IsCompleted)
            {
                await server.Served[0].CreditAsync(stream, Window);
            }
        }

        using var response = await call;
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Single(server.Served);
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Bodies))]
    public async Task Over_http2_a_body_that_does_not_get_on_ends_by_the_write_clock(string kind)
    {
        using var server = new RawHttp2Server();
        server.Serve((connection, frame, _) => Task.CompletedTask);
        await using var pool = server.NewPool(options => options.Timeouts.Write = Write, Time);
        using var client = pool.CreateClient(server.Address);

        var call = client.PostAsync("v1", Body(kind), Rig.Ct);
        await Eventually.TrueAsync(() => server.Served is [var only, ..] && only.BodyBytes >= Window);

        var stalled = await StallsAsync(call);
        Assert.Equal(StallPhase.Write, stalled.Phase);
        Assert.InRange(stalled.Silence, Write, Write + Step + Step);
    }

    /// <summary>What comes on the connection in between is no sign that it takes bodies.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData("nothing")]
    [InlineData("a ping")]
    [InlineData("an answer")]
    public async Task A_connection_that_takes_no_bodies_gets_no_new_ones(string between)
    {
        using var server = new RawHttp2Server { Says = [(4, 1024 * 1024)] };
        server.Serve(static (connection, frame, _) => frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask);
        await using var pool = server.NewPool(options => options.Timeouts.Pool = TimeSpan.FromMinutes(1), Time);
        using var client = pool.CreateClient(server.Address);
        await pool.WarmUpAsync(server.Address, 1, Rig.Ct);

        var first = client.PostAsync("a", new ByteArrayContent(new byte[1024 * 1024]), Rig.Ct);
        await Eventually.TrueAsync(() => server.Served[0].BodyBytes == Window);
        var second = client.PostAsync("b", Small(), Rig.Ct);
        await SendAsync(pool, 2);
        if (between == "a ping")
        {
            await server.Served[0].WriteAsync(RawHttp2Server.Ping, 0, 0, new byte[8]);
        }
        else if (between == "an answer")
        {
            using var get = await client.GetAsync("c", Rig.Ct);
            Assert.Equal(HttpStatusCode.OK, get.StatusCode);
        }

        // Long before the clock is over, others go elsewhere.
        Time.Advance(TimeSpan.FromSeconds(2));
        using var third = await client.PostAsync("d", Small(), Rig.Ct);
        Assert.Equal((HttpStatusCode.OK, 2), (third.StatusCode, server.Served.Count));

        Assert.Equal(StallPhase.Write, (await StallsAsync(first)).Phase);
        Assert.Equal(StallPhase.Write, (await StallsAsync(second)).Phase);
        using var last = await client.PostAsync("e", Small(), Rig.Ct);
        Assert.Equal((HttpStatusCode.OK, 2), (last.StatusCode, server.Served.Count));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Where_no_other_connection_can_be_had_calls_wait_on_the_one_that_takes_no_bodies()
    {
        using var server = new RawHttp2Server { Says = [(4, 1024 * 1024)] };
        server.Serve(static (connection, frame, _) => frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask);
        await using var pool = server.NewPool(static options => options.MaxConnections = 1, Time);
        using var client = pool.CreateClient(server.Address);

        var first = client.PostAsync("a", new ByteArrayContent(new byte[Window + 1]), Rig.Ct);
        await Eventually.TrueAsync(() => server.Served is [var only] && only.BodyBytes == Window);
        Time.Advance(TimeSpan.FromSeconds(5));
        var second = client.PostAsync("b", Small(), Rig.Ct);
        using var get = await client.GetAsync("c", Rig.Ct);
        Assert.Equal(HttpStatusCode.OK, get.StatusCode);
        await SendAsync(pool, 2);

        await server.Served[0].CreditAsync(0, Window);
        using var answers = await first;
        using var answer = await second;
        Assert.Equal((HttpStatusCode.OK, HttpStatusCode.OK, 1), (answers.StatusCode, answer.StatusCode, server.Served.Count));
    }

    /// <summary>A refused upload whose credit the server never gives back.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task Credit_that_leaked_costs_one_call_at_most()
    {
        using var server = new RawHttp2Server { Says = [(4, 1024 * 1024)] };
        server.Serve(static (connection, frame, _) =>
            frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true)
            : frame.Type is RawHttp2Server.Data && connection.BodyBytes == Window && frame.Stream == 1 ? connection.RespondAsync(frame.Stream, [0x08, 3, .. "413"u8], "too large")
            : Task.CompletedTask);
        await using var pool = server.NewPool(null, Time);
        using var client = pool.CreateClient(server.Address);
        using (var refused = await client.PostAsync("a", new ByteArrayContent(new byte[1024 * 1024]), Rig.Ct))
        {
            Assert.Equal(HttpStatusCode.RequestEntityTooLarge, refused.StatusCode);
        }

        var paying = client.PostAsync("b", Small(), Rig.Ct);
        await SendAsync(pool, 1);
        Assert.Equal(StallPhase.Write, (await StallsAsync(paying)).Phase);
        for (var i = 0; i < 5; i++)
        {
            using var answer = await client.PostAsync("c", Small(), Rig.Ct);
            Assert.Equal((HttpStatusCode.OK, 2), (answer.StatusCode, server.Served.Count));
        }
    }

    /// <summary>No large upload is needed: a server that never opens the connection's window gets six bodies of 10 KB.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task A_window_that_never_opens_costs_one_call_a_connection()
    {
        using var server = new RawHttp2Server();
        server.Serve(static (connection, frame, _) => frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask);
        await using var pool = server.NewPool(null, Time);
        using var client = pool.CreateClient(server.Address);
        var outcomes = new List<string>();
        for (var i = 0; i < 10; i++)
        {
            var call = client.PostAsync("a", Small(10_000), Rig.Ct);
            await Eventually.TrueAsync(() => call.IsCompleted || (server.Served is [var only] && only.BodyBytes == Window && pool.GetStreams(10) is [{ ConnectionId: 1 }]));
            outcomes.Add(call.IsCompleted ? $"{(int)(await call).StatusCode}" : $"{(await StallsAsync(call)).Phase}");
        }

        Assert.Equal(["200", "200", "200", "200", "200", "200", "Write", "200", "200", "200"], outcomes);
    }

    /// <summary>However little the server lets out at a time, it is progress.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(1, 20, true)]
    [InlineData(1, 20, false)]
    [InlineData(1000, 60_000, true)]
    [InlineData(3000, 60_000, false)]
    public async Task Over_http2_a_body_gets_on_by_whatever_the_server_lets_out(int each, int length, bool ofTheStream)
    {
        using var server = new RawHttp2Server { Says = [(4, ofTheStream ? 1 : 1024 * 1024)] };
        var stream = 0;
        server.Serve((connection, frame, _) =>
        {
            stream = frame.Type is RawHttp2Server.Headers ? frame.Stream : stream;
            return frame.EndsStream ? connection.AnswerAsync(frame.Stream, ended: true) : Task.CompletedTask;
        });
        await using var pool = server.NewPool(options => options.Timeouts.Write = Write, Time);
        using var client = pool.CreateClient(server.Address);
        await pool.WarmUpAsync(server.Address, 1, Rig.Ct);
        long granted = 1;
        if (!ofTheStream)
        {
            using var first = await client.PostAsync("v1", new ByteArrayContent(new byte[Window - 1]), Rig.Ct);
            granted = Window;
        }

        var call = client.PostAsync("v1", new ByteArrayContent(new byte[length]), Rig.Ct);
        for (; !call.IsCompleted; granted += each)
        {
            await Eventually.TrueAsync(() => call.IsCompleted || server.Served[0].BodyBytes >= granted);
            Time.Advance(Step);
            if (!call.IsCompleted)
            {
                await server.Served[0].CreditAsync(ofTheStream ? stream : 0, each);
            }
        }

        using var response = await call;
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    /// <summary>A content that writes synchronously blocks its thread in the platform; the clock ends it all the same.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task Over_http2_synchronous_writes_that_do_not_get_on_end_by_the_write_clock()
    {
        using var server = new RawHttp2Server();
        server.Serve(static (_, _, _) => Task.CompletedTask);
        await using var pool = server.NewPool(options => options.Timeouts.Write = Write, Time);
        using var client = pool.CreateClient(server.Address);

        var call = Task.Run(() => client.PostAsync("v1", new SynchronousContent(), Rig.Ct));
        await Eventually.TrueAsync(() => server.Served is [var only, ..] && only.BodyBytes >= Window);

        Assert.Equal(StallPhase.Write, (await StallsAsync(call)).Phase);
        await pool.StatsAsync(static stats => stats.Active == 0);
    }

    /// <summary>RFC 9113, section 8.1: a server may answer without ever taking the rest of the body.</summary>
    [Fact(Timeout = Rig.Patience)]
    public async Task An_answer_that_goes_on_is_not_cut_because_the_rest_of_the_body_stands_still()
    {
        using var server = new RawHttp2Server();
        var stream = 0;
        server.Serve((connection, frame, _) =>
        {
            stream = frame.Stream > 0 ? frame.Stream : stream;
            return frame.Type is RawHttp2Server.Data && connection.BodyBytes == Window ? connection.AnswerAsync(stream, ended: false) : Task.CompletedTask;
        });
        await using var pool = server.NewPool(options => options.Timeouts.Write = Write, Time);
        using var client = pool.CreateClient(server.Address);
        using var request = new HttpRequestMessage(HttpMethod.Post, "v1") { Content = new ByteArrayContent(new byte[200_000]) };
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var buffer = new byte[1];
        for (var i = 0; i < 20; i++)
        {
            await server.Served[0].WriteAsync(RawHttp2Server.Data, 0, stream, [7]);
            Assert.Equal(1, await body.ReadAsync(buffer, Rig.Ct));
            Time.Advance(Step);
        }

        await server.Served[0].EndAsync(stream);
        Assert.Equal(0, await body.ReadAsync(buffer, Rig.Ct));

        // The rest of the body does not keep the place for ever.
        await Eventually.TrueAsync(() =>
        {
            Time.Advance(Step);
            return pool.GetStats().Active == 0;
        });
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_small_body_that_the_streams_window_does_not_let_out_ends_by_the_write_clock()
    {
        using var server = new RawHttp2Server { Says = [(4, 0)] };
        server.Serve(static (_, _, _) => Task.CompletedTask);
        await using var pool = server.NewPool(options => options.Timeouts.Write = Write, Time);
        using var client = pool.CreateClient(server.Address);
        await pool.WarmUpAsync(server.Address, 1, Rig.Ct);

        var call = client.PostAsync("a", Small(), Rig.Ct);
        await SendAsync(pool, 1);

        Assert.Equal(StallPhase.Write, (await StallsAsync(call)).Phase);
    }

    /// <summary>So many calls have begun to send their bodies. Their HEADERS may wait as well: the platform writes them together with the
    /// first of the body.</summary>
    static Task SendAsync(ConnectionPool pool, int calls) => Eventually.TrueAsync(() => pool.GetStreams(10) is var streams && streams.Count == calls && streams.All(static stream => stream.Phase is StreamPhase.Sending));

    sealed class SynchronousContent : HttpContent
    {
        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            stream.Write(new byte[200_000], 0, 200_000);
            return Task.CompletedTask;
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 200_000;
            return true;
        }
    }


}
