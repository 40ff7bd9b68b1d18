namespace Warmline.Scheduling;

/// <summary>An object with a timer: a waiter's deadline, a connection's expiry, a key's back-off.</summary>
internal abstract class Timed
{
    public int TimerPlace = -1;

    public TimeSpan Due { get; set; } = TimeSpan.MaxValue;

    internal struct ByDue : IHeapOrder<Timed>
    {
        public static bool Before(Timed left, Timed right) => left.Due < right.Due;

        public static ref int Place(Timed item) => ref item.TimerPlace;
    }
}
