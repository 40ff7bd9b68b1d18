using Warmline.Options;

namespace Warmline;

/// <summary>
/// What one call, or all calls of one client, want of the pool. Each property is taken from the nearest options that set it: the request's
/// own, then those of <see cref="Use"/> (an inner scope before those around it), then the client's defaults; of <see cref="Timeouts"/> each
/// clock by itself, and behind all of these come the lane's clocks and the pool's. So a client's defaults may name the lane, a scope the
/// tenant, and one request its priority.
/// </summary>
public sealed class PoolRequestOptions
{
    static readonly AsyncLocal<PoolRequestOptions?> Scope = new();

    /// <summary>
    /// The longest wait for a place; a shorter <see cref="PoolTimeouts.Pool"/> ends it before. None by default: then that rules alone.
    /// Range: above 0, 24 days at most, or infinite, which switches both off.
    /// </summary>
    public TimeSpan? MaxQueueTime { get; init; }

    /// <summary>
    /// Clocks that differ from the lane's and the pool's; those left unset fall back to them. <see cref="PoolTimeouts.Connect"/> is the
    /// pool's alone and must be left unset.
    /// </summary>
    public PoolTimeouts? Timeouts { get; init; }

    /// <summary>The class of traffic that the call belongs to: one of <see cref="ConnectionPoolOptions.Lanes"/>. None by default: then it
    /// is known by what the call asks for, as described there. A pool without lanes takes no notice; one that has lanes, but not this one,
    /// throws <see cref="ArgumentException"/>.</summary>
    public string? Lane { get; init; }

    /// <summary>Whom the call is made for, e.g. a customer: tenants share the pool fairly, see <see cref="ConnectionPoolOptions.Tenants"/>.
    /// It shows in figures and lists, so do not use a key. None by default. Range: 1 to 128 characters.</summary>
    public string? Tenant { get; init; }

    /// <summary>
    /// Who goes first among the waiting calls of one tenant in one lane: the higher number, then who came first. Default 0. Range: -10 to
    /// 10.
    /// </summary>
    public int? Priority { get; init; }

    /// <summary>
    /// Called once the call has its place on a connection, before anything is sent: use it to sign the request or to add a fresh token,
    /// however long the call has waited. None by default: then the pool's, <see cref="ConnectionPoolOptions.BeforeSend"/>.
    /// </summary>
    /// <remarks>
    /// <para>It runs once for each attempt: again before the pool sends a call a second time, for each hop of a redirect that is followed,
    /// and when the connection ended while it ran. So
    /// replace headers rather than adding them, and check <see cref="HttpRequestMessage.RequestUri"/> where a redirect may lead to another
    /// origin.</para>
    /// <para>It may change headers, the content's included, and read the content. If it changes the method, the address, the version, the
    /// content or the Host header, the call fails with <see cref="InvalidOperationException"/>. What it sets stays in the request.</para>
    /// <para>The call holds its place while the callback runs. Fetch tokens ahead where you can, and not through the same pool: otherwise
    /// the token call can wait for the place that this call holds, and both are stuck. <see cref="PoolTimeouts.Total"/>, the caller's token
    /// and the pool's end cancel the token that the callback is given, and end the call even if the callback ignores it; after that it must
    /// not touch the request. No other timeout applies.</para>
    /// <para>What it throws reaches the caller as it is. The place is given back unused and the connection kept.</para>
    /// </remarks>
    public Func<HttpRequestMessage, CancellationToken, ValueTask>? BeforeSend { get; init; }

    internal bool IsChecked { get; set; }

    /// <summary>The options that <see cref="Use"/> set for the code that runs now: within several scopes, all of them together.</summary>
    public static PoolRequestOptions? Current => Scope.Value;

    /// <summary>Sets the options for every call that is made until the result is disposed, in this asynchronous flow: for SDKs that do not
    /// show their request. What they leave unset stays as the scopes around have it.</summary>
    /// <exception cref="ArgumentException">Options are out of range; the message lists every problem.</exception>
    public static IDisposable Use(PoolRequestOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ConnectionPool.Check(options);
        var outer = Scope.Value;
        Scope.Value = outer is null ? options : options.Over(outer);
        return new Restore(outer);
    }

    PoolRequestOptions Over(PoolRequestOptions outer) => new()
    {
        MaxQueueTime = MaxQueueTime ?? outer.MaxQueueTime,
        Timeouts = Timeouts is { } own && outer.Timeouts is { } other ? own.Over(other) : Timeouts ?? outer.Timeouts,
        Lane = Lane ?? outer.Lane,
        Tenant = Tenant ?? outer.Tenant,
        Priority = Priority ?? outer.Priority,
        BeforeSend = BeforeSend ?? outer.BeforeSend,
        IsChecked = true,
    };

    sealed class Restore(PoolRequestOptions? outer) : IDisposable
    {
        public void Dispose() => Scope.Value = outer;
    }
}

/// <summary>What a call wants of the pool, of the options that apply to it: the nearest first.</summary>
internal readonly struct CallOptions(PoolRequestOptions? own, PoolRequestOptions? scope, PoolRequestOptions? defaults)
{
    public string? Lane => own?.Lane ?? scope?.Lane ?? defaults?.Lane;

    public string? Tenant => own?.Tenant ?? scope?.Tenant ?? defaults?.Tenant;

    public int Priority => own?.Priority ?? scope?.Priority ?? defaults?.Priority ?? 0;

    public Func<HttpRequestMessage, CancellationToken, ValueTask>? BeforeSend =>
        own?.BeforeSend ?? scope?.BeforeSend ?? defaults?.BeforeSend;

    /// <exception cref="ArgumentException">Options are out of range.</exception>
    public static CallOptions Of(HttpRequestMessage request, PoolRequestOptions? defaults)
    {
        var own = request.GetPool();
        if (own is not null)
        {
            ConnectionPool.Check(own);   // the others were checked when they were set
        }

        return new CallOptions(own, PoolRequestOptions.Current, defaults);
    }

    /// <summary>The call's clocks, over those of its lane or the pool.</summary>
    public CallTimeouts Over(CallTimeouts timeouts)
    {
        timeouts = timeouts.With(defaults?.Timeouts).With(scope?.Timeouts).With(own?.Timeouts);
        return (own?.MaxQueueTime ?? scope?.MaxQueueTime ?? defaults?.MaxQueueTime) is { } longest
            && (timeouts.Pool < TimeSpan.Zero || longest < timeouts.Pool)
            ? timeouts with { Pool = longest, PoolClock = nameof(PoolRequestOptions.MaxQueueTime) }
            : timeouts;
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

    internal static PoolRequestOptions? GetPool(this HttpRequestMessage request) =>
        request.Options.TryGetValue(Key, out var options) ? options : null;
}
