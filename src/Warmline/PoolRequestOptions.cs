namespace Warmline;

/// <summary>What one call, or all calls of one client, want of the pool. The nearest wins: the request's own options, then <see cref="Use"/>, then the client's defaults.</summary>
public sealed class PoolRequestOptions
{
    static readonly AsyncLocal<PoolRequestOptions?> Scope = new();

    /// <summary>The longest wait for a place. None by default: then <see cref="PoolTimeouts.Pool"/> rules. Range: above 0, or infinite.</summary>
    public TimeSpan? MaxQueueTime { get; init; }

    /// <summary>Clocks that differ from the pool's; those left unset fall back to it. <see cref="PoolTimeouts.Connect"/> is the pool's alone and must be left unset.</summary>
    public PoolTimeouts? Timeouts { get; init; }

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
