using System.Net;
using System.Net.ServerSentEvents;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Warmline.Tests.Support;

namespace Warmline.AspNetCore.Tests;

/// <summary>The live feed.</summary>
public sealed class LiveTests
{
    [Fact(Timeout = Eventually.Patience)]
    public async Task An_event_comes_at_once_and_after_every_interval_and_no_timer_runs_for_nobody()
    {
        var time = new ManualTime();
        await using var pool = new ConnectionPool();
        await using var app = await StartAsync(time, pool, o => o.LiveInterval = TimeSpan.FromSeconds(2));
        Assert.False(time.HasTimerIn(TimeSpan.FromSeconds(2)));

        using (var response = await OpenAsync(app))
        {
            Assert.Equal("text/event-stream", response.Content.Headers.ContentType!.ToString());
            var events = SseParser.Create(await response.Content.ReadAsStreamAsync(Eventually.Ct)).EnumerateAsync(Eventually.Ct).GetAsyncEnumerator(Eventually.Ct);
            for (var round = 0; round < 3; round++)
            {
                Assert.True(await events.MoveNextAsync());
                Assert.Equal(pool.Name, JsonDocument.Parse(events.Current.Data).RootElement.GetProperty("pools")[0].GetProperty("name").GetString());
                await Eventually.TrueAsync(() => time.HasTimerIn(TimeSpan.FromSeconds(2)));
                var next = events.MoveNextAsync();
                time.Advance(TimeSpan.FromSeconds(1.9));
                Assert.False(next.IsCompleted);
                Assert.True(time.HasTimerIn(TimeSpan.FromSeconds(0.1)));
                time.Advance(TimeSpan.FromSeconds(0.1));
                Assert.True(await next);
                await Eventually.TrueAsync(() => time.HasTimerIn(TimeSpan.FromSeconds(2)));
                time.Advance(TimeSpan.FromSeconds(2));   // the event that the next round begins with
            }
        }

        await Eventually.TrueAsync(() => !time.HasTimerIn(TimeSpan.FromSeconds(2)), () => $"{time.ArmedTimers} timers after the reader left");
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task The_feed_ends_when_the_host_stops()
    {
        await using var pool = new ConnectionPool();
        await using var app = await StartAsync(new ManualTime(), pool);
        using var response = await OpenAsync(app);
        var body = response.Content.ReadAsStringAsync(Eventually.Ct);

        app.Web.Services.GetRequiredService<IHostApplicationLifetime>().StopApplication();

        Assert.EndsWith("}\n\n", await body, StringComparison.Ordinal);   // in good order: no event is cut, no connection reset
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task Readers_beyond_the_most_are_sent_away_until_one_leaves()
    {
        await using var pool = new ConnectionPool();
        await using var app = await StartAsync(new ManualTime(), pool, o => o.MaxLiveReaders = 2);
        using var first = await OpenAsync(app);
        var second = await OpenAsync(app);

        var (status, text, _) = await app.CallAsync("/warmline/live");
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "The live feed has 2 readers already: close one, or raise MaxLiveReaders in MapPoolStats.\n"), (status, text));

        second.Dispose();
        await Eventually.TrueAsync(async () =>
        {
            using var again = await OpenAsync(app);
            return again.StatusCode == HttpStatusCode.OK;
        });
    }

    static Task<App> StartAsync(ManualTime time, ConnectionPool pool, Action<PoolStatsEndpointOptions>? configure = null) => App.StartAsync(services => services.AddSingleton<TimeProvider>(time), web => web.MapPoolStats(configure: o =>
    {
        o.Pools.Add(pool);
        configure?.Invoke(o);
    }));

    static Task<HttpResponseMessage> OpenAsync(App app) => app.Client.GetAsync(new Uri("/warmline/live", UriKind.Relative), HttpCompletionOption.ResponseHeadersRead, Eventually.Ct);
}
