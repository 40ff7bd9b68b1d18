namespace Warmline.Transport;

/// <summary>Timers as the pool sets them.</summary>
internal static class QuietTimer
{
    /// <summary>Sets a timer. After its end that does nothing: a call may return its lease after its pool was disposed, and not every clock
    /// lets an ended timer be set.</summary>
    public static bool TrySet(this ITimer timer, TimeSpan due, TimeSpan period)
    {
        try
        {
            return timer.Change(due, period);
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
    }
}
