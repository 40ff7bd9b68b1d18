namespace Warmline.Scheduling;

/// <summary>Identifies the calls that a provider counts together: one credential at one origin and, where it is known, one model.</summary>
/// <param name="Origin">The origin.</param>
/// <param name="Credential">A number that stands for the credential within this process.</param>
/// <param name="Model">The model; empty when it is not known.</param>
internal sealed record BudgetKey(string Origin, int Credential, string Model);

/// <summary>One provider budget, and the keys on which calls may wait for it.</summary>
internal sealed class BudgetState(BudgetKey key) : Timed
{
    public BudgetKey Key { get; } = key;

    public ProviderBudget Rules { get; } = new();

    public HashSet<KeyState> Keys { get; } = [];

    /// <summary>The part already assigned to waiters while the waiters of a key are being counted.</summary>
    public int Allotted { get; set; }
}

/// <summary>The rate-limit headers of the last sampled answer of a key. Used only for display, where pacing is off.</summary>
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
                TimeSpan? left = limit.ResetIn is { } resetIn && resetIn > age ? resetIn - age : null;
                report.Add(new ProviderLimit(kind, limit.Limit, limit.Remaining, left, age));
            }
        }

        return report;
    }
}
