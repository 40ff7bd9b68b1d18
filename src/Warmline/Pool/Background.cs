using Microsoft.Extensions.Logging;

namespace Warmline.Pool;

/// <summary>
/// Work that has no caller: timers, work items, finalizers. An exception there would end the process, so it is logged. Such work carries no
/// caller's context.
/// </summary>
internal sealed class Background(ILogger logger, TimeProvider time)
{
    /// <summary>Suppresses the flow of the execution context until the result is disposed.</summary>
    public static AsyncFlowControl? SuppressFlow() => ExecutionContext.IsFlowSuppressed() ? null : ExecutionContext.SuppressFlow();

    /// <summary>
    /// Queues work to the thread pool without any caller's context. Suppressing the flow would not be enough for an async method: it would
    /// still see the context until its first await.
    /// </summary>
    public static void Queue<T>(T state, Action<T> work) => ThreadPool.UnsafeQueueUserWorkItem(work, state, preferLocal: false);

    /// <summary>A timer whose callback may throw.</summary>
    public ITimer CreateTimer<T>(T state, Action<T> work, TimeSpan due, TimeSpan? period = null)
    {
        using (SuppressFlow())
        {
            return time.CreateTimer(static entry => ((IEntry)entry!).Run(), new Entry<T>(this, state, work), due, period
                ?? Timeout.InfiniteTimeSpan);
        }
    }

    /// <summary>Runs work, and logs what it throws.</summary>
    public void Run<T>(T state, Action<T> work)
    {
        try
        {
            work(state);
        }
        catch (Exception error)
        {
            LogFault(error);
        }
    }

    /// <summary>Safe even if the logger throws.</summary>
    public void LogFault(Exception fault)
    {
        try
        {
            LogMessages.InternalFault(logger, fault);
        }
        catch (Exception)
        {
            // There is no one left to report it to.
        }
    }

    interface IEntry
    {
        void Run();
    }

    sealed class Entry<T>(Background background, T state, Action<T> work) : IEntry
    {
        public void Run() => background.Run(state, work);
    }
}
