namespace Warmline.Pool;

/// <summary>
/// Held by the application's <see cref="ConnectionPool"/> and by nothing else: when it is collected, the application can end the pool no
/// more. Clients created from it may go on, so that is only logged.
/// </summary>
internal sealed class AbandonedPoolDetector(PoolAdvice advice)
{
// It frees nothing: being collected is the news. Not logged on the finalizer's own thread, which a logger must not hold up.
#pragma warning disable MA0055
    ~AbandonedPoolDetector() =>
        ThreadPool.UnsafeQueueUserWorkItem(static advice =>
            advice.LogLeftOpen("its ConnectionPool was forgotten"), advice, preferLocal: false);
#pragma warning restore MA0055
}
