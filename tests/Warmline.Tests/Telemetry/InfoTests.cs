using System.Globalization;
using Xunit;

namespace Warmline.Tests.Telemetry;

/// <summary>The lines of the lists of waiting and running calls, for people.</summary>
public sealed class InfoTests : IDisposable
{
    const string Origin = "https://api.openai.com";

    readonly CultureInfo _culture = CultureInfo.CurrentCulture;

    /// <summary>Writes 12,3 and has a minus sign of its own; made here, as a machine may know no cultures.</summary>
    public InfoTests()
    {
        var other = (CultureInfo)CultureInfo.InvariantCulture.Clone();
        (other.NumberFormat.NumberDecimalSeparator, other.NumberFormat.NegativeSign) = (",", "~");
        CultureInfo.CurrentCulture = other;
    }

    public void Dispose() => CultureInfo.CurrentCulture = _culture;

    [Theory]
    [InlineData(42, PoolRejectionReason.Dialing, "chat", "acme", 1, "waits 42 ms for a dial (Dialing) to https://api.openai.com, lane chat, tenant acme, priority 1")]
    [InlineData(12_345, PoolRejectionReason.MaxConnections, "", "", -3, "waits 12.3 s for a connection (MaxConnections) to https://api.openai.com, priority -3")]
    [InlineData(1_000, PoolRejectionReason.LaneCeiling, "", "acme", 0, "waits 1.0 s for a place (LaneCeiling) to https://api.openai.com, tenant acme")]
    [InlineData(0, PoolRejectionReason.Paused, "batch", "", 0, "waits 0 ms for Resume (Paused) to https://api.openai.com, lane batch")]
    public void A_waiting_call_is_a_line_without_what_it_does_not_have(int waited, PoolRejectionReason reason, string lane, string tenant, int priority, string line) =>
        Assert.Equal(line, new WaiterInfo(Origin, TimeSpan.FromMilliseconds(waited), reason, lane, tenant, priority).ToString());

    [Theory]
    [InlineData(12_340, StreamPhase.Reading, 210, 57, "chat", "acme", "reading on connection 4 to https://api.openai.com, 12.3 s old, silent for 210 ms, 57 events, lane chat, tenant acme")]
    [InlineData(999, StreamPhase.Held, 0, 1, "", "", "held on connection 4 to https://api.openai.com, 999 ms old, 1 event")]
    [InlineData(5, StreamPhase.Sending, 0, 0, "", "", "sending on connection 4 to https://api.openai.com, 5 ms old")]
    public void A_running_call_is_a_line_without_what_it_does_not_have(int age, StreamPhase phase, int silence, long events, string lane, string tenant, string line) =>
        Assert.Equal(line, new StreamInfo(Origin, 4, TimeSpan.FromMilliseconds(age), phase, TimeSpan.FromMilliseconds(silence), events, lane, tenant).ToString());
}
