using System.Buffers.Binary;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Warmline.Transport;

/// <summary>What is known of a connection that has been idle.</summary>
internal enum WireState
{
    /// <summary>Nothing speaks against it.</summary>
    Alive,

    /// <summary>The peer's FIN is there.</summary>
    Ended,

    /// <summary>Reset, or silent where an answer was due.</summary>
    Lost,

    /// <summary>A packet was lost just now, or it has been idle for so long that nobody knows.</summary>
    Doubtful,

    /// <summary>Idle for so long that nobody knows, as this system does not say how its probes fare. HTTP/2 has its own.</summary>
    Unknown,
}

/// <summary>Bytes that the kernel took from us and had acknowledged, counted since the connection began.</summary>
/// <param name="Acknowledged">What the peer's kernel has confirmed.</param>
/// <param name="Taken">What it took, sent or not.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct SendProgress(long Acknowledged, long Taken);

/// <summary>
/// What the kernel knows of a TCP connection: the peer's FIN or reset that nobody has read yet, and whether the peer still answers
/// keep-alive probes. One system call.
/// </summary>
/// <param name="State">tcpi_state.</param>
/// <param name="Retransmits">tcpi_retransmits: how often in a row what is unacknowledged was sent again.</param>
/// <param name="Probes">tcpi_probes: keep-alive and window probes without an answer.</param>
/// <param name="SinceAck">tcpi_last_ack_recv: how long ago the peer acknowledged anything, probes included.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct KernelView(byte State, byte Retransmits, byte Probes, TimeSpan SinceAck)
{
    const int LooksForAnEnd = 3;
    const int LinuxTcpInfo = 11;   // TCP_INFO of <linux/tcp.h>
    const int LengthRead = 60;     // struct tcp_info up to tcpi_last_ack_recv, the same since Linux 2.6
    const int Handshake = 2;       // SYN and FIN count as acknowledged, and not as sent
    const int LengthToProgress = 216;   // up to tcpi_bytes_retrans, since Linux 4.19
    const byte Established = 1;
    const byte CloseWait = 8;
    const byte LastState = 11;   // TCP_CLOSING

    /// <summary>An answer to a probe may take that long: a probe that was just sent tells nothing yet.</summary>
    static readonly TimeSpan Grace = TimeSpan.FromSeconds(1);

    /// <summary>Null where the system does not say: only Linux does, and not all that call themselves so. What is no state of TCP, or knows
    /// of no packet that ever came or went, is the answer of a stub.</summary>
    public static KernelView? Of(Socket socket, SocketCalls? calls = null)
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        Span<byte> info = stackalloc byte[LengthRead];
        try
        {
            if ((calls ?? SocketCalls.Default).GetRaw(socket, SocketOptionLevel.Tcp, LinuxTcpInfo, info) < LengthRead)
            {
                return null;
            }
        }
        catch (Exception error) when (error is not ObjectDisposedException)
        {
            return null;
        }

        return info[0] is 0 or > LastState || info[1..].IndexOfAnyExcept((byte)0) < 0 ? null
            : new(info[0], info[2], info[3], TimeSpan.FromMilliseconds(ReadNative(info[56..])));
    }

    /// <summary>Null where the system does not say.</summary>
    public static SendProgress? ProgressOf(Socket socket, SocketCalls? calls = null)
    {
        if (!OperatingSystem.IsLinux())
        {
            return null;
        }

        Span<byte> info = stackalloc byte[LengthToProgress];
        if ((calls ?? SocketCalls.Default).GetRaw(socket, SocketOptionLevel.Tcp, LinuxTcpInfo, info) < LengthToProgress)
        {
            return null;
        }

        // tcpi_bytes_acked, tcpi_notsent_bytes, tcpi_bytes_sent, tcpi_bytes_retrans of struct tcp_info
        var (acknowledged, waiting, sent, sentAgain) = (ReadLong(info[120..]), ReadNative(info[144..]), ReadLong(info[200..]),
            ReadLong(info[208..]));
        var taken = sent - sentAgain + waiting;
        return acknowledged < 0 || taken < 0 || acknowledged > taken + Handshake ? null : new(acknowledged, taken);
    }

    /// <param name="idle">Silence after which the first probe goes out.</param>
    /// <param name="interval">Time between probes.</param>
    /// <param name="isProbed">Whether probes are sent, at that pace.</param>
    public WireState Judge(TimeSpan idle, TimeSpan interval, bool isProbed = true) => State switch
    {
        CloseWait => WireState.Ended,
        not Established => WireState.Lost,
        _ when Retransmits > 1 || Probes > 1 || (Probes == 1 && SinceAck >= idle + Grace) => WireState.Lost,

        // A single packet lost is every day's business, and no reason to give up others with it.
        _ when Retransmits == 1 => WireState.Doubtful,

        // Whatever the counters say: since then a probe was due, and its answer.
        _ => isProbed && SinceAck >= idle + interval + Grace ? WireState.Lost : WireState.Alive,
    };

    /// <summary>The same without the kernel's help: an end that has arrived is seen, where the system says so; silence is not, so no idle
    /// connection is trusted past the time of two probes.</summary>
    public static WireState JudgeBlindly(Socket socket, TimeSpan rested, TimeSpan idle, TimeSpan interval, SocketCalls? calls = null) =>
        EndOf(socket, calls ?? SocketCalls.Default) ?? (rested > idle + interval ? WireState.Doubtful : WireState.Alive);

    static WireState? EndOf(Socket socket, SocketCalls calls)
    {
        try
        {
            // Readable with nothing to read is the peer's end. On HTTP/2 a read is pending, which may take what has come between the two
            // questions: an end is still there the next time.
            for (var look = 0; look < LooksForAnEnd; look++)
            {
                if (!calls.IsReadable(socket) || calls.Available(socket) != 0)
                {
                    return null;
                }
            }
        }
        catch (Exception error) when (error is not ObjectDisposedException)
        {
            return null;
        }

        try
        {
            return calls.ErrorOf(socket) == 0 ? WireState.Ended : WireState.Lost;
        }
        catch (Exception error) when (error is not ObjectDisposedException)
        {
            return WireState.Ended;   // it has ended; in which way is not known, and may not be held against others
        }
    }

    static long ReadLong(ReadOnlySpan<byte> bytes) => BitConverter.ToInt64(bytes);

    static uint ReadNative(ReadOnlySpan<byte> bytes) =>
        BitConverter.IsLittleEndian ? BinaryPrimitives.ReadUInt32LittleEndian(bytes) : BinaryPrimitives.ReadUInt32BigEndian(bytes);
}
