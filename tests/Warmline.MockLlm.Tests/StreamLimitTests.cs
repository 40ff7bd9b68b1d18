using System.Net;

namespace Warmline.MockLlm.Tests;

/// <summary>SETTINGS_MAX_CONCURRENT_STREAMS: Kestrel's own, and the one changed on the way.</summary>
public sealed class StreamLimitTests
{
    static readonly Version Http20 = new(2, 0);

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 0)]
    [InlineData(true, 10)]
    public async Task A_lower_limit_reaches_live_connections_and_is_obeyed(bool tls, int roundTrip)
    {
        await using var server = await MockLlmServer.StartAsync(new() { UseTls = tls, RoundTripTime = TimeSpan.FromMilliseconds(roundTrip), Protocols = tls ? Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1AndHttp2 : Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http2 });
        using var client = server.Client(version: Http20);
        using (await client.ChatAsync())
        {
        }

        server.SetStreamLimit(1);
        await server.WaitForAsync(c => c.SettingsAcknowledged == 1);
        server.ResetCounters();
        var calls = Enumerable.Range(0, 8).Select(_ => client.ChatAsync(("x-mock-service-ms", "5"))).ToArray();
        var responses = await Task.WhenAll(calls);

        Assert.All(responses, r => Assert.Equal(HttpStatusCode.OK, r.StatusCode));
        var counters = server.GetCounters();
        Assert.Equal((1, 0L, 1), (counters.PeakStreams, counters.StreamsBeyondLimit, counters.ConnectionsOpen));
    }

    [Fact]
    public async Task A_limit_of_zero_holds_every_call_until_it_is_raised()
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Http20);
        using (await client.ChatAsync())
        {
        }

        server.SetStreamLimit(0);
        await server.WaitForAsync(c => c.SettingsAcknowledged == 1);
        var call = client.ChatAsync();
        server.SetStreamLimit(0); // a full round trip of SETTINGS, in which the call could have come
        await server.WaitForAsync(c => c.SettingsAcknowledged == 2);
        Assert.Equal(1, server.GetCounters().Requests);
        server.SetStreamLimit(100);
        using var response = await call;

        Assert.Equal((2L, 3L, 0L), (server.GetCounters().RequestsCompleted, server.GetCounters().SettingsInjected, server.GetCounters().StreamsBeyondLimit));
    }

    [Fact]
    public async Task New_connections_are_greeted_with_the_limit_of_now()
    {
        await using var server = await MockLlmServer.StartAsync();
        server.SetStreamLimit(2);
        using var client = server.Client(version: Http20);
        using (await client.ChatAsync())
        {
        }

        await Task.WhenAll(Enumerable.Range(0, 10).Select(_ => client.ChatAsync(("x-mock-service-ms", "5"))));

        Assert.Equal((2, 0L, 0L), (server.GetCounters().PeakStreams, server.GetCounters().SettingsInjected, server.GetCounters().StreamsBeyondLimit));
    }

    [Fact]
    public async Task Settings_arrive_in_the_middle_of_running_streams()
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = server.Client(version: Http20);
        using (await client.ChatAsync())
        {
        }

        var streams = Enumerable.Range(0, 20).Select(async _ =>
        {
            using var response = await client.StreamAsync(("x-mock-tokens", "200"), ("x-mock-token-gap-ms", "1"));
            return await response.Content.ReadAsStringAsync();
        }).ToArray();
        for (var limit = 40; limit > 20; limit--)
        {
            server.SetStreamLimit(limit);
            var expected = 41 - limit;
            await server.WaitForAsync(c => c.SettingsAcknowledged == expected);
        }

        Assert.All(await Task.WhenAll(streams), text => Assert.EndsWith("data: [DONE]\n\n", text));
        Assert.Equal((20L, 1L), (server.GetCounters().SettingsInjected, server.GetCounters().ConnectionsAccepted));
    }

    [Fact]
    public async Task Streams_beyond_an_acknowledged_limit_are_counted()
    {
        await using var server = await MockLlmServer.StartAsync();
        using var client = await RawHttp2.ConnectAsync(server);
        await client.OpenAsync(1);
        await client.OpenAsync(3);
        await server.WaitForAsync(c => c.StreamsOpen == 2);
        server.SetStreamLimit(2);
        await server.WaitForAsync(c => c.SettingsInjected == 1);

        await client.OpenAsync(5); // not acknowledged: still allowed
        await server.WaitForAsync(c => c.StreamsOpen == 3);
        Assert.Equal(0, server.GetCounters().StreamsBeyondLimit);
        await client.AcknowledgeAsync();
        await client.OpenAsync(7);
        await server.WaitForAsync(c => c.StreamsOpen == 4);
        Assert.Equal(1, server.GetCounters().StreamsBeyondLimit);
        await client.ResetAsync(1, 3, 5);
        await client.OpenAsync(9); // one left, so this is the second
        await server.WaitForAsync(c => c.Requests == 5);

        Assert.Equal(1, server.GetCounters().StreamsBeyondLimit);
    }

    [Fact]
    public async Task The_limit_of_the_start_is_enforced()
    {
        await using var server = await MockLlmServer.StartAsync(new() { MaxStreamsPerConnection = 2 });
        using var client = await RawHttp2.ConnectAsync(server);
        await client.OpenAsync(1);
        await client.OpenAsync(3);
        await client.OpenAsync(5);

        Assert.Equal((5, 7), await client.NextResetAsync()); // REFUSED_STREAM
        Assert.Equal((2, 1L), (server.GetCounters().PeakStreams, server.GetCounters().StreamsBeyondLimit));
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(11)]
    public async Task A_limit_that_could_not_be_kept_is_refused(int limit)
    {
        await using var server = await MockLlmServer.StartAsync(new() { MaxStreamsPerConnection = 10 });

        Assert.Throws<ArgumentOutOfRangeException>(() => server.SetStreamLimit(limit));
    }
}
