using System.Runtime.InteropServices;

namespace Warmline.MockLlm;

/// <summary>
/// Waits that end within a fraction of a millisecond. The timers of .NET have a resolution of a millisecond and share the pool's timer
/// thread; a simulated call crosses the network six times and more, and that lateness would add up. So one thread of its own keeps a queue
/// by due time and sleeps in between (on Linux with the kernel's high-resolution timer, elsewhere to the next millisecond). Never early.
/// </summary>
/// <param name="time">The clock.</param>
/// <param name="isSystemClock">Only the system's clock can be slept on; any other is asked to wait by its own timers.</param>
internal sealed partial class DelayScheduler(TimeProvider time, bool isSystemClock) : IDisposable
{
    readonly Lock _lock = new();
    readonly PriorityQueue<TaskCompletionSource, long> _queue = new();
    Sleeper? _sleeper;
    bool _disposed;

    public TimeProvider Time => time;

    public long Now => time.GetTimestamp();

    public TimeSpan Elapsed(long since) => time.GetElapsedTime(since);

    public long Add(long timestamp, TimeSpan delay) => timestamp + (long)(delay.Ticks * ((double)time.TimestampFrequency / TimeSpan.TicksPerSecond));

    public ValueTask DelayAsync(TimeSpan delay, CancellationToken cancellationToken) =>
        delay <= TimeSpan.Zero ? ValueTask.CompletedTask : UntilAsync(Add(Now, delay), cancellationToken);

    public async ValueTask UntilAsync(long due, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var now = Now;
        if (now >= due)
        {
            return;
        }

        if (!isSystemClock)
        {
            await Task.Delay(time.GetElapsedTime(now, due), time, cancellationToken).ConfigureAwait(false);
            return;
        }

        var waiter = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Enqueue(waiter, due);
        using (cancellationToken.UnsafeRegister(static (state, token) => ((TaskCompletionSource)state!).TrySetCanceled(token), waiter))
        {
            await waiter.Task.ConfigureAwait(false);
        }
    }

    void Enqueue(TaskCompletionSource waiter, long due)
    {
        lock (_lock)
        {
            if (_disposed)
            {
                waiter.TrySetResult(); // nothing is simulated any more
                return;
            }

            if (_sleeper is null)
            {
                _sleeper = new Sleeper();
                new Thread(Run) { IsBackground = true, Name = "mock network delay" }.Start(_sleeper);
            }

            var first = !_queue.TryPeek(out _, out var earliest) || due < earliest;
            _queue.Enqueue(waiter, due);
            if (first)
            {
                _sleeper.Wake(); // under the lock, or the thread could have ended and closed what we wake
            }
        }
    }

    void Run(object? state)
    {
        using var sleeper = (Sleeper)state!;
        var ready = new List<TaskCompletionSource>();
        while (true)
        {
            TimeSpan? sleep = null;
            lock (_lock)
            {
                var now = Now;
                while (_queue.TryPeek(out var waiter, out var due))
                {
                    if (due > now && !_disposed)
                    {
                        sleep = time.GetElapsedTime(now, due);
                        break;
                    }

                    _queue.Dequeue();
                    ready.Add(waiter);
                }

                if (_disposed && ready.Count == 0)
                {
                    _sleeper = null;
                    return;
                }
            }

            if (ready.Count == 0)
            {
                sleeper.Sleep(sleep);
                continue;
            }

            foreach (var waiter in ready)
            {
                waiter.TrySetResult();
            }

            ready.Clear();
        }
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            _sleeper?.Wake();
        }
    }

    /// <summary>A sleep that can be ended early, with the finest resolution the platform gives.</summary>
    sealed partial class Sleeper : IDisposable
    {
        readonly int _eventFd = OperatingSystem.IsLinux() ? eventfd(0, 0) : -1;
        readonly SemaphoreSlim _fallback = new(0);

        public unsafe void Sleep(TimeSpan? duration)
        {
            if (_eventFd < 0)
            {
                _fallback.Wait(duration is { } d ? (int)Math.Min(Math.Ceiling(d.TotalMilliseconds), int.MaxValue) : Timeout.Infinite);
                return;
            }

            var poll = new PollFd { Fd = _eventFd, Events = PollIn };
            var ticks = (duration ?? TimeSpan.Zero).Ticks;
            var limit = new TimeSpec { Seconds = (nint)(ticks / TimeSpan.TicksPerSecond), Nanoseconds = (nint)(ticks % TimeSpan.TicksPerSecond * 100) };
            if (ppoll(&poll, 1, duration is null ? null : &limit, null) > 0)
            {
                ulong drained;
                _ = read(_eventFd, &drained, sizeof(ulong));
            }
        }

        public unsafe void Wake()
        {
            if (_eventFd < 0)
            {
                _fallback.Release();
                return;
            }

            ulong one = 1;
            _ = write(_eventFd, &one, sizeof(ulong));
        }

        public void Dispose()
        {
            if (_eventFd >= 0)
            {
                _ = close(_eventFd);
            }

            _fallback.Dispose();
        }

        const short PollIn = 1;

        struct PollFd
        {
            public int Fd;
            public short Events;
            public short Returned;
        }

        struct TimeSpec
        {
            public nint Seconds;
            public nint Nanoseconds;
        }

        [LibraryImport("libc")]
        private static partial int eventfd(uint initial, int flags);

        [LibraryImport("libc")]
        private static unsafe partial int ppoll(PollFd* fds, nuint count, TimeSpec* timeout, void* signals);

        [LibraryImport("libc")]
        private static unsafe partial nint read(int fd, void* buffer, nuint count);

        [LibraryImport("libc")]
        private static unsafe partial nint write(int fd, void* buffer, nuint count);

        [LibraryImport("libc")]
        private static partial int close(int fd);
    }
}
