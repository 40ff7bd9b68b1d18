using System.Net;
using System.Net.Sockets;
using Microsoft.Extensions.Logging;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>Systems that refuse a socket option, or answer TCP_INFO without knowing: WSL 1, gVisor, emulators. Calls go on as with the bare
/// handler, which needs none of these.</summary>
public sealed class RefusedOptionTests
{
    static readonly TimeSpan Idle = TimeSpan.FromSeconds(15);
    static readonly TimeSpan Gap = TimeSpan.FromSeconds(2);

    public static TheoryData<string, bool> Systems
    {
        get
        {
            var data = new TheoryData<string, bool>();
            foreach (var system in (string[])
            [
                "none", "TCP_NODELAY", "SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "TCP_INFO", "Poll",
                "Available", "all", "zeros", "established and zeros", "state 12", "state 255", "short", "empty",
            ])
            {
                data.Add(system, true);
                data.Add(system, false);
            }

            return data;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Systems))]
    public async Task Calls_ride_one_connection(string system, bool http2)
    {
        var time = ManualTime.Early;
        var network = new CountedNetwork(Make(system));
        await using var rig = await StartAsync(http2, time, network);

        for (var i = 0; i < 4; i++)
        {
            await rig.CallAsync();
            await rig.QuietAsync();
            time.Advance(Gap);
        }

        Assert.True((1, 0L, 0L) == (network.Dialed, rig.Stats.FailedDials, rig.Stats.LostConnections), $"{network.Dialed} dials; {Rig.Describe(rig.Stats)}\n{string.Join("\n", rig.Counters.Connections)}\n{string.Join("\n", rig.Logs.Entries)}");
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Systems))]
    public async Task Connections_that_are_held_warm_are_dialled_once(string system, bool http2)
    {
        var time = ManualTime.Early;
        var network = new CountedNetwork(Make(system));
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        await using var pool = new ConnectionPool(Rig.Options(mock, options =>
        {
            options.Http2.Mode = http2 ? Http2Mode.Preferred : Http2Mode.Disabled;
            options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 2 };
        }), null, time, network);
        await pool.StatsAsync(static stats => stats.Idle == 2);

        for (var second = 0; second < 14; second++)
        {
            time.Advance(TimeSpan.FromSeconds(1));
        }

        Assert.Equal((2, 2, 0L), (network.Dialed, pool.GetStats().Idle, pool.GetStats().LostConnections));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("TCP_INFO", true, 1)]
    [InlineData("zeros", true, 1)]
    [InlineData("TCP_INFO", false, 2)]    // as on other systems: HTTP/1.1 has no sign of life of its own
    [InlineData("zeros", false, 2)]
    [InlineData("SO_KEEPALIVE", true, 1)]
    [InlineData("TCP_KEEPIDLE", true, 1)]
    [InlineData("none", true, 1)]
    public async Task After_a_long_rest_only_one_that_says_nothing_itself_is_replaced(string system, bool http2, int dials)
    {
        var time = ManualTime.Early;
        var network = new CountedNetwork(Make(system));
        await using var rig = await StartAsync(http2, time, network);
        await rig.CallAsync();
        await rig.QuietAsync();

        time.Advance(TimeSpan.FromSeconds(45));
        await rig.CallAsync();

        Assert.Equal((dials, 0L), (network.Dialed, rig.Stats.LostConnections));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task What_is_refused_is_told_once_at_debug()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var logs = new LogRecorder();
        var network = new SystemNetwork(new TcpKeepAliveOptions(), Make("all"));
        await using var pool = new ConnectionPool(Rig.Options(mock), logs, null, network);
        Assert.Equal(3, await pool.WarmUpAsync(mock.BaseAddress, 3, Rig.Ct));

        var told = logs.Entries.Where(static entry => entry.Message.Contains("refuses the socket option", StringComparison.Ordinal))
            .ToArray();
        Assert.Equal(OperatingSystem.IsLinux() ? 6 : 5, told.Length);
        Assert.All(told, static entry => Assert.Equal(LogLevel.Debug, entry.Level));
        Assert.Equal(told.Length, told.Select(static entry => entry.Message).Distinct().Count());
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("none", null, 1, WireState.Alive)]
    [InlineData("TCP_INFO", null, 1, WireState.Alive)]
    [InlineData("TCP_INFO", null, 31, WireState.Unknown)]
    [InlineData("TCP_INFO", false, 1, WireState.Ended)]
    [InlineData("TCP_INFO", true, 1, WireState.Lost)]
    [InlineData("zeros", null, 31, WireState.Unknown)]
    [InlineData("zeros", false, 1, WireState.Ended)]
    [InlineData("short", true, 1, WireState.Lost)]
    [InlineData("state 12", null, 1, WireState.Alive)]
    [InlineData("Poll", false, 1, WireState.Alive)]          // and TCP_INFO with it: nothing is proved
    [InlineData("Available", true, 1, WireState.Alive)]
    [InlineData("Available", null, 31, WireState.Unknown)]
    [InlineData("Error", true, 1, WireState.Ended)]          // an end of which nothing is known
    [InlineData("SO_KEEPALIVE", null, 1, WireState.Alive)]
    [InlineData("SO_KEEPALIVE", null, 31, WireState.Unknown)]   // nobody probes
    [InlineData("TCP_KEEPIDLE", null, 31, WireState.Unknown)]
    [InlineData("TCP_KEEPCNT", null, 31, WireState.Alive)]
    internal async Task A_look_proves_what_the_system_says_and_no_more(string system, bool? byReset, double rested, WireState expected)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "TCP_INFO is Linux's.");
        using var server = new RawServer();
        var network = new SystemNetwork(new TcpKeepAliveOptions(), Make(system, blind: true));
        var accepting = server.AcceptAsync();
        await using var wire = (NetworkStream)await network.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), Rig.Ct);
        await using var accepted = await accepting;
        if (byReset is { } hard)
        {
            accepted.Socket.LingerState = new LingerOption(hard, 0);
            accepted.Socket.Dispose();
        }

        await Eventually.TrueAsync(() => network.Look(wire, TimeSpan.FromSeconds(rested)) == expected,
            () => $"{network.Look(wire, TimeSpan.FromSeconds(rested))}");
        wire.Socket.Dispose();
        Assert.Equal(WireState.Ended, network.Look(wire, TimeSpan.FromSeconds(rested)));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task What_another_reader_takes_between_two_questions_is_no_end()
    {
        using var server = new RawServer();
        await using var wire = (NetworkStream)await new SystemNetwork(new TcpKeepAliveOptions()).ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), Rig.Ct);

        Assert.Equal(WireState.Alive, KernelView.JudgeBlindly(wire.Socket, TimeSpan.Zero, Idle, Idle, new TakenBetween()));
    }

    /// <summary>Bytes came, and were read before their number was asked for.</summary>
    sealed class TakenBetween : SocketCalls
    {
        int _looks;

        public override bool IsReadable(Socket socket) => _looks++ == 0;

        public override int Available(Socket socket) => 0;
    }

    [Theory]
    [InlineData(false, 100, WireState.Alive)]
    [InlineData(true, 100, WireState.Lost)]
    internal void Without_probes_silence_is_no_loss(bool isProbed, double sinceAck, WireState expected) =>
        Assert.Equal(expected, new KernelView(1, 0, 0, TimeSpan.FromSeconds(sinceAck)).Judge(Idle, Idle, isProbed));

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(100L, 0u, 50L, 0L, false)]     // acknowledged before it was sent
    [InlineData(-1L, 0u, 50L, 0L, false)]
    [InlineData(0L, 0u, 0L, 50L, false)]       // sent again and never before
    [InlineData(0L, 0u, 0L, 0L, true)]
    [InlineData(50L, 10u, 90L, 10L, true)]
    public async Task Progress_that_cannot_be_is_none(long acknowledged, uint waiting, long sent, long again, bool isKnown)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "TCP_INFO is Linux's.");
        var info = new byte[216];
        BitConverter.TryWriteBytes(info.AsSpan(120), acknowledged);
        BitConverter.TryWriteBytes(info.AsSpan(144), waiting);
        BitConverter.TryWriteBytes(info.AsSpan(200), sent);
        BitConverter.TryWriteBytes(info.AsSpan(208), again);
        using var server = new RawServer();
        var network = new SystemNetwork(new TcpKeepAliveOptions(), new RefusingCalls { Info = info });
        await using var wire = await network.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), Rig.Ct);

        Assert.Equal(isKnown, network.Progress(wire) is not null);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("TCP_INFO")]
    [InlineData("short")]
    public async Task Progress_that_is_not_told_is_none(string system)
    {
        using var server = new RawServer();
        var network = new SystemNetwork(new TcpKeepAliveOptions(), Make(system));
        await using var wire = await network.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), Rig.Ct);

        Assert.Null(network.Progress(wire));
    }

    static Task<Rig> StartAsync(bool http2, ManualTime time, CountedNetwork network) =>
        Rig.StartAsync(options => options.Http2.Mode = http2 ? Http2Mode.Preferred : Http2Mode.Disabled, time: time, network: network);

    /// <param name="system">What is refused, or how TCP_INFO answers.</param>
    /// <param name="blind">Whether TCP_INFO is refused as well, where the way without it is tested.</param>
    static RefusingCalls Make(string system, bool blind = false) => system switch
    {
        "none" => new(),
        "all" => new()
        {
            Refused = ["TCP_NODELAY", "SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT", "TCP_INFO", "Poll",
                "Available", "Error"],
        },
        "zeros" => new() { Info = new byte[60] },
        "established and zeros" => new() { Info = Zeros(60, 1) },
        "state 12" => new() { Info = [.. Zeros(59, 12), 1] },
        "state 255" => new() { Info = Enumerable.Repeat((byte)255, 60).ToArray() },
        "short" => new() { Info = Zeros(20, 1) },
        "empty" => new() { Info = [] },
        "TCP_INFO" => new() { Refused = ["TCP_INFO"], With = SocketError.AccessDenied },
        "Poll" or "Available" or "Error" when blind => new() { Refused = [system, "TCP_INFO"] },
        "Poll" or "Available" => new() { Refused = [system, "TCP_INFO"], With = SocketError.OperationNotSupported },
        _ => new() { Refused = [system], With = system == "TCP_KEEPCNT" ? SocketError.InvalidArgument : SocketError.ProtocolOption },
    };

    static byte[] Zeros(int length, byte first)
    {
        var zeros = new byte[length];
        zeros[0] = first;
        return zeros;
    }
}
