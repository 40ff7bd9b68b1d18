using System.Buffers;
using System.IO.Pipelines;
using System.Threading.Channels;

namespace Warmline.MockLlm;

/// <summary>
/// One direction of a simulated link: whatever enters leaves a fixed time later, in order, end included. Pipelined: many chunks travel at
/// the same time, each with its own due time, so the delay costs latency and no bandwidth. Checked against a real link of 25 ms each way.
/// </summary>
internal sealed class DelayLine
{
    /// <summary>
    /// Bytes under way before the sender has to wait: far more than a flow-control window, so it binds only where the receiver has stopped
    /// reading.
    /// </summary>
    internal const int Window = 4 * 1024 * 1024;

    readonly DelayScheduler _scheduler;
    readonly TimeSpan _delay;
    readonly long _notBefore;
    readonly PipeReader _from;
    readonly PipeWriter _to;
    readonly Channel<Chunk> _underWay = Channel.CreateUnbounded<Chunk>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
    readonly Lock _lock = new();
    int _bytesUnderWay;
    TaskCompletionSource? _room;

    /// <param name="scheduler">Gives the time and the waits.</param>
    /// <param name="from">Where bytes enter.</param>
    /// <param name="to">Where they leave; completed by the end of <paramref name="from"/>.</param>
    /// <param name="delay">The one-way delay.</param>
    /// <param name="notBefore">Bytes that enter earlier count as entered at this timestamp: they had to wait for the connection.</param>
    public DelayLine(DelayScheduler scheduler, PipeReader from, PipeWriter to, TimeSpan delay, long notBefore)
    {
        _scheduler = scheduler;
        _from = from;
        _to = to;
        _delay = delay;
        _notBefore = notBefore;
    }

    /// <summary>The sender has to wait.</summary>
    public bool IsFull
    {
        get
        {
            lock (_lock)
            {
                return _room is not null;
            }
        }
    }

    /// <summary>Runs until the end has been delivered, or until <paramref name="cut"/>: what is still under way then is lost.</summary>
    public Task RunAsync(CancellationToken cut) => Task.WhenAll(CollectAsync(), DeliverAsync(cut));

    async Task CollectAsync()
    {
        Exception? error = null;
        try
        {
            while (true)
            {
                var result = await _from.ReadAsync().ConfigureAwait(false);
                var due = Due();
                var length = (int)result.Buffer.Length;
                if (length > 0)
                {
                    var bytes = ArrayPool<byte>.Shared.Rent(length);
                    result.Buffer.CopyTo(bytes);
                    _underWay.Writer.TryWrite(new Chunk(bytes, length, due));
                }

                _from.AdvanceTo(result.Buffer.End);
                if (result.IsCompleted || result.IsCanceled)
                {
                    break;
                }

                if (length > 0)
                {
                    await EnterAsync(length).ConfigureAwait(false);
                }
            }
        }
        catch (Exception broken)
        {
            error = broken;
        }

        _underWay.Writer.TryWrite(new Chunk(null, 0, Due(), error));
        _underWay.Writer.Complete();
    }

    async Task DeliverAsync(CancellationToken cut)
    {
        var open = true;
        await foreach (var chunk in _underWay.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
        {
            try
            {
                if (open)
                {
                    await _scheduler.UntilAsync(chunk.Due, cut).ConfigureAwait(false);
                    if (chunk.Bytes is null)
                    {
                        await _to.CompleteAsync(chunk.Error).ConfigureAwait(false);
                    }
                    else
                    {
                        open = !(await _to.WriteAsync(chunk.Bytes.AsMemory(0, chunk.Length), cut).ConfigureAwait(false)).IsCompleted;
                    }
                }
            }
            catch (Exception)
            {
                // The receiver is gone. The rest is read and dropped, so that the sender is never stuck on it.
                open = false;
            }

            if (chunk.Bytes is not null)
            {
                ArrayPool<byte>.Shared.Return(chunk.Bytes);
                Leave(chunk.Length);
            }
        }
    }

    long Due() => _scheduler.Add(Math.Max(_scheduler.Now, _notBefore), _delay);

    Task EnterAsync(int bytes)
    {
        lock (_lock)
        {
            _bytesUnderWay += bytes;
            if (_bytesUnderWay <= Window)
            {
                return Task.CompletedTask;
            }

            _room = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            return _room.Task;
        }
    }

    void Leave(int bytes)
    {
        TaskCompletionSource? room = null;
        lock (_lock)
        {
            _bytesUnderWay -= bytes;
            if (_bytesUnderWay <= Window)
            {
                (room, _room) = (_room, null);
            }
        }

        room?.SetResult();
    }

    readonly record struct Chunk(byte[]? Bytes, int Length, long Due, Exception? Error = null);
}
