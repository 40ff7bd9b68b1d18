using System.Net;
using System.Net.Sockets;
using System.Runtime.Versioning;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

public sealed class SystemNetworkTests
{
    readonly SystemNetwork _network = new(new TcpKeepAliveOptions { Idle = TimeSpan.FromSeconds(7), Interval = TimeSpan.FromSeconds(3), Count = 5 });
    readonly CancellationToken _ct = TestContext.Current.CancellationToken;

    [Fact(Timeout = TestLimit.Milliseconds)]
    [SupportedOSPlatform("linux")]   // the numbers of the raw option are Linux's
    public async Task The_options_are_set_on_the_socket()
    {
        using var server = new RawServer();
        await using Stream stream = await _network.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), _ct);
        Socket socket = ((NetworkStream)stream).Socket;
        Assert.True(socket.NoDelay);
        Assert.Equal(1, socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive));
        Assert.Equal(7, socket.GetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime));
        Assert.Equal(3, socket.GetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval));
        Assert.Equal(5, socket.GetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount));
        byte[] userTimeout = new byte[sizeof(int)];
        socket.GetRawSocketOption(6, 18, userTimeout);
        Assert.Equal(22_000, BitConverter.ToInt32(userTimeout));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_stream_owns_its_socket()
    {
        using var server = new RawServer();
        Stream stream = await _network.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), _ct);
        await using NetworkStream accepted = await server.AcceptAsync();
        await stream.DisposeAsync();
        Assert.Equal(0, await accepted.ReadAsync(new byte[1], _ct));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Both_families_connect()
    {
        using var listener = new Socket(AddressFamily.InterNetworkV6, SocketType.Stream, ProtocolType.Tcp);
        Assert.SkipUnless(Socket.OSSupportsIPv6, "No IPv6 here.");
        listener.Bind(new IPEndPoint(IPAddress.IPv6Loopback, 0));
        listener.Listen();
        await using Stream stream = await _network.ConnectAsync((IPEndPoint)listener.LocalEndPoint!, _ct);
        Assert.Equal(AddressFamily.InterNetworkV6, ((NetworkStream)stream).Socket.AddressFamily);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_cancelled_attempt_ends_as_cancelled()
    {
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        using var server = new RawServer();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            async () => await _network.ConnectAsync(new IPEndPoint(IPAddress.Loopback, server.Port), cancelled.Token));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Localhost_resolves() => Assert.Contains(await _network.ResolveAsync("localhost", _ct), IPAddress.IsLoopback);
}
