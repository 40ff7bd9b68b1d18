using System.Text;
using Microsoft.AspNetCore.Connections;

namespace Warmline.MockLlm;

/// <summary>
/// What scripts do to one connection, above TLS. One lock decides between a request that begins and an end that comes at the same moment:
/// either the request is processed and the end finds it running, or the end has come and the request is recorded as not processed.
/// </summary>
internal sealed class ConnectionFaults(MockConnection connection, DelayScheduler scheduler)
{
    /// <summary>As a frame it would be 16 MB long.</summary>
    internal const string NoHttp = "\u00ffthis is neither a status line nor a frame\r\n\r\n";

    readonly Lock _lock = new();
    PipeReaderTap? _input;
    GateWriter? _output;
    volatile State _state;
    int _running, _requests;
    long _idleSince;

    enum State
    {
        /// <summary>To Vanished or Closed.</summary>
        Serving,

        /// <summary>Reads and says nothing. To Closed.</summary>
        Vanished,

        /// <summary>The end.</summary>
        Closed,
    }

    public bool IsVanished => _state == State.Vanished;

    /// <summary>It ends by FIN, so nothing may reset it any more.</summary>
    public bool IsClosed => _state == State.Closed;

    /// <summary>Puts the gates between HTTP and what is below. False: it has ended already.</summary>
    public bool Attach(ConnectionContext context, PipeReaderTap input)
    {
        lock (_lock)
        {
            (_input, _output, _idleSince) = (input, new GateWriter(context.Transport.Output), scheduler.Now);
            context.Transport = new DuplexPipe(_input, _output);
            return _state == State.Serving;
        }
    }

    /// <summary>A request's head has come. False: it is not to be processed.</summary>
    /// <param name="stream">Its HTTP/2 stream.</param>
    /// <param name="number">Its number on the connection.</param>
    public bool TryBegin(int? stream, out int number)
    {
        var above = false;
        var order = stream is { } id ? connection.Http2?.Order(id, out above) : null;
        lock (_lock)
        {
            _requests++;
            number = order ?? _requests;
            if (above || _state != State.Serving)
            {
                return false;
            }

            _running++;
            return true;
        }
    }

    /// <summary>A request that had begun is over.</summary>
    public void Ended()
    {
        lock (_lock)
        {
            _running--;
            _idleSince = scheduler.Now;
        }
    }

    /// <summary>
    /// Bytes have come. Only a connection that is to vanish counts from there: what forgets a flow on the way knows nothing of requests.
    /// </summary>
    public void Touch()
    {
        if (connection.Plan is { IdleTimeout: not null, IdleFault: MockFault.Vanish })
        {
            lock (_lock)
            {
                _idleSince = scheduler.Now;
            }
        }
    }

    /// <summary>Waits for the idle time of the plan, if it has one.</summary>
    public async Task WatchIdleAsync(CancellationToken stop)
    {
        if (connection.Plan.IdleTimeout is not { } timeout)
        {
            return;
        }

        try
        {
            MockFault fault;
            while (true)
            {
                long due;
                lock (_lock)
                {
                    var now = scheduler.Now;
                    // A busy connection cannot be due before one whole time from now.
                    due = scheduler.Add(_running > 0 ? now : _idleSince, timeout);
                    if (_state != State.Serving)
                    {
                        return;
                    }

                    if (due <= now)
                    {
                        // Under the same lock, so that no request begins between the look and the end.
                        fault = Decide_NeedsLock(connection.Plan.IdleFault);
                        break;
                    }
                }

                await scheduler.UntilAsync(due, stop).ConfigureAwait(false);
            }

            Carry(fault);
        }
        catch (OperationCanceledException)
        {
            // The connection has ended before.
        }
    }

    /// <summary>Does it now. From any thread, any number of times.</summary>
    public void Fail(MockFault fault)
    {
        lock (_lock)
        {
            if (_state == State.Closed || (_state == State.Vanished && fault is not MockFault.Reset and not MockFault.Fin))
            {
                return;
            }

            fault = Decide_NeedsLock(fault);
        }

        Carry(fault);
    }

    MockFault Decide_NeedsLock(MockFault fault)
    {
        // GOAWAY goes on serving; HTTP/1.1, which has none, ends at once where nothing runs.
        fault = fault == MockFault.GoAway && connection.Http2 is null && _running == 0 ? MockFault.Fin : fault;
        _state = fault switch { MockFault.Fin or MockFault.Reset => State.Closed, MockFault.Vanish => State.Vanished, _ => _state };
        return fault;
    }

    void Carry(MockFault fault)
    {
        switch (fault)
        {
            case MockFault.GoAway when connection.Http2 is { } tap:
                tap.GoAway();
                break;
            case MockFault.GoAway:
                connection.CloseAfterAnswer = true;
                break;
            case MockFault.Vanish:
                _output?.Mute();
                break;
            case MockFault.Reset:
                connection.AbortNow("scripted reset");
                _ = connection.Broken.CancelAsync();   // not here: whoever waits for it may write into what we stand in
                break;
            default:
                connection.EndedBy(MockConnectionEnd.Server);
                // Kestrel reads an end, says what it likes to nobody, and goes in good order; TCP's FIN is all the client sees.
                _output?.Mute();
                _input?.End();
                _ = connection.Broken.CancelAsync();   // not here: whoever waits for it may write into what we stand in
                break;
        }
    }

    /// <summary>HTTP/1.1, from the handler: only so many more bytes leave.</summary>
    public void CutAfter(long bytes) => _output!.CutAfter(bytes);

    /// <summary>From a handler that has written nothing: bytes that are no HTTP, then FIN.</summary>
    public async Task AnswerGarbageAsync()
    {
        var garbage = Encoding.Latin1.GetBytes(NoHttp);
        if (connection.Http2 is { } tap)
        {
            await tap.InjectAsync(garbage).ConfigureAwait(false);
        }
        else
        {
            await _output!.WriteAsync(garbage).ConfigureAwait(false);
        }

        Fail(MockFault.Fin);
    }
}
