using Warmline.Options;
using Xunit;

namespace Warmline.Tests.Settings;

public sealed class DurationTests
{
    [Theory]
    [InlineData("500ms", 500)]
    [InlineData("8s", 8_000)]
    [InlineData(" 1.5s ", 1_500)]
    [InlineData("2m", 120_000)]
    [InlineData("2 h", 7_200_000)]
    [InlineData("00:00:30", 30_000)]
    [InlineData("infinite", -1)]
    public void A_time_has_a_unit_or_colons(string text, long milliseconds)
    {
        Assert.True(Duration.TryParse(text, out var time));
        Assert.Equal(TimeSpan.FromMilliseconds(milliseconds), time);
    }

    [Theory]
    [InlineData("30")]   // thirty days, says the platform
    [InlineData("")]
    [InlineData("s")]
    [InlineData("-1s")]
    [InlineData("1e3s")]
    [InlineData("1,5s")]
    [InlineData("8 seconds")]
    [InlineData("99999999999999999999h")]
    public void Anything_else_is_none(string text) => Assert.False(Duration.TryParse(text, out _));

    [Theory]
    [InlineData(500, "500ms")]
    [InlineData(1_500, "1.5s")]
    [InlineData(90_000, "90s")]
    [InlineData(120_000, "2m")]
    [InlineData(3_600_000, "1h")]
    public void It_is_written_as_it_is_read(long milliseconds, string text)
    {
        Assert.Equal(text, Duration.Format(TimeSpan.FromMilliseconds(milliseconds)));
        Assert.True(Duration.TryParse(text, out var time));
        Assert.Equal(milliseconds, time.TotalMilliseconds);
    }
}
