using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>The entries that have no caller: timers, the thread pool, finalizers. An exception there would end the process.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>A timer of the pool's. What goes wrong in its callback is logged.</summary>
    ITimer CreateTimer(Action<PoolEngine> work, TimeSpan due, TimeSpan period) =>
        _time.CreateTimer(static state => ((Entry)state!).Run(), new Entry(this, work), due, period);

    /// <summary>Runs what must not throw, and logs what it throws all the same.</summary>
    void Safely<T>(T state, Action<PoolEngine, T> work)
    {
        try
        {
            work(this, state);
        }
        catch (Exception error)
        {
            LogFault(error);
        }
    }

    /// <summary>Safe even if the supplied logger throws.</summary>
    void LogFault(Exception fault)
    {
        try
        {
            LogMessages.InternalFault(_logger, fault);
        }
        catch (Exception)
        {
            // Nobody is left who could be told.
        }
    }

    /// <summary>What is known of a connection once it is dialled; before the event that makes it known to others.</summary>
    public void SetDialed(ConnectionState connection, DialedConnection dialed)
    {
        lock (_gate)
        {
            connection.Address = dialed.RemoteEndPoint?.Address;
            connection.LocalAddress = dialed.LocalAddress;
        }
    }

    sealed class Entry(PoolEngine engine, Action<PoolEngine> work)
    {
        public void Run() => engine.Safely(work, static (engine, work) => work(engine));
    }
}
