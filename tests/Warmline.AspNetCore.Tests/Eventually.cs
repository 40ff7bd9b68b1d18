namespace Warmline.AspNetCore.Tests;

/// <summary>Waits for what nothing announces: it ends when the condition holds, and fails the test after some minute; other processes are waited for, too, on slow machines.</summary>
internal static class Eventually
{
    const int Rounds = 3_000;

    /// <summary>Milliseconds after which a test counts as hung: a net under the test, no measure of speed.</summary>
    public const int Patience = 180_000;

#pragma warning disable RS0030 // The tests' one use of the system's clock: to look again a little later.
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    public static CancellationToken Ct => TestContext.Current.CancellationToken;

    public static Task TrueAsync(Func<bool> condition, Func<string>? describe = null) => TrueAsync(() => Task.FromResult(condition()), describe);

    public static async Task TrueAsync(Func<Task<bool>> condition, Func<string>? describe = null)
    {
        for (var round = 0; !await condition(); round++)
        {
            if (round == Rounds)
            {
                Assert.Fail($"Did not come true: {describe?.Invoke()}");
            }

            await Task.Delay(TimeSpan.FromMilliseconds(20), Clock, Ct);
        }
    }
}
