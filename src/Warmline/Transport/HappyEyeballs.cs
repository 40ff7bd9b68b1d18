using System.Net;
using System.Net.Sockets;
using System.Runtime.ExceptionServices;

namespace Warmline.Transport;

/// <summary>
/// One race for a TCP connection over all addresses of a host (RFC 8305): families take turns, starting with the family of the first
/// address (the resolver sorts by what the machine can reach, IPv6 first where it works); the next address is tried when the last attempt
/// has run for the attempt delay, or at once when one fails; the first connection wins and every other is closed.
/// </summary>
internal sealed class HappyEyeballs(Func<IPEndPoint, CancellationToken, ValueTask<Stream>> connect, TimeProvider time)
{
    /// <summary>RFC 8305 section 5: long enough for a healthy handshake on most continents, short enough not to be felt.</summary>
    public static readonly TimeSpan AttemptDelay = TimeSpan.FromMilliseconds(250);

    readonly List<(IPEndPoint EndPoint, Task<Stream> Task)> _running = [];
    IPEndPoint? _failedEndPoint;
    Exception? _failure;

    /// <summary>The winner, or the address whose error is reported; null while neither is known.</summary>
    public IPEndPoint? EndPoint { get; private set; }

    /// <summary>The addresses tried so far, in that order. For whoever runs the race.</summary>
    public List<IPEndPoint> Tried { get; } = [];

    /// <summary>The same for others, while it runs.</summary>
    public IPAddress[] TriedNow()
    {
        lock (Tried)
        {
            return [.. Tried.Select(static endPoint => endPoint.Address)];
        }
    }

    /// <summary>Connects, or throws the most telling of the attempts' errors.</summary>
    public async Task<Stream> ConnectAsync(IPAddress[] addresses, int port, CancellationToken cancellationToken)
    {
        using var race = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Queue<IPEndPoint> left = new(Interleave(addresses).Select(address => new IPEndPoint(address, port)));
        try
        {
            while (left.Count > 0 || _running.Count > 0)
            {
                if (left.TryDequeue(out IPEndPoint? next))
                {
                    lock (Tried)
                    {
                        Tried.Add(next);
                    }

                    _running.Add((next, StartAsync(next, race.Token)));
                }

                if (await NextResultAsync(mayStartAnother: left.Count > 0, cancellationToken).ConfigureAwait(false) is { } winner)
                {
                    return winner;
                }
            }
        }
        finally
        {
            await race.CancelAsync().ConfigureAwait(false);
            foreach ((_, Task<Stream> attempt) in _running)
            {
                _ = DisposeAsync(attempt);   // an attempt may still succeed after the winner, or after the caller gave up
            }
        }

        EndPoint = _failedEndPoint;
        ExceptionDispatchInfo.Throw(_failure ?? new SocketException((int)SocketError.NoData));
        return null;
    }

    /// <summary>The families in turn, each in the resolver's order.</summary>
    internal static IEnumerable<IPAddress> Interleave(IPAddress[] addresses)
    {
        Queue<IPAddress> lead = new(addresses.Where(address => address.AddressFamily == addresses[0].AddressFamily));
        Queue<IPAddress> other = new(addresses.Where(address => address.AddressFamily != addresses[0].AddressFamily));
        while (lead.Count + other.Count > 0)
        {
            if (lead.TryDequeue(out IPAddress? address))
            {
                yield return address;
            }

            (lead, other) = (other, lead);
        }
    }

    async Task<Stream> StartAsync(IPEndPoint endPoint, CancellationToken cancellationToken) =>
        await connect(endPoint, cancellationToken).ConfigureAwait(false);

    /// <summary>Waits until an attempt has ended or it is time to start another: the winner, or null.</summary>
    async Task<Stream?> NextResultAsync(bool mayStartAnother, CancellationToken cancellationToken)
    {
        using var delayEnds = new CancellationTokenSource();
        var ends = new List<Task>(_running.Select(attempt => attempt.Task));
        if (mayStartAnother)
        {
            ends.Add(Task.Delay(AttemptDelay, time, delayEnds.Token));
        }

        try
        {
            // An attempt that does not heed its token must not hold us.
            await Task.WhenAny(ends).WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            await delayEnds.CancelAsync().ConfigureAwait(false);
        }

        cancellationToken.ThrowIfCancellationRequested();
        for (int i = 0; i < _running.Count; i++)   // in the order of their start: of two that are ready, the earlier address wins
        {
            (IPEndPoint endPoint, Task<Stream> attempt) = _running[i];
            if (attempt.IsCompletedSuccessfully)
            {
                EndPoint = endPoint;
                _running.RemoveAt(i);
                return await attempt.ConfigureAwait(false);
            }

            if (attempt.IsCompleted)
            {
                _running.RemoveAt(i--);
                Note(endPoint, attempt.Exception?.InnerException ?? new SocketException((int)SocketError.OperationAborted));
            }
        }

        return null;
    }

    void Note(IPEndPoint endPoint, Exception failure)
    {
        if (_failure is null || Weight(failure) > Weight(_failure))
        {
            (_failedEndPoint, _failure) = (endPoint, failure);
        }
    }

    /// <summary>
    /// A machine that answered "no" tells more than one that was silent, and that more than our own lack of a route (IPv6 on an IPv4
    /// network).
    /// </summary>
    static int Weight(Exception failure) => (failure as SocketException)?.SocketErrorCode switch
    {
        SocketError.NetworkUnreachable or SocketError.AddressFamilyNotSupported or SocketError.AddressNotAvailable => 0,
        SocketError.HostUnreachable or SocketError.TimedOut or SocketError.HostDown => 1,
        _ => 2,
    };

    static async Task DisposeAsync(Task<Stream> attempt)
    {
        try
        {
            await (await attempt.ConfigureAwait(false)).DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception)
        {
            // Ignore errors of attempts that lost the race.
        }
    }
}
