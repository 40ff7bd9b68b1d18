using System.Globalization;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>
/// Seeds of tests with random schedules or inputs. A normal run uses fixed ones, so that it can be repeated. A soak (<c>WARMLINE_SOAK=1</c>,
/// set by <c>./test.sh --soak</c>) draws fresh ones. A seed that failed is printed, and played again with <c>WARMLINE_SEED</c>.
/// </summary>
internal static class Seeds
{
    public static bool IsSoak => Environment.GetEnvironmentVariable("WARMLINE_SOAK") is "1";

    /// <summary>The seed to use, and how many rounds to play with it.</summary>
    /// <param name="usual">The seed of a normal run.</param>
    /// <param name="rounds">The rounds of a normal run. A soak plays ten times as many.</param>
    public static (int Seed, int Rounds) Of(int usual, int rounds)
    {
        var seed = int.TryParse(Environment.GetEnvironmentVariable("WARMLINE_SEED"), CultureInfo.InvariantCulture, out var given) ? given
            : IsSoak ? Random.Shared.Next() : usual;
        TestContext.Current.TestOutputHelper?.WriteLine($"Replay with WARMLINE_SEED={seed}");
        return (seed, IsSoak ? rounds * 10 : rounds);
    }
}
