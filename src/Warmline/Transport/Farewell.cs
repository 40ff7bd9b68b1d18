using System.Net.Security;
using System.Net.Sockets;

namespace Warmline.Transport;

/// <summary>
/// Ends a connection in good order: GOAWAY on HTTP/2, TLS close_notify, FIN, then reading until the peer's own end. A socket that is closed
/// with something unread resets, and what the peer had still under way is lost on it; a peer that closes first is left with the port in
/// TIME_WAIT.
/// </summary>
internal static class Farewell
{
    /// <summary>How long a peer may take to answer our end: several round trips around the world. Its permit is out until then.</summary>
    public static readonly TimeSpan Limit = TimeSpan.FromSeconds(2);

    const int LinuxTcpCork = 3;   // TCP_CORK of <linux/tcp.h>

    /// <summary>No stream of the peer's was processed, as it opens none; no error.</summary>
    static readonly byte[] GoAway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    /// <summary>Only a socket can end its own direction and still listen.</summary>
    public static bool IsPossible(DialedConnection connection) => connection.Wire is NetworkStream;

    /// <summary>
    /// Ends the connection once <paramref name="quiet"/> says that nobody else reads or writes it, unless it says that nothing can be said
    /// any more. Throws nothing; the caller disposes.
    /// </summary>
    public static async Task SayAsync(DialedConnection connection, bool goAway, Task<bool> quiet, TimeProvider time)
    {
        var socket = ((NetworkStream)connection.Wire).Socket;
        using var limit = new CancellationTokenSource(Limit, time);
        try
        {
            // 1 The handler's last read and write
            if (!await quiet.WaitAsync(limit.Token).ConfigureAwait(false))
            {
                return;
            }

            // 2 Our end, in one packet: a server that got GOAWAY alone could answer it with its own end before ours
            Cork(socket);
            if (goAway)
            {
                await connection.Transport.WriteAsync(GoAway, limit.Token).ConfigureAwait(false);
            }

            if (connection.Transport is SslStream tls)
            {
                await Bounded(tls.ShutdownAsync(), limit.Token).ConfigureAwait(false);
            }

            socket.Shutdown(SocketShutdown.Send);

            // 3 The peer's end; what it says before is of no interest, so it is not decrypted either
            var buffer = new byte[4096];
            while (await connection.Wire.ReadAsync(buffer, limit.Token).ConfigureAwait(false) > 0)
            {
            }
        }
        catch (OperationCanceledException)
        {
            Abandon(socket);
        }
        catch (Exception)
        {
            // The peer has gone in its own way.
        }
    }

    static void Cork(Socket socket)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        try
        {
            SocketCalls.Default.SetRaw(socket, SocketOptionLevel.Tcp, LinuxTcpCork, BitConverter.GetBytes(1));
        }
        catch (SocketException)
        {
            // In several packets, then.
        }
    }

    /// <summary>The peer does not answer: with a reset it need not be waited for by the kernel either.</summary>
    static void Abandon(Socket socket)
    {
        try
        {
            socket.LingerState = new LingerOption(true, 0);
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            // It is gone already.
        }
    }

    /// <summary>A task that takes no token; if it is left behind, nobody misses its error.</summary>
    static Task Bounded(Task task, CancellationToken limit)
    {
        _ = task.ContinueWith(static ended =>
            ended.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted | TaskContinuationOptions.ExecuteSynchronously,
            TaskScheduler.Default);
        return task.WaitAsync(limit);
    }
}
