using System.Net.Sockets;

namespace Warmline.Transport;

/// <summary>The calls on a socket that some systems refuse: WSL 1, gVisor, user-mode emulators, sandboxes. A test overrides them.</summary>
internal class SocketCalls
{
    public static readonly SocketCalls Default = new();

    public virtual void Set(Socket socket, SocketOptionLevel level, SocketOptionName name, int value) =>
        socket.SetSocketOption(level, name, value);

    public virtual void SetRaw(Socket socket, SocketOptionLevel level, int name, ReadOnlySpan<byte> value) =>
        socket.SetRawSocketOption((int)level, name, value);

    /// <summary>The bytes that were filled in.</summary>
    public virtual int GetRaw(Socket socket, SocketOptionLevel level, int name, Span<byte> value) =>
        socket.GetRawSocketOption((int)level, name, value);

    public virtual bool IsReadable(Socket socket) => socket.Poll(0, SelectMode.SelectRead);

    public virtual int Available(Socket socket) => socket.Available;

    public virtual int ErrorOf(Socket socket) => (int)socket.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.Error)!;
}
