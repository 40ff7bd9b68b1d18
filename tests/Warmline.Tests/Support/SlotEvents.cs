using Warmline.Transport;

namespace Warmline.Tests.Support;

/// <summary>Writes down what a slot tells its owner.</summary>
internal sealed class SlotEvents : ISlotOwner
{
    readonly Lock _lock = new();
    readonly List<string> _events = [];
    readonly List<(string Event, TaskCompletionSource Seen)> _waiting = [];

    public IReadOnlyList<string> All
    {
        get
        {
            lock (_lock)
            {
                return [.. _events];
            }
        }
    }

    public Action<string>? OnEvent { get; set; }

    /// <summary>How the connection ended, once "closing" was seen.</summary>
    public ConnectionEnd? End { get; private set; }

    public void SettingsSeen(Slot slot, int maxConcurrentStreams) => Add($"settings {maxConcurrentStreams}");

    public void Closing(Slot slot, ConnectionEnd end)
    {
        End = end;
        Add("closing");
    }

    public void Closed(Slot slot) => Add("closed");

    /// <summary>Completes when the event was seen, now or earlier.</summary>
    public Task SeenAsync(string what)
    {
        lock (_lock)
        {
            if (_events.Contains(what))
            {
                return Task.CompletedTask;
            }

            var seen = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiting.Add((what, seen));
            return seen.Task;
        }
    }

    void Add(string what)
    {
        lock (_lock)
        {
            _events.Add(what);   // before what it starts, which may bring the next event
        }

        OnEvent?.Invoke(what);
        lock (_lock)
        {
            foreach ((_, TaskCompletionSource seen) in _waiting.Where(waiting => waiting.Event == what))
            {
                seen.TrySetResult();
            }
        }
    }
}
