using System.IO.Pipelines;

namespace Warmline.MockLlm.Tests;

/// <summary>The simulated network. Lower bounds are exact; upper bounds only tell a pipelined delay from a serial one.</summary>
public sealed class NetworkTests
{
#pragma warning disable RS0030 // a simulated network takes real time
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030
    static readonly TimeSpan RoundTrip = TimeSpan.FromMilliseconds(40);

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task A_cold_call_pays_for_dns_tcp_tls_and_itself(string version)
    {
        await using var server = await MockLlmServer.StartAsync(new() { RoundTripTime = RoundTrip, TcpHandshakeAtServer = false });
        var network = server.CreateNetwork();
        using var client = server.Client(network, Version.Parse(version));

        var cold = await TimeAsync(() => client.ChatAsync());
        var warm = await TimeAsync(() => client.ChatAsync());

        Assert.InRange(cold, 4 * RoundTrip, TimeSpan.FromMinutes(1));
        Assert.InRange(warm, RoundTrip, TimeSpan.FromMinutes(1));
        Assert.Equal((1L, 1L), (network.Lookups, network.SocketsOpened));
        Assert.Equal((RoundTrip, RoundTrip), (network.DnsTimeCharged, network.TcpTimeCharged));
    }

    [Fact]
    public async Task The_server_charges_tcp_for_clients_that_do_not()
    {
        await using var server = await MockLlmServer.StartAsync(new() { RoundTripTime = RoundTrip });
        using var client = server.Client();

        Assert.InRange(await TimeAsync(() => client.ChatAsync()), 3 * RoundTrip, TimeSpan.FromMinutes(1));
        Assert.Throws<InvalidOperationException>(server.CreateNetwork);
    }

    [Fact]
    public async Task Each_phase_takes_its_time_at_the_client()
    {
        var roundTrip = TimeSpan.FromMilliseconds(400);
        await using var server = await MockLlmServer.StartAsync(new() { RoundTripTime = roundTrip, TcpHandshakeAtServer = false });
        var network = server.CreateNetwork();
        var start = Clock.GetTimestamp();
        var addresses = await network.ResolveAsync("any.example.test", CancellationToken.None);
        var resolved = Clock.GetTimestamp();
        await using var stream = await network.ConnectAsync(new(addresses[0], server.BaseAddress.Port), CancellationToken.None);

        Assert.True(Clock.GetElapsedTime(start, resolved) >= roundTrip);
        Assert.True(Clock.GetElapsedTime(resolved) >= roundTrip);
    }

    [Fact]
    public async Task Names_cost_what_they_are_told_to_and_lead_to_the_server()
    {
        await using var server = await MockLlmServer.StartAsync(new() { HostNames = { "api.example.test" }, RoundTripTime = RoundTrip, TcpHandshakeAtServer = false });
        var network = server.CreateNetwork();
        network.DnsTime = TimeSpan.Zero;
        using var client = server.Client(network);

        using var response = await client.GetAsync(new UriBuilder("https", "api.example.test", server.BaseAddress.Port, "v1/models").Uri);

        Assert.True(response.IsSuccessStatusCode);
        Assert.Equal((1L, TimeSpan.Zero), (network.Lookups, network.DnsTimeCharged));
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task Tokens_are_delayed_side_by_side_and_not_one_after_the_other(string version)
    {
        const int Tokens = 200; // one after the other they would take 200 x 250 ms
        await using var server = await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(500), Tokens = Tokens, TokenGap = TimeSpan.FromMilliseconds(1) });
        using var client = server.Client(version: Version.Parse(version));

        var took = await TimeAsync(() => client.StreamAsync());

        Assert.InRange(took, TimeSpan.FromMilliseconds(3 * 500 + Tokens - 1), TimeSpan.FromSeconds(30));
    }

    [Theory]
    [InlineData("1.1")]
    [InlineData("2.0")]
    public async Task Large_bodies_arrive_whole_and_in_order(string version)
    {
        const int Size = 3_000_000;
        await using var server = await MockLlmServer.StartAsync(new() { RoundTripTime = TimeSpan.FromMilliseconds(4), RecordRequests = true });
        using var client = server.Client(version: Version.Parse(version));
        using var request = client.Chat(stream: false, ("x-mock-tokens", "300000"));
        request.Content = new StringContent("{\"model\":\"" + new string('m', Size) + "\"}");

        using var response = await client.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();

        Assert.Contains(new string('m', Size) + "\",\"choices\"", text);
        Assert.Contains("first. Warm connections answer at once;", text);
        Assert.Equal(response.Content.Headers.ContentLength, text.Length);
        Assert.Equal(Size + 12, server.GetRequests()[0].BodyLength);
    }

    [Fact]
    public async Task Waits_are_never_early_and_end_in_order()
    {
        using var scheduler = new DelayScheduler(Clock, isSystemClock: true);
        var ended = new List<int>();
        var waits = new[] { 30, 10, 20, 1 }.Select(async milliseconds =>
        {
            var due = scheduler.Add(scheduler.Now, TimeSpan.FromMilliseconds(milliseconds));
            await scheduler.UntilAsync(due, CancellationToken.None);
            Assert.True(scheduler.Now >= due);
            lock (ended)
            {
                ended.Add(milliseconds);
            }
        }).ToArray();

        await Task.WhenAll(waits);

        Assert.Equal(4, ended.Count);
    }

    [Fact]
    public async Task A_wait_ends_with_its_token_and_with_the_scheduler()
    {
        var scheduler = new DelayScheduler(Clock, isSystemClock: true);
        using var stop = new CancellationTokenSource();
        var cancelled = scheduler.DelayAsync(TimeSpan.FromHours(1), stop.Token).AsTask();
        var released = scheduler.DelayAsync(TimeSpan.FromHours(2), CancellationToken.None).AsTask();
        await stop.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
        scheduler.Dispose();
        await released;
        await scheduler.DelayAsync(TimeSpan.FromHours(1), CancellationToken.None);
    }

    [Fact]
    public async Task A_receiver_that_does_not_read_holds_the_sender_back()
    {
        using var scheduler = new DelayScheduler(Clock, isSystemClock: true);
        var (from, to) = (new Pipe(), new Pipe());
        using var cut = new CancellationTokenSource();
        var line = new DelayLine(scheduler, from.Reader, to.Writer, TimeSpan.FromMilliseconds(1), 0);
        var run = line.RunAsync(cut.Token);
        var block = new byte[64 * 1024];
        var sent = 0;
        ValueTask<FlushResult> flush;
        while (true)
        {
            flush = from.Writer.WriteAsync(block);
            sent += block.Length;
            if (!flush.IsCompleted && line.IsFull)
            {
                break;
            }

            await flush;
        }

        Assert.InRange(sent, DelayLine.Window, DelayLine.Window + 1024 * 1024);
        Assert.False(flush.IsCompleted);
        var received = 0L;
        var sending = Task.Run(async () =>
        {
            await flush;
            await from.Writer.CompleteAsync();
        });
        while (true)
        {
            var result = await to.Reader.ReadAsync();
            received += result.Buffer.Length;
            to.Reader.AdvanceTo(result.Buffer.End);
            if (result.IsCompleted)
            {
                break;
            }
        }

        await Task.WhenAll(run, sending);
        Assert.Equal(sent, received);
    }

    static async Task<TimeSpan> TimeAsync(Func<Task<HttpResponseMessage>> call)
    {
        var start = Clock.GetTimestamp();
        using var response = await call();
        response.EnsureSuccessStatusCode();
        await response.Content.ReadAsByteArrayAsync();
        return Clock.GetElapsedTime(start);
    }
}
