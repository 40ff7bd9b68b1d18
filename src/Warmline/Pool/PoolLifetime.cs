using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>Changes of the options, the drain, and the end of the pool.</summary>
internal sealed class PoolLifetime(PoolEngine pool, DrainProgress progress)
{
    static readonly TimeSpan DrainReport = TimeSpan.FromSeconds(15);

    /// <summary>
    /// Upper bound on the wait for connections to close, if code of the host allows it: a peer that does not answer is reset after 2 s.
    /// </summary>
    static readonly TimeSpan LongestEnd = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Held for the whole of an update, from the first look at the current settings: concurrent updates must not mix one update's settings
    /// with another's limits.
    /// </summary>
    readonly Lock _updateGate = new();

    readonly Lock _endGate = new();
    Task? _ending;
    volatile bool _takesNothing;
    volatile bool _isDisposed;

    /// <summary>New calls are refused: the pool drains or was disposed.</summary>
    public bool TakesNothing => _takesNothing;

    public bool IsDisposed => _isDisposed;

    /// <summary>Applies the settings. If that cannot be done while the pool runs, names what is fixed and changes nothing.</summary>
    public IReadOnlyList<string> TryUpdate(PoolSettings settings)
    {
        lock (_updateGate)
        {
            var before = pool.Settings;
            if (before.FixedIn(settings) is { Count: > 0 } fixedNames)
            {
                return fixedNames;
            }

            if (before.Enabled != settings.Enabled)
            {
                pool.Advice.LogSwitch(settings.Enabled);
            }

            pool.Core.Play((pool, settings: settings with { Name = pool.Name }), static (scheduler, update, now, actions) =>
            {
                update.pool.Settings = update.settings;   // under the lock: a reader sees both from the same update
                scheduler.LimitsChanged(SchedulerLimits.From(update.settings), now, actions);
            });
            pool.Leaks.ThresholdChanged();
            KeepWarm(settings.WarmConnections.Concat(before.WarmConnections.Keys.Except(settings.WarmConnections.Keys)
                .Select(static key => KeyValuePair.Create(key, 0))));
            return [];
        }
    }

    /// <summary>Keeps connections ready to each key.</summary>
    public void KeepWarm(IEnumerable<KeyValuePair<ConnectionKey, int>> connections)
    {
        foreach (var warm in connections)
        {
            pool.Core.Play(warm, static (scheduler, warm, now, actions) => scheduler.HoldWarm(warm.Key, warm.Value, now, actions));
        }
    }

    /// <summary>Takes nothing new, waits for what runs, cuts what is left at the deadline.</summary>
    public async Task<IReadOnlyList<StreamInfo>> DrainAsync(TimeSpan deadline, PoolRejectionReason reason,
        CancellationToken cancellationToken)
    {
        var isFirst = !_takesNothing;   // a dispose drains a drained pool once more
        _takesNothing = true;
        if (isFirst)
        {
            var stats = pool.GetStats();
            LogMessages.DrainBegins(pool.Logger, stats.Active, stats.Connections);
        }

        pool.Core.Play(reason, static (scheduler, _, now, actions) => scheduler.Drain(now, actions));
        await WithinAsync(pool.Connector.StopAsync(), cancellationToken).ConfigureAwait(false);
        await UntilLeasesEndAsync(deadline, cancellationToken).ConfigureAwait(false);
        var running = pool.Core.Read(static (scheduler, _) => scheduler.Leased().Cast<PooledCall>().ToArray());
        StreamInfo[] cut = [.. running.Select(call => call.Describe(pool.Now))];
        foreach (var call in running)
        {
            pool.Background.Run((call, reason), static cut => cut.call.Abort(cut.reason));   // one that fails must not keep the others
        }

        if (cut.Length > 0)
        {
            LogMessages.DrainCut(pool.Logger, cut.Length);
        }

        // A call that was cut still holds its stream while its caller does not look at it: closing the transport ends the stream there too.
        // Only these connections: those that carry nothing are being closed gracefully, which a cut at the same moment would spoil.
        foreach (var slot in pool.Core.Read(static (scheduler, _) => scheduler.Keys.SelectMany(key => key.Connections)
            .Where(connection => connection.Streams > 0).Select(connection => connection.Slot).OfType<Slot>().ToArray()))
        {
            pool.Background.Run(slot, static slot => slot.Cut());
        }

        await WithinAsync(progress.ConnectionsClosed, cancellationToken).ConfigureAwait(false);
        return cut;
    }

    /// <summary>Runs once regardless of callers, and again if an attempt failed.</summary>
    public ValueTask DisposeAsync()
    {
        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_endGate)
        {
            _isDisposed = true;
            if (_ending is { IsFaulted: false } running)
            {
                return new ValueTask(running);   // later callers wait for the first
            }

            _ending = end.Task;
        }

        _ = EndAsync(end);
        return new ValueTask(end.Task);
    }

    /// <summary>Every step may be taken again.</summary>
    async Task EndAsync(TaskCompletionSource end)
    {
        try
        {
            await DrainAsync(TimeSpan.Zero, PoolRejectionReason.Disposed, CancellationToken.None).ConfigureAwait(false);
            await pool.DisposePartsAsync().ConfigureAwait(false);
            end.SetResult();
        }
        catch (Exception error)
        {
            end.SetException(error);
            _ = end.Task.Exception;   // observed: the caller may not wait
        }
    }

    /// <summary>
    /// A dial may be inside code of the host, such as a logger or a certificate callback, that blocks, or that waits for this very end. It
    /// is over when that code returns.
    /// </summary>
    async Task WithinAsync(Task ending, CancellationToken cancellationToken)
    {
        try
        {
            await ending.WaitAsync(LongestEnd, pool.Time, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // Its connection closes as soon as the dial goes on.
        }
    }

    /// <summary>Until the last call has ended or the deadline is over. A drain of minutes logs now and then what it waits for.</summary>
    async Task UntilLeasesEndAsync(TimeSpan deadline, CancellationToken cancellationToken)
    {
        var end = deadline == Timeout.InfiniteTimeSpan || deadline > TimeSpan.MaxValue - pool.Now ? TimeSpan.MaxValue : pool.Now + deadline;
        while (true)
        {
            var left = end - pool.Now;
            var wait = left < TimeSpan.Zero ? TimeSpan.Zero : left < DrainReport ? left : DrainReport;
            try
            {
                await progress.LeasesEnded.WaitAsync(wait, pool.Time, cancellationToken).ConfigureAwait(false);
                return;
            }
            catch (TimeoutException)
            {
                if (wait == left || wait == TimeSpan.Zero)
                {
                    return;
                }
            }

            var (running, oldest) = pool.Core.Read(static (scheduler, now) =>
                (scheduler.Leases, now - scheduler.Leased().Select(call => call.GrantedAt).DefaultIfEmpty(now).Min()));
            LogMessages.DrainGoesOn(pool.Logger, running, oldest.TotalSeconds);
        }
    }
}
