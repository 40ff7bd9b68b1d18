namespace Warmline.Scheduling;

/// <summary>A call of WarmUpAsync under way.</summary>
internal sealed class WarmUp(int target)
{
    public int Target { get; } = target;

    /// <summary>Connections of the key that were ready when it ended.</summary>
    public int Ready { get; set; }

    /// <summary>The dial error that ended it early, if any.</summary>
    public Exception? Error { get; set; }

    public PoolRejectionReason Reason { get; set; }

    /// <summary>The shell's completion.</summary>
    public TaskCompletionSource Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
}
