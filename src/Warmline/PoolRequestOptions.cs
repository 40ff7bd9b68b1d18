namespace Warmline;

/// <summary>What one call, or all calls of one client, want of the pool. The nearest wins: the request's own options, then <see cref="Use"/>, then the client's defaults.</summary>
public sealed class PoolRequestOptions
{
    static readonly AsyncLocal<PoolRequestOptions?> Scope = new();

    /// <summary>The longest wait for a place. None by default: then <see cref="PoolTimeouts.Pool"/> rules. Range: above 0, or infinite.</summary>
    public TimeSpan? MaxQueueTime { get; init; }

    /// <summary>Clocks that differ from the pool's; those left unset fall back to it. <see cref="PoolTimeouts.Connect"/> is the pool's alone and must be left unset.</summary>
    public PoolTimeouts? Timeouts { get; init; }

    /// <summary>The class of traffic that the call belongs to: one of <see cref="ConnectionPoolOptions.Lanes"/>. None by default: then it is known by what the call asks for, as described there.
    /// A pool without lanes takes no notice; one that has lanes, but not this one, throws <see cref="ArgumentException"/>.</summary>
    public string? Lane { get; init; }

    /// <summary>Whom the call is made for, e.g. a customer: tenants share the pool fairly, see <see cref="ConnectionPoolOptions.Tenants"/>. It shows in figures and lists, so do not use a key. None by default.
    /// Range: 1 to 128 characters.</summary>
    public string? Tenant { get; init; }

    /// <summary>Who goes first among the waiting calls of one tenant in one lane: the higher number, then who came first. Default 0. Range: -10 to 10.</summary>
    public int? Priority { get; init; }

    internal bool IsChecked { get; set; }

    /// <summary>The options that <see cref="Use"/> set for the code that runs now.</summary>
    public static PoolRequestOptions? Current => Scope.Value;

    /// <summary>Sets the options for every call that is made until the result is disposed, in this asynchronous flow: for SDKs that do not show their request.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A time is out of range.</exception>
    public static IDisposable Use(PoolRequestOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        var outer = Scope.Value;
        Scope.Value = options;
        return new Restore(outer);
    }

    sealed class Restore(PoolRequestOptions? outer) : IDisposable
    {
        public void Dispose() => Scope.Value = outer;
    }
}

/// <summary>The pool's options on a request.</summary>
public static class PoolRequestExtensions
{
    static readonly HttpRequestOptionsKey<PoolRequestOptions> Key = new("Warmline.PoolRequestOptions");

    /// <summary>Sets what this request wants of the pool: <c>request.Options.SetPool(new PoolRequestOptions { … })</c>.</summary>
    public static void SetPool(this HttpRequestOptions requestOptions, PoolRequestOptions options)
    {
        ArgumentNullException.ThrowIfNull(requestOptions);
        requestOptions.Set(Key, options);
    }

    internal static PoolRequestOptions? GetPool(this HttpRequestMessage request) => request.Options.TryGetValue(Key, out var options) ? options : null;
}
