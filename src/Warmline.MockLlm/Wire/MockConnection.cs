using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;

namespace Warmline.MockLlm;

/// <summary>
/// A connection as the layers above the simulated link see it: same features and addresses as Kestrel's, but bytes, the end and an abort
/// pass through the link, and who closed first is remembered.
/// </summary>
internal sealed class MockConnection : ConnectionContext
{
    readonly ConnectionContext _inner;
    readonly DelayScheduler _scheduler;
    readonly TimeSpan _oneWay;
    readonly TaskCompletionSource _inputEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly CountingPipeWriter _counter;
    long _sentAtLastRead;
    int _end, _served, _tlsSawEnd, _closeNotify;

    public MockConnection(long id, ConnectionContext inner, DelayScheduler scheduler, TimeSpan oneWay)
    {
        Id = id;
        _inner = inner;
        _scheduler = scheduler;
        _oneWay = oneWay;
        _counter = new CountingPipeWriter(inner.Transport.Output);
        Transport = new DuplexPipe(new Observer(inner.Transport.Input, this), _counter);
#pragma warning disable CS0618 // Obsolete because not every reader calls back; the pipe under Kestrel's sockets does.
        inner.Transport.Input.OnWriterCompleted(static (error, state) => ((MockConnection)state!).OnInputEnded(error), this);
#pragma warning restore CS0618
        Faults = new ConnectionFaults(this, scheduler);
        Items = inner.Items;
        ConnectionClosed = inner.ConnectionClosed;
    }

    public long Id { get; }

    public MockConnectionPlan Plan { get; set; } = new();

    public bool HandshakeDone { get; set; }

    public Http2Tap? Http2 { get; set; }

    public ConnectionFaults Faults { get; }

    /// <summary>Cancelled when a script has closed the connection: its handlers have nobody to answer to.</summary>
    public CancellationTokenSource Broken { get; } = new();

    /// <summary>HTTP/1.1: a script ends it after the answer that runs.</summary>
    public bool CloseAfterAnswer { get; set; }

    // These five belong to the lock of the CounterBoard.
    public string? Protocol;
    public int Requests, StreamsOpen, PeakStreams;
    public bool TlsResumed;

    /// <summary>
    /// Bytes sent before the last bytes were received: at the end of a handshake that is the server's flight without the session tickets.
    /// </summary>
    public long SentBeforeLastRead => Volatile.Read(ref _sentAtLastRead);

    public MockConnectionEnd End => (MockConnectionEnd)Volatile.Read(ref _end);

    public override IDuplexPipe Transport { get; set; }

    public override CancellationToken ConnectionClosed { get; set; }

    public override IDictionary<object, object?> Items { get; set; }

    public override IFeatureCollection Features => _inner.Features;

    public override string ConnectionId { get => _inner.ConnectionId; set => _inner.ConnectionId = value; }

    public override EndPoint? LocalEndPoint { get => _inner.LocalEndPoint; set => _inner.LocalEndPoint = value; }

    public override EndPoint? RemoteEndPoint { get => _inner.RemoteEndPoint; set => _inner.RemoteEndPoint = value; }

    public MockConnectionRecord ToRecord() => new(Id, Protocol, Requests, StreamsOpen, PeakStreams, TlsResumed, End, CloseNotify);

    /// <summary>TLS ended in good order: its end came before that of the bytes below it.</summary>
    public bool CloseNotify => Volatile.Read(ref _closeNotify) != 0;

    /// <summary>It would not end by itself when the server stops: a request runs, or a script keeps it silent.</summary>
    public bool IsBusy =>
        Volatile.Read(ref StreamsOpen) > 0 || Faults.IsVanished || Faults.IsClosed || Http2 is { ClientLeaves: true } || Plan.Act is MockConnectionAct.Silent or MockConnectionAct.SilentAfterTls || ((!HandshakeDone || CloseNotify) && End == MockConnectionEnd.Open);

    /// <summary>Counts an answered request; the count with it.</summary>
    public int ServedOne() => Interlocked.Increment(ref _served);

    /// <summary>The first end counts: after our own close the peer's answer to it says nothing.</summary>
    public void EndedBy(MockConnectionEnd end) => Interlocked.CompareExchange(ref _end, (int)end, (int)MockConnectionEnd.Open);

    public override void Abort(ConnectionAbortedException abortReason)
    {
        if (Faults.IsClosed)
        {
            return;   // it is on its way to a FIN, or reset already
        }

        if (End is MockConnectionEnd.ClientFin or MockConnectionEnd.ClientReset && Volatile.Read(ref StreamsOpen) == 0)
        {
            // Kestrel aborts also because the client has gone. Nothing runs that an abort could free, everything above reads the end by
            // itself; and an abort would show the client our FIN before the connection is counted as closed.
            return;
        }

        EndedHere();
        if (_oneWay > TimeSpan.Zero)
        {
            _ = AbortLaterAsync(abortReason);
        }
        else
        {
            _inner.Abort(abortReason);
        }
    }

    async Task AbortLaterAsync(ConnectionAbortedException reason)
    {
        await _scheduler.DelayAsync(_oneWay, CancellationToken.None).ConfigureAwait(false);
        _inner.Abort(reason);
    }

    /// <summary>Reset without the link's delay: for scripts and for the server's own end.</summary>
    public void AbortNow(string why)
    {
        EndedBy(MockConnectionEnd.Server);
        _inner.Abort(new ConnectionAbortedException(why));
    }

    /// <summary>Completes when the client has closed or the server has aborted.</summary>
    public async Task UntilClosedAsync()
    {
        var closed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using (ConnectionClosed.UnsafeRegister(static state => ((TaskCompletionSource)state!).TrySetResult(), closed))
        {
            await closed.Task.ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Our side ends the connection now, unless the client has done so before: then <see cref="OnInputEnded"/> knows how.
    /// </summary>
    public void EndedHere()
    {
        if (!_inner.ConnectionClosed.IsCancellationRequested && !CloseNotify)   // after close_notify the FIN is on its way
        {
            EndedBy(MockConnectionEnd.Server);
        }
    }

    /// <summary>After everything above has finished: makes sure that <see cref="End"/> says who closed.</summary>
    public Task SettleEndAsync()
    {
        EndedHere();
        return End == MockConnectionEnd.Open ? _inputEnded.Task : Task.CompletedTask;
    }

    /// <summary>
    /// Kestrel ends the input in good order for the client's FIN, with a reset for its RST, and with an abort when the end is ours.
    /// </summary>
    void OnInputEnded(Exception? error)
    {
        EndedBy(error switch
        {
            null => MockConnectionEnd.ClientFin,
            ConnectionResetException => MockConnectionEnd.ClientReset,
            _ => MockConnectionEnd.Server,
        });
        _inputEnded.TrySetResult();
    }

    /// <summary>What TLS reads. The end is shown apart from the last bytes: these may hold the close_notify.</summary>
    public PipeReader BelowTls(PipeReader input) => new Below(input, this);

    /// <summary>What HTTP reads: what TLS gives, or the bytes themselves.</summary>
    public AboveTap Above(PipeReader input, bool isTls) => new(input, this, isTls);

    sealed class Below(PipeReader inner, MockConnection connection) : PipeReaderTap(inner)
    {
        protected override bool ShowsEndApart => true;

        protected override void OnBytes(ReadOnlySpan<byte> bytes)
        {
        }

        protected override void OnEnd(Exception? error) => Volatile.Write(ref connection._tlsSawEnd, 1);
    }

    internal sealed class AboveTap(PipeReader inner, MockConnection connection, bool isTls) : PipeReaderTap(inner)
    {
        protected override void OnBytes(ReadOnlySpan<byte> bytes) => connection.Faults.Touch();

        protected override void OnEnd(Exception? error)
        {
            if (isTls && error is null && Volatile.Read(ref connection._tlsSawEnd) == 0)
            {
                Volatile.Write(ref connection._closeNotify, 1);
            }
        }

        static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

        /// <summary>Not yet: see <see cref="FinishAsync"/>.</summary>
        public override void Complete(Exception? exception = null)
        {
        }

        /// <summary>
        /// After everybody who reads. Kestrel stops reading when the client's GOAWAY or its FIN is known, and the client's close_notify may
        /// be there unread, or on its way behind the GOAWAY; so we look once more. After a GOAWAY we wait for it, else we take only what is
        /// there.
        /// </summary>
        public async Task FinishAsync()
        {
            const int Looks = 16;   // a client that goes on sending must not hold us
            try
            {
                var waits = connection.Http2 is { ClientLeaves: true };
                using var patience = waits ? new CancellationTokenSource(Patience, connection._scheduler.Time) : null;
                for (var i = 0; isTls && !connection.CloseNotify && i < Looks; i++)
                {
                    var read = Inner.ReadAsync(patience?.Token ?? CancellationToken.None);
                    var isPending = !read.IsCompleted && !waits;
                    if (isPending)
                    {
                        Inner.CancelPendingRead();
                    }

                    var result = await read.ConfigureAwait(false);
                    Inner.AdvanceTo(result.Buffer.End);
                    if (result.IsCompleted)
                    {
                        OnEnd(null);
                    }

                    // A read that was cancelled without us was so by Kestrel, when it stopped, and none of its own took that up.
                    if (result.IsCompleted || (result.IsCanceled && isPending))
                    {
                        break;
                    }
                }
            }
            catch (Exception)
            {
                // No end in good order.
            }

            await Inner.CompleteAsync().ConfigureAwait(false);
        }
    }

    /// <summary>
    /// Sees the end as early as whoever reads does; the end of an input that nobody reads comes by the pipe's own callback.
    /// </summary>
    sealed class Observer(PipeReader inner, MockConnection connection) : PipeReaderTap(inner)
    {
        protected override void OnBytes(ReadOnlySpan<byte> bytes) => Volatile.Write(ref connection._sentAtLastRead, connection._counter.Written);

        protected override void OnEnd(Exception? error) => connection.OnInputEnded(error);
    }
}
