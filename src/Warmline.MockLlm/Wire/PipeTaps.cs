using System.Buffers;
using System.IO.Pipelines;
using System.Runtime.CompilerServices;

namespace Warmline.MockLlm;

internal sealed class DuplexPipe(PipeReader input, PipeWriter output) : IDuplexPipe
{
    public PipeReader Input => input;

    public PipeWriter Output => output;
}

/// <summary>Passes a reader through and shows every new byte once, before the consumer sees it. Copies nothing.</summary>
internal abstract class PipeReaderTap(PipeReader inner) : PipeReader
{
    ReadOnlySequence<byte> _last;
    long _shown;
    volatile bool _ended;
    bool _endGiven;

    protected PipeReader Inner => inner;

    /// <summary>
    /// An end that comes together with bytes is shown when these are consumed: for a consumer that takes whatever there is.
    /// </summary>
    protected virtual bool ShowsEndApart => false;

    protected abstract void OnBytes(ReadOnlySpan<byte> bytes);

    /// <param name="error">Null when the other side ended in good order.</param>
    protected virtual void OnEnd(Exception? error)
    {
    }

    /// <summary>From now on the consumer reads an end, whatever comes from below.</summary>
    public void End()
    {
        _ended = true;
        inner.CancelPendingRead();
    }

    public override ValueTask<ReadResult> ReadAsync(CancellationToken cancellationToken = default)
    {
        if (_ended)
        {
            return new ValueTask<ReadResult>(GiveEnd());
        }

        var read = inner.ReadAsync(cancellationToken);
        return read.IsCompletedSuccessfully ? new ValueTask<ReadResult>(Show(read.Result)) : Awaited(read);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    async ValueTask<ReadResult> Awaited(ValueTask<ReadResult> read)
    {
        try
        {
            return Show(await read.ConfigureAwait(false));
        }
        catch (Exception error) when (error is not OperationCanceledException)
        {
            OnEnd(error);
            throw;
        }
    }

    public override bool TryRead(out ReadResult result)
    {
        if (_ended)
        {
            result = GiveEnd();
            return true;
        }

        if (!inner.TryRead(out result))
        {
            return false;
        }

        result = Show(result);
        return true;
    }

    ReadResult GiveEnd()
    {
        _endGiven = true;
        return new ReadResult(ReadOnlySequence<byte>.Empty, isCanceled: false, isCompleted: true);
    }

    ReadResult Show(ReadResult result)
    {
        if (_ended)
        {
            inner.AdvanceTo(result.Buffer.End);
            return GiveEnd();
        }

        _last = result.Buffer;
        foreach (var segment in _last.Slice(_shown))
        {
            if (segment.Length > 0)
            {
                OnBytes(segment.Span);
            }
        }

        _shown = _last.Length;
        if (!result.IsCompleted)
        {
            return result;
        }

        if (ShowsEndApart && !result.Buffer.IsEmpty)
        {
            return new ReadResult(result.Buffer, result.IsCanceled, isCompleted: false);
        }

        OnEnd(null);
        return result;
    }

    public override void AdvanceTo(SequencePosition consumed) => AdvanceTo(consumed, consumed);

    public override void AdvanceTo(SequencePosition consumed, SequencePosition examined)
    {
        if (_endGiven)
        {
            return;   // the bytes of that result were nobody's
        }

        _shown -= _last.Slice(0, consumed).Length;
        _last = default;
        inner.AdvanceTo(consumed, examined);
    }

    public override void CancelPendingRead() => inner.CancelPendingRead();

    public override void Complete(Exception? exception = null) => inner.Complete(exception);
}

/// <summary>Passes a writer through and counts its bytes.</summary>
internal sealed class CountingPipeWriter(PipeWriter inner) : PipeWriter
{
    long _written;

    public long Written => Volatile.Read(ref _written);

    public override void Advance(int bytes)
    {
        Volatile.Write(ref _written, _written + bytes);
        inner.Advance(bytes);
    }

    public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
    {
        Volatile.Write(ref _written, _written + source.Length);
        return inner.WriteAsync(source, cancellationToken);
    }

    public override Memory<byte> GetMemory(int sizeHint = 0) => inner.GetMemory(sizeHint);

    public override Span<byte> GetSpan(int sizeHint = 0) => inner.GetSpan(sizeHint);

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default) => inner.FlushAsync(cancellationToken);

    public override bool CanGetUnflushedBytes => inner.CanGetUnflushedBytes;

    public override long UnflushedBytes => inner.UnflushedBytes;

    public override void CancelPendingFlush() => inner.CancelPendingFlush();

    public override void Complete(Exception? exception = null) => inner.Complete(exception);
}

/// <summary>Passes a writer through until told to stop: then everything is taken and dropped, as if it had been sent.</summary>
internal sealed class GateWriter(PipeWriter inner) : PipeWriter
{
    volatile bool _muted;
    long _left = long.MaxValue;

    /// <summary>Nothing more leaves. From any thread.</summary>
    public void Mute() => _muted = true;

    /// <summary>Only so many more bytes leave. From the writer's own thread.</summary>
    public void CutAfter(long bytes) => _left = bytes;

    public override void Advance(int bytes)
    {
        // What the writer wrote lies in the memory of the inner one: what is not advanced over is overwritten by what comes next.
        var passed = _muted ? 0 : (int)Math.Min(bytes, _left);
        _left -= passed;
        if (passed > 0)
        {
            inner.Advance(passed);
        }
    }

    public override Memory<byte> GetMemory(int sizeHint = 0) => inner.GetMemory(sizeHint);

    public override Span<byte> GetSpan(int sizeHint = 0) => inner.GetSpan(sizeHint);

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default) => _muted ? default : inner.FlushAsync(cancellationToken);

    public override bool CanGetUnflushedBytes => inner.CanGetUnflushedBytes;

    public override long UnflushedBytes => inner.UnflushedBytes;

    public override void CancelPendingFlush() => inner.CancelPendingFlush();

    public override void Complete(Exception? exception = null) => inner.Complete(exception);
}
