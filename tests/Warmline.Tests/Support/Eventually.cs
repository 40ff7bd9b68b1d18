using Xunit;

namespace Warmline.Tests.Support;

/// <summary>Waits for what nothing announces. Never a measure of time: it ends when the condition holds, and fails the test after some ten seconds.</summary>
internal static class Eventually
{
    const int Rounds = 2_000;

#pragma warning disable RS0030 // The tests' one use of the system's clock: to look again a little later.
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    public static async Task TrueAsync(Func<bool> condition, Func<string>? describe = null)
    {
        for (var round = 0; !condition(); round++)
        {
            Assert.True(round < Rounds, $"Did not come true: {describe?.Invoke()}");
            await Task.Delay(TimeSpan.FromMilliseconds(5), Clock, TestContext.Current.CancellationToken);
        }
    }
}
