using System.Text;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>What the pool says of itself, against what the server counted.</summary>
public sealed class FactsTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task The_numbers_agree_with_the_servers(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2);
        var gate = new Gate();
        var running = await rig.HoldAsync(10, gate);
        Assert.Equal((10, 10, 0), (rig.Stats.Active, rig.Stats.PeakActive, rig.Stats.Queued));
        Assert.Equal(10, rig.Pool.GetStreams().Count);
        await rig.MockAsync(counters => counters.PeakStreams == 10);   // written is not yet received
        gate.Open();
        await rig.DoneAsync(running);
        for (var i = 0; i < 30; i++)
        {
            await rig.CallAsync();
        }

        await rig.QuietAsync();
        var (stats, counters) = (rig.Stats, rig.Counters);
        var origin = Assert.Single(stats.Origins);
        Assert.Equal(counters.Requests, stats.TotalRequests);
        Assert.Equal(counters.ConnectionsAccepted, stats.NewConnections);
        Assert.Equal(counters.ConnectionsOpen, stats.Connections);
        Assert.Equal(counters.PeakConnections, stats.PeakConnections);
        Assert.Equal(counters.PeakStreams, stats.PeakActive);
        Assert.Equal((stats.Connections, 0, 0L, 0L), (stats.Idle, stats.Active, stats.Refused, stats.FailedDials));
        Assert.InRange(stats.ReusedConnections, 40 - stats.NewConnections, 39);   // each call that needed no dial of its own
        Assert.Equal(stats.ReusedConnections / 40.0, stats.ReuseRate, 9);
        Assert.True(stats.AverageHandshake > TimeSpan.Zero && stats.QueueWait <= stats.MaxQueueWait && stats.MaxQueueWait > TimeSpan.Zero);
        Assert.Equal(stats.AverageHandshake!.Value.TotalSeconds * stats.ReusedConnections, stats.TimeSaved.TotalSeconds, 3);
        Assert.Equal((stats.TotalRequests, stats.ReusedConnections, stats.NewConnections, 10), (origin.TotalRequests, origin.ReusedConnections, origin.NewConnections, origin.PeakActive));
        Assert.Equal((http2 ? "2.0" : "1.1", http2 ? 100 : (int?)null), (origin.HttpVersion!.ToString(), origin.StreamLimit));
        Assert.Equal(rig.Mock.BaseAddress.GetLeftPart(UriPartial.Authority), origin.Origin);
    }

    [Fact]
    public void The_line_has_its_format()
    {
        var stats = new PoolStats
        {
            TotalRequests = 1200, ReuseRate = 0.9925, PeakActive = 27, MaxQueueWait = TimeSpan.Zero,
            AverageHandshake = TimeSpan.FromMilliseconds(81.4), TimeSaved = TimeSpan.FromSeconds(97.1),
        };
        Assert.Equal("Pool: 1200 requests | reuse=99.3% | peak=27 | queued=0 (max wait 0.0ms) | avg handshake=81.4ms | saved=97.1s", stats.ToString());
        Assert.Equal("Pool: 0 requests | reuse=0.0% | peak=0 | queued=0 (max wait 0.0ms) | avg handshake=0.0ms | saved=0.0s", new PoolStats().ToString());
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_pools_own_line_is_that_of_its_numbers()
    {
        await using var rig = await Rig.StartAsync();
        await rig.CallAsync();
        Assert.Matches(@"^Pool: 1 requests \| reuse=0\.0% \| peak=1 \| queued=0 \(max wait \d+\.\dms\) \| avg handshake=\d+\.\dms \| saved=0\.0s$", rig.Pool.ToString());
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_first_call_shows_its_dial_and_a_later_one_its_reuse(bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, mock: new() { RoundTripTime = TimeSpan.FromMilliseconds(10) });
        var request = Calls.Chat();
        request.Content = new StringContent($$"""{"model":"gpt-4o-mini","messages":[{"role":"user","content":"{{new string('x', 20_000)}}"}]}""", Encoding.UTF8, "application/json");
        using var first = await rig.SendAsync(request);
        Assert.True(first.TryGetPoolTimings(out var before));
        Assert.Null(before.LastByte);
        await first.Content.ReadAsStringAsync(Rig.Ct);
        Assert.True(first.TryGetPoolTimings(out var cold));
        using var second = await rig.SendAsync(Calls.Chat());
        await second.Content.ReadAsStringAsync(Rig.Ct);
        Assert.True(second.TryGetPoolTimings(out var warm));

        Assert.False(cold.Reused);
        Assert.True(cold.Tcp > TimeSpan.Zero && cold.Tls >= TimeSpan.FromMilliseconds(10));
        Assert.True(cold.Queue >= cold.Dns + cold.Tcp + cold.Tls);
        Assert.True(cold.Send > TimeSpan.Zero && cold.FirstByte >= cold.Send && cold.LastByte >= cold.FirstByte);
        Assert.True(cold.FirstByte >= TimeSpan.FromMilliseconds(10));
        Assert.Equal((true, TimeSpan.Zero, TimeSpan.Zero, TimeSpan.Zero), (warm.Reused, warm.Dns, warm.Tcp, warm.Tls));
        Assert.Equal(TimeSpan.Zero, warm.Send);   // a small body is handed over at once
        Assert.Equal(cold.ConnectionId, warm.ConnectionId);
        Assert.True(cold.ConnectionAge < warm.ConnectionAge && warm.Queue < cold.Queue);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_response_of_another_handler_has_no_timings()
    {
        await using var rig = await Rig.StartAsync();
        using var plain = new HttpClient(new SocketsHttpHandler { SslOptions = rig.Mock.CreateClientSslOptions() });
        using var response = await plain.GetAsync(new Uri(rig.Mock.BaseAddress, "v1/models"), Rig.Ct);
        Assert.False(response.TryGetPoolTimings(out _));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task High_utilization_is_told_once_for_each_crossing(bool ofConnections)
    {
        await using var rig = await Rig.StartAsync(!ofConnections, options => (options.MaxConnections, options.MaxConcurrentRequests) = (50, ofConnections ? null : 50));
        var (first, second, third, last) = (new Gate(), new Gate(), new Gate(), new Gate());
        var fifteen = await rig.HoldAsync(15, first);
        var twentyfive = await rig.HoldAsync(25, second);
        Assert.Empty(Warnings());
        var more = await rig.HoldAsync(3, third);
        await Eventually.TrueAsync(() => Warnings().Count > 0);   // told after the grant, whose call may be quicker
        var text = Assert.Single(Warnings());
        Assert.StartsWith("Pool utilization high: 41/50 (82%)", text);

        third.Open();
        await rig.DoneAsync(more);   // 40, and up again: no second warning before it went below 70 %
        third = new Gate();
        more = await rig.HoldAsync(5, third);
        Assert.Single(Warnings());
        first.Open();
        third.Open();
        await rig.DoneAsync([.. fifteen, .. more]);   // 25: re-armed
        await rig.StatsAsync(stats => stats.Active == 25);
        var again = await rig.HoldAsync(16, last);
        await Eventually.TrueAsync(() => Warnings().Count > 1);
        Assert.Equal(2, Warnings().Count);
        second.Open();
        last.Open();
        await rig.DoneAsync([.. twentyfive, .. again]);

        // Beside it, 16 calls on as many HTTP/1.1 connections are told too.
        List<string> Warnings() => [.. rig.Logs.Entries.Where(entry => entry.Level == LogLevel.Warning && !entry.Message.Contains("HTTP/2", StringComparison.Ordinal)).Select(entry => entry.Message)];
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_line_is_logged_at_its_interval()
    {
        var time = new ManualTime();
        await using var rig = await Rig.StartAsync(options => options.StatsLogInterval = TimeSpan.FromSeconds(60), time: time);
        await rig.CallAsync();
        Assert.Empty(Lines());

        time.Advance(TimeSpan.FromSeconds(59));
        Assert.Empty(Lines());
        time.Advance(TimeSpan.FromSeconds(1));
        time.Advance(TimeSpan.FromSeconds(120));
        Assert.Equal(3, Lines().Count);
        Assert.All(Lines(), line => Assert.Equal(rig.Stats.ToString(), line));
        await rig.Pool.DisposeAsync();
        time.Advance(TimeSpan.FromHours(1));
        Assert.Equal(3, Lines().Count);

        List<string> Lines() => [.. rig.Logs.Entries.Where(entry => entry is { Level: LogLevel.Information } && entry.Message.StartsWith("Pool: ", StringComparison.Ordinal)).Select(entry => entry.Message)];
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Neither_logs_nor_errors_hold_a_key_a_header_or_a_body(bool http2)
    {
        const string Secret = "sk-do-not-tell";
        await using var rig = await Rig.StartAsync(
            http2,
            options => (options.Timeouts.Read, options.StatsLogInterval) = (TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(1)),
            new() { OnRequest = request => request.MockId == "abort" ? new MockReply { Abort = true } : null });
        var errors = new List<Exception>();
        HttpRequestMessage[] requests =
        [
            Calls.Chat(), Calls.Chat(false, ("x-mock-status", "401")), Calls.Chat(false, ("x-mock-id", "abort")), Calls.Stream(2, 3_600_000),
        ];
        foreach (var request in requests)
        {
            request.Headers.Add("Authorization", $"Bearer {Secret}");
            request.Headers.Add("x-api-key", Secret);
            request.RequestUri = new Uri($"v1/chat/completions?api-key={Secret}", UriKind.Relative);
            try
            {
                using var response = await rig.Client.SendAsync(request, Rig.Ct);
            }
            catch (Exception error)
            {
                errors.Add(error);
            }
        }

        await rig.Pool.DisposeAsync();
        Assert.Equal(2, errors.Count);
        Assert.NotEmpty(rig.Logs.Entries);
        foreach (var text in errors.Select(error => error.ToString()).Concat(rig.Logs.Entries.Select(entry => entry.Message)).Append(rig.Stats.ToString()))
        {
            Assert.DoesNotContain(Secret, text);
            Assert.DoesNotMatch(new Regex("authorization|bearer|x-api-key|completions|gpt-4o", RegexOptions.IgnoreCase), text);
        }
    }
}
