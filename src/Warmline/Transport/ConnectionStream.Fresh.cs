using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text;

namespace Warmline.Transport;

/// <summary>What the peer says before any request: its first words on HTTP/1.1, and its last.</summary>
internal sealed partial class ConnectionStream
{
    /// <summary>How long a connection counts as fresh. What comes in this time before a request is the answer to it, as there is no other
    /// request it could belong to. Later it is a farewell, such as the 408 of a server that waited for long enough.</summary>
    static readonly TimeSpan Freshness = TimeSpan.FromSeconds(1);

    /// <summary>Of what an unasked peer said, enough for a status line or a greeting.</summary>
    const int MostShown = 80;

    readonly long _born = inner.Time.GetTimestamp();
    volatile Exception? _endCause;

    /// <summary>The error in which reading ended, first of all; null where the peer ended in good order, or we did.</summary>
    public Exception? EndCause => _endCause;

    /// <summary>Whether the peer of a fresh HTTP/1.1 connection spoke before a request was sent, and nobody has read it yet.</summary>
    public bool HasFirstWords => BytesWritten == 0 && Volatile.Read(ref _aheadEnd) > 0;

    /// <summary>Their first line, its printable part.</summary>
    public string FirstWords
    {
        get
        {
            lock (_aheadGate)
            {
                var bytes = _ahead.AsSpan(_aheadStart, Math.Min(_aheadEnd - _aheadStart, MostShown));
                var end = bytes.IndexOfAny((byte)'\r', (byte)'\n');
                var line = Encoding.ASCII.GetString(end < 0 ? bytes : bytes[..end]);
                return string.Create(line.Length, line, static (text, from) =>
                {
                    for (var i = 0; i < text.Length; i++)
                    {
                        text[i] = from[i] is >= ' ' and < '\x7f' ? from[i] : '?';
                    }
                });
            }
        }
    }

    /// <summary>Ends with the watch that is under way; null without one.</summary>
    public Task? Watching => Volatile.Read(ref _watch)?.Task;

    bool IsYoung => inner.Time.GetElapsedTime(_born) < Freshness;

    bool IsFresh => _frames is null && BytesRead == 0 && BytesWritten == 0 && IsYoung;

    void RecordEnd(Exception error)
    {
        if (!IsClosed && error is not OperationCanceledException)
        {
            _endCause ??= error;
            inner.PeerEnded(error);
        }
    }

    /// <summary>
    /// Something came on a connection that carried no request yet: keeps it for the first one. False where it is the end.
    /// </summary>
    async ValueTask<bool> KeepFirstWordsAsync()
    {
        var buffer = new byte[AheadSize];
        int count;
        try
        {
            count = await inner.ReadAsync(buffer).ConfigureAwait(false);
        }
        catch (Exception error)
        {
            RecordEnd(error);
            return false;
        }

        if (count == 0)
        {
            return false;
        }

        lock (_aheadGate)
        {
            (_ahead, _aheadStart) = (buffer, 0);
            Volatile.Write(ref _aheadEnd, count);
        }

        Volatile.Write(ref _read, _read + count);
        return true;
    }

    /// <summary>
    /// A write of a request before anything came. If it fails the peer has ended the connection, and may have said why just before: that is
    /// read first.
    /// </summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    async ValueTask WriteUnansweredAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken)
    {
        try
        {
            await inner.WriteAsync(buffer, cancellationToken).ConfigureAwait(false);
        }
        catch (IOException failed) when (!IsClosed && !cancellationToken.IsCancellationRequested && IsPeersEnd(failed))
        {
            StartWatch();
            if (Volatile.Read(ref _watch) is { } watch)
            {
                await watch.Task.WaitAsync(cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }

            ThrowAlert();
            throw;
        }
    }

    /// <summary>Then a read ends at once.</summary>
    static bool IsPeersEnd(Exception error)
    {
        for (var at = error; at is not null; at = at.InnerException)
        {
            if (at is SocketException { SocketErrorCode: SocketError.ConnectionReset or SocketError.Shutdown or SocketError.ConnectionAborted })
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The alert was taken by the watch; the handler should see it, too.</summary>
    void ThrowAlert()
    {
        if (_endCause is { } said && BytesRead == 0 && TlsAlert.IsTlsFailure(said))
        {
            throw new IOException(said.Message, said.InnerException);
        }
    }
}
