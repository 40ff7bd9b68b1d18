using System.Diagnostics;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>The end of a pool: drain, then dispose.</summary>
internal sealed partial class PoolEngine : IAsyncDisposable
{
    static readonly TimeSpan DrainReport = TimeSpan.FromSeconds(15);

    /// <summary>What the end of the connections takes at most, if the host lets it: a peer that does not answer is reset after 2 s.</summary>
    static readonly TimeSpan LongestEnd = TimeSpan.FromSeconds(5);

    readonly TaskCompletionSource _leasesEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly TaskCompletionSource _connectionsClosed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    bool _disposed;

    /// <summary>Takes nothing new, waits for what runs, cuts what is left at the deadline.</summary>
    public async Task<IReadOnlyList<StreamInfo>> DrainAsync(TimeSpan deadline, PoolRejectionReason reason, CancellationToken cancellationToken)
    {
        var isFirst = !_takesNothing;   // a dispose drains once more what is drained already
        _takesNothing = true;
        if (isFirst)
        {
            var stats = GetStats();
            LogMessages.DrainBegins(_logger, stats.Active, stats.Connections);
        }

        Play(reason, static (scheduler, _, now, actions) => scheduler.Drain(now, actions));
        await WithinAsync(_connector.StopAsync(), cancellationToken).ConfigureAwait(false);
        await UntilLeasesEndAsync(deadline, cancellationToken).ConfigureAwait(false);
        var running = Read(static (scheduler, _) => scheduler.Leased().Cast<PooledCall>().ToArray());
        StreamInfo[] cut = [.. running.Select(call => call.Describe(Now))];
        foreach (var call in running)
        {
            Safely((call, reason), static (_, cut) => cut.call.Abort(cut.reason));   // one that fails must not keep the others
        }

        if (cut.Length > 0)
        {
            LogMessages.DrainCut(_logger, cut.Length);
        }

        // What was cut and its caller does not look at any more still holds its stream: closing the transport ends it there too. Only these: what carries nothing is being
        // closed in good order already, which a cut at the same moment would spoil.
        foreach (var slot in Read(static (scheduler, _) => scheduler.Keys.SelectMany(key => key.Connections).Where(connection => connection.Streams > 0)
            .Select(connection => connection.Slot).OfType<Slot>().ToArray()))
        {
            Safely(slot, static (_, slot) => slot.Cut());
        }

        await WithinAsync(_connectionsClosed.Task, cancellationToken).ConfigureAwait(false);
        return cut;
    }

    /// <summary>A dial may be within code of the host, such as a logger or a certificate callback, that blocks, or that waits for this very end. It is over when that code returns.</summary>
    async Task WithinAsync(Task ending, CancellationToken cancellationToken)
    {
        try
        {
            await ending.WaitAsync(LongestEnd, _time, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // Its connection closes as soon as the dial goes on.
        }
    }

    /// <summary>Until the last call has ended or the deadline is over; a drain of minutes says now and then what it waits for.</summary>
    async Task UntilLeasesEndAsync(TimeSpan deadline, CancellationToken cancellationToken)
    {
        var end = deadline == Timeout.InfiniteTimeSpan || deadline > TimeSpan.MaxValue - Now ? TimeSpan.MaxValue : Now + deadline;
        while (true)
        {
            var left = end - Now;
            var wait = left < TimeSpan.Zero ? TimeSpan.Zero : left < DrainReport ? left : DrainReport;
            try
            {
                await _leasesEnded.Task.WaitAsync(wait, _time, cancellationToken).ConfigureAwait(false);
                return;
            }
            catch (TimeoutException)
            {
                if (wait == left || wait == TimeSpan.Zero)
                {
                    return;
                }
            }

            var (running, oldest) = Read(static (scheduler, now) => (scheduler.Leases, now - scheduler.Leased().Select(call => call.GrantedAt).DefaultIfEmpty(now).Min()));
            LogMessages.DrainGoesOn(_logger, running, oldest.TotalSeconds);
        }
    }

    void NoteEnds()
    {
        Debug.Assert(_gate.IsHeldByCurrentThread);
        if (_scheduler.IsDraining && _scheduler.Leases == 0)
        {
            _leasesEnded.TrySetResult();
        }

        if (_scheduler.IsDraining && _scheduler.Permits.InUse == 0)
        {
            _connectionsClosed.TrySetResult();
        }
    }
}
