namespace Warmline.Scheduling;

/// <summary>Requests that a provider counts together: those of one credential to one origin, and where it is known of one model.</summary>
/// <param name="Origin">The origin.</param>
/// <param name="Credential">A number that stands for the credential in this process alone.</param>
/// <param name="Model">The model; empty when it is not known.</param>
internal sealed record BudgetKey(string Origin, int Credential, string Model);

/// <summary>What a provider lets through, and the keys where requests may wait for it.</summary>
internal sealed class BudgetState(BudgetKey key) : Timed
{
    public BudgetKey Key { get; } = key;

    public ProviderBudget Rules { get; } = new();

    public HashSet<KeyState> Keys { get; } = [];

    /// <summary>What of it a key's waiters were counted to take, while they are counted.</summary>
    public int Allotted { get; set; }
}

/// <summary>What the last answer of a key said that was looked at, where nothing is paced by it.</summary>
internal sealed record ToldLimits(RateLimits Limits, TimeSpan At)
{
    public IReadOnlyList<ProviderLimit> Report(TimeSpan now)
    {
        var age = now > At ? now - At : TimeSpan.Zero;
        var report = new List<ProviderLimit>();
        foreach (var kind in Enum.GetValues<RateLimitKind>())
        {
            if (Limits[kind] is { } limit)
            {
                report.Add(new ProviderLimit(kind, limit.Limit, limit.Remaining, limit.ResetIn is { } resetIn && resetIn > age ? resetIn - age : null, age));
            }
        }

        return report;
    }
}
