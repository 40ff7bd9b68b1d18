using System.Net;
using System.Net.Sockets;
using Warmline.Pool;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>What the kernel says of an idle connection, and what that means.</summary>
public sealed class KernelViewTests
{
    const byte Established = 1, CloseWait = 8, Close = 7, FinWait = 4;

    [Theory]
    [InlineData(Established, 0, 0, 0, WireState.Alive)]
    [InlineData(Established, 0, 0, 14.9, WireState.Alive)]
    [InlineData(Established, 0, 1, 15.9, WireState.Alive)]     // a probe has just gone out
    [InlineData(Established, 0, 1, 16, WireState.Lost)]        // and this one was not answered
    [InlineData(Established, 0, 2, 30.1, WireState.Lost)]
    [InlineData(Established, 0, 0, 30.9, WireState.Alive)]
    [InlineData(Established, 0, 0, 31, WireState.Lost)]        // a probe was due, whatever is said of it
    [InlineData(Established, 1, 0, 0.3, WireState.Doubtful)]   // a ping that had to be sent again
    [InlineData(Established, 2, 0, 0.9, WireState.Lost)]       // twice
    [InlineData(CloseWait, 0, 0, 0, WireState.Ended)]
    [InlineData(CloseWait, 0, 3, 90, WireState.Ended)]
    [InlineData(Close, 0, 0, 0, WireState.Lost)]
    [InlineData(FinWait, 0, 0, 0, WireState.Lost)]
    internal void What_the_kernel_says_is_judged_by_the_pace_of_the_probes(byte state, byte retransmits, byte probes, double sinceAck, WireState expected) =>
        Assert.Equal(expected, new KernelView(state, retransmits, probes, TimeSpan.FromSeconds(sinceAck)).Judge(TimeSpan.FromSeconds(15), TimeSpan.FromSeconds(15)));

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData(null, WireState.Alive)]
    [InlineData(false, WireState.Ended)]
    [InlineData(true, WireState.Lost)]
    internal async Task What_came_and_was_not_read_is_seen(bool? byReset, WireState expected)
    {
        using var server = new RawServer();
        var network = new SystemNetwork(new TcpKeepAliveOptions());
        var accepting = server.AcceptAsync();
        await using var wire = (NetworkStream)await network.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), TestContext.Current.CancellationToken);
        await using var accepted = await accepting;
        if (byReset is { } hard)
        {
            accepted.Socket.LingerState = new LingerOption(hard, 0);
            accepted.Socket.Dispose();
        }

        await Eventually.TrueAsync(() => network.Look(wire, TimeSpan.Zero) == expected);
        if (OperatingSystem.IsLinux())
        {
            Assert.InRange(KernelView.Of(wire.Socket)!.Value.SinceAck, TimeSpan.Zero, TimeSpan.FromMinutes(1));
        }

        // The way of other systems, as far as it sees.
        Assert.Equal(expected, KernelView.JudgeBlindly(wire.Socket, TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(15), TimeSpan.FromSeconds(15)));
        wire.Socket.Dispose();
        Assert.Equal(WireState.Ended, network.Look(wire, TimeSpan.Zero));
    }

    [Theory]
    [InlineData(29.9, WireState.Alive)]
    [InlineData(30.1, WireState.Doubtful)]
    internal async Task Where_the_kernel_does_not_tell_a_long_rest_ends_the_trust(double rested, WireState expected)
    {
        using var server = new RawServer();
        var accepting = server.AcceptAsync();
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), TestContext.Current.CancellationToken);
        await using var accepted = await accepting;
        Assert.Equal(expected, KernelView.JudgeBlindly(socket, TimeSpan.FromSeconds(rested), TimeSpan.FromSeconds(15), TimeSpan.FromSeconds(15)));
    }

    [Fact]
    public void The_machine_knows_its_addresses() => Assert.Contains(IPAddress.Loopback, new SystemNetwork(new TcpKeepAliveOptions()).LocalAddresses());

    [Theory]
    [InlineData("timeout=5", 5)]
    [InlineData("Timeout = 5 , max=100", 5)]
    [InlineData("max=100,timeout=\"7\"", 7)]
    [InlineData("timeout=0", 0)]
    [InlineData("max=100", -1)]
    [InlineData("timeout", -1)]
    [InlineData("timeout=-5", -1)]
    [InlineData("timeout=5s", -1)]
    [InlineData("timeout=99999999999", -1)]
    [InlineData("", -1)]
    public void A_hint_is_read_or_left(string hint, int seconds) => Assert.Equal(seconds, ProviderReader.SecondsIn(hint));
}
