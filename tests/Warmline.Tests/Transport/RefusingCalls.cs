using System.Net.Sockets;
using Warmline.Transport;

namespace Warmline.Tests.Transport;

/// <summary>A system that refuses what a test says, and may have only a stub of TCP_INFO.</summary>
internal sealed class RefusingCalls : SocketCalls
{
    const int TcpInfo = 11;
    const int Bytes = 60;

    /// <summary>The name of an option, TCP_USER_TIMEOUT, TCP_INFO, Poll, Available, or Error.</summary>
    public HashSet<string> Refused { get; init; } = [];

    public SocketError With { get; init; } = SocketError.ProtocolOption;

    /// <summary>What TCP_INFO says; the truth when null.</summary>
    public byte[]? Info { get; init; }

    public override void Set(Socket socket, SocketOptionLevel level, SocketOptionName name, int value)
    {
        // KeepAlive and others share their numbers with options of other levels.
        ThrowIf(socket, level is SocketOptionLevel.Tcp ? name switch
        {
            SocketOptionName.NoDelay => "TCP_NODELAY",
            SocketOptionName.TcpKeepAliveTime => "TCP_KEEPIDLE",
            SocketOptionName.TcpKeepAliveInterval => "TCP_KEEPINTVL",
            SocketOptionName.TcpKeepAliveRetryCount => "TCP_KEEPCNT",
            _ => $"{name}",
        } : "SO_KEEPALIVE");
        base.Set(socket, level, name, value);
    }

    public override void SetRaw(Socket socket, SocketOptionLevel level, int name, ReadOnlySpan<byte> value)
    {
        ThrowIf(socket, "TCP_USER_TIMEOUT");
        base.SetRaw(socket, level, name, value);
    }

    public override int GetRaw(Socket socket, SocketOptionLevel level, int name, Span<byte> value)
    {
        ThrowIf(socket, "TCP_INFO");
        if (name != TcpInfo || Info is not { } info)
        {
            return base.GetRaw(socket, level, name, value);
        }

        value.Clear();
        info.AsSpan(0, Math.Min(info.Length, value.Length)).CopyTo(value);
        return info.Length == Bytes ? value.Length : Math.Min(info.Length, value.Length);
    }

    public override bool IsReadable(Socket socket)
    {
        ThrowIf(socket, "Poll");
        return base.IsReadable(socket);
    }

    public override int Available(Socket socket)
    {
        ThrowIf(socket, "Available");
        return base.Available(socket);
    }

    public override int ErrorOf(Socket socket)
    {
        ThrowIf(socket, "Error");
        return base.ErrorOf(socket);
    }

    void ThrowIf(Socket socket, string call)
    {
        ObjectDisposedException.ThrowIf(socket.SafeHandle.IsClosed, socket);
        if (Refused.Contains(call))
        {
            throw new SocketException((int)With);
        }
    }
}
