using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace Warmline;

/// <summary>
/// The host's logger, as the pool uses it: what it throws costs the message and nothing else. The pool logs in the midst of its own steps,
/// on timers and on threads where an exception would end the process.
/// </summary>
[SuppressMessage("Design", "CA1031", Justification = "A logger may throw anything.")]
internal sealed class QuietLogger(ILogger inner) : ILogger
{
    /// <summary>The logger of a category; one that logs nothing if there is none, or if it cannot be made.</summary>
    public static ILogger Of(ILoggerFactory? factory, string category)
    {
        try
        {
            return factory?.CreateLogger(category) is { } logger ? new QuietLogger(logger) : NullLogger.Instance;
        }
        catch (Exception)
        {
            return NullLogger.Instance;
        }
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull
    {
        try
        {
            return inner.BeginScope(state);
        }
        catch (Exception)
        {
            return null;
        }
    }

    public bool IsEnabled(LogLevel logLevel)
    {
        try
        {
            return inner.IsEnabled(logLevel);
        }
        catch (Exception)
        {
            return false;
        }
    }

    public void Log<TState>(
        LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        try
        {
            inner.Log(logLevel, eventId, state, exception, formatter);
        }
        catch (Exception)
        {
            // A failing logger only loses its message.
        }
    }
}
