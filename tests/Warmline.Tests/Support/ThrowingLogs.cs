using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace Warmline.Tests.Support;

/// <summary>Loggers that throw where a test says so.</summary>
internal sealed class ThrowingLogs : ILoggerFactory, ILogger
{
    readonly ConcurrentQueue<EventId> _events = new();
    int _count;

    /// <summary>Whether the message of this number throws: 1 for the first.</summary>
    public Func<int, EventId, bool> Throws { get; set; } = (_, _) => true;

    /// <summary>Also the looks at the level, and the scopes.</summary>
    public bool AtLevels { get; set; }

    public bool AtCreation { get; set; }

    /// <summary>Every message, those that threw included.</summary>
    public IReadOnlyList<EventId> Events => [.. _events];

    public ILogger CreateLogger(string categoryName) => AtCreation ? throw Full() : this;

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => AtLevels ? throw Full() : null;

    public bool IsEnabled(LogLevel logLevel) => AtLevels ? throw Full() : true;

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        _events.Enqueue(eventId);
        if (Throws(Interlocked.Increment(ref _count), eventId))
        {
            throw Full();
        }
    }

    public void Dispose()
    {
    }

    static IOException Full() => new("The event log file is full.");
}
