using Microsoft.Extensions.Logging;
using Warmline.Options;
using Warmline.Pool;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.HostCode;

/// <summary>A logger that throws costs its message and nothing else.</summary>
public sealed class LoggerTests
{
    [Fact(Timeout = 5 * Rig.Patience)]
    public async Task Whichever_message_throws_every_step_ends_as_with_a_quiet_logger()
    {
        var counting = new ThrowingLogs { Throws = static (_, _) => false };
        var expected = await PlayAsync(counting);
        var seen = counting.Events.Select(static told => told.Id).ToHashSet();
        int[] wanted = [1, 3, 4, 5, 6, 7, 9, 10, 11, 20, 21, 24, 26];   // what the scenario is there for
        Assert.True(seen.IsSupersetOf(wanted), $"not logged: {string.Join(' ', wanted.Except(seen))}");

        var messages = counting.Events.Count;
        for (var at = 1; at <= messages + 2; at++)   // a race may log one more
        {
            var number = at;
            Assert.Equal(expected, await PlayAsync(new ThrowingLogs { Throws = (count, _) => count == number }));
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("messages")]
    [InlineData("levels")]
    [InlineData("creation")]
    [InlineData("a real factory")]
    public async Task All_of_them_may_throw(string what)
    {
        var expected = await PlayAsync(new LogRecorder());

        using var logs = new ThrowingLogs { AtLevels = what == "levels", AtCreation = what == "creation" };
        using var real = LoggerFactory.Create(builder => builder.SetMinimumLevel(LogLevel.Trace).AddProvider(new Provider(logs)));
        Assert.Equal(expected, await PlayAsync(what == "a real factory" ? real : logs));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_dial_that_fails_after_it_has_connected_closes_its_socket_and_names_its_cause()
    {
        // An engine whose logger is not guarded: whatever goes wrong at that point.
        using var server = new RawServer();
        var logs = new ThrowingLogs { Throws = static (_, told) => told.Id == 4 };
        await using var engine = Engine(logs);
        using var client = new HttpMessageInvoker(new PooledHandler(engine, null));

        var error = await Assert.ThrowsAsync<PoolConnectException>(() =>
            client.SendAsync(new(HttpMethod.Get, $"http://127.0.0.1:{server.Port}/"), Rig.Ct));

        Assert.Equal((DialPhase.Tcp, RequestVerdict.NotSent), (error.Phase, error.Verdict));
        Assert.Contains("could be opened: The event log file is full.", error.Message, StringComparison.Ordinal);
        await using var accepted = await server.AcceptAsync();
        Assert.Equal(0, await ReadAsync(accepted));
        await Eventually.TrueAsync(() => engine.GetStats() is { Connections: 0, Active: 0, Queued: 0 });
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(6)]
    [InlineData(7)]
    public async Task A_dispose_that_failed_is_repeated_and_then_disposes(int message)
    {
        await using var server = new EndingServer();
        var logs = new ThrowingLogs { Throws = static (_, _) => false };
        var engine = Engine(logs);
        using var client = new HttpMessageInvoker(new PooledHandler(engine, null));
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Gate = gate.Task;
        var running = client.SendAsync(new(HttpMethod.Get, server.Address), Rig.Ct);
        await server.ConnectedAsync(1);
        await Eventually.TrueAsync(() => engine.GetStats().Active == 1);

        logs.Throws = (_, told) => told.Id == message;
        await Assert.ThrowsAsync<IOException>(async () => await engine.DisposeAsync());
        logs.Throws = static (_, _) => false;
        await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => engine.DisposeAsync().AsTask()));

        await Assert.ThrowsAsync<PoolAbortedException>(() => running);
        Assert.Equal(0, engine.GetStats().Connections);
        gate.SetResult();
        await Eventually.TrueAsync(() => server.Open == 0);
        await engine.DisposeAsync();
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Whoever_disposes_second_waits_for_the_first()
    {
        var network = new FakeNetwork { Connect = static (_, _) => new(new FakeStream()) };
        await using var pool = new ConnectionPool(new() { UseProxy = false }, null, ManualTime.Early, network);
        await pool.WarmUpAsync(new Uri("http://a.test"), 1, Rig.Ct);

        var both = new[] { pool.DisposeAsync().AsTask(), pool.DisposeAsync().AsTask() };
        await Task.WhenAll(both);

        Assert.Equal(0, pool.GetStats().Connections);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_drain_that_failed_can_be_repeated()
    {
        await using var server = new EndingServer();
        var logs = new ThrowingLogs { Throws = static (_, _) => false };
        await using var engine = Engine(logs);
        using var client = new HttpMessageInvoker(new PooledHandler(engine, null));
        (await client.SendAsync(new(HttpMethod.Get, server.Address), Rig.Ct)).Dispose();

        logs.Throws = static (_, told) => told.Id == 6;
        await Assert.ThrowsAsync<IOException>(() => engine.Lifetime.DrainAsync(TimeSpan.Zero, PoolRejectionReason.Draining, Rig.Ct));
        Assert.Empty(await engine.Lifetime.DrainAsync(TimeSpan.Zero, PoolRejectionReason.Draining, Rig.Ct));

        Assert.Equal(0, engine.GetStats().Connections);
        await Assert.ThrowsAsync<PoolRejectedException>(() => client.SendAsync(new(HttpMethod.Get, server.Address), Rig.Ct));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_response_that_is_found_after_the_pool_was_disposed_harms_nothing()
    {
        // A clock whose timers refuse to be set once they have ended.
        await using var server = new EndingServer();
        var pool = new ConnectionPool(new() { UseProxy = false }, null, new StrictTime(ManualTime.Early));
        using var client = pool.CreateClient();
        var response = await client.GetAsync(server.Address, HttpCompletionOption.ResponseHeadersRead, Rig.Ct);
        await pool.DisposeAsync();

        var error = await Record.ExceptionAsync(() => response.Content.ReadAsStringAsync(Rig.Ct));
        response.Dispose();

        Assert.True(error is null or IOException or HttpRequestException, $"{error}");
        Assert.Equal(0, pool.GetStats().Active);
    }

    static async Task<IReadOnlyList<string>> PlayAsync(ILoggerFactory logs)
    {
        await using var scenario = new LoggerScenario(logs);
        return await scenario.PlayAsync();
    }

    static PoolEngine Engine(ILogger logger)
    {
        var settings = PoolSettings.Freeze(new ConnectionPoolOptions { UseProxy = false }, [])!;
#pragma warning disable RS0030 // A socket's close waits for its peer.
        return new PoolEngine(settings, logger, TimeProvider.System, new SystemNetwork(settings.TcpKeepAlive));
#pragma warning restore RS0030
    }

    static async Task<int> ReadAsync(Stream stream)
    {
        try
        {
            return await stream.ReadAsync(new byte[100], Rig.Ct);
        }
        catch (IOException)
        {
            return 0;
        }
    }

    sealed class Provider(ILogger logger) : ILoggerProvider
    {
        public ILogger CreateLogger(string categoryName) => logger;

        public void Dispose()
        {
        }
    }

    /// <summary>As some clocks of tests are.</summary>
    sealed class StrictTime(TimeProvider inner) : TimeProvider
    {
        public override long TimestampFrequency => inner.TimestampFrequency;

        public override long GetTimestamp() => inner.GetTimestamp();

        public override DateTimeOffset GetUtcNow() => inner.GetUtcNow();

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
            new Timer(inner.CreateTimer(callback, state, dueTime, period));

        sealed class Timer(ITimer inner) : ITimer
        {
            volatile bool _isOver;

            public bool Change(TimeSpan dueTime, TimeSpan period)
            {
                ObjectDisposedException.ThrowIf(_isOver, this);
                return inner.Change(dueTime, period);
            }

            public void Dispose()
            {
                _isOver = true;
                inner.Dispose();
            }

            public ValueTask DisposeAsync()
            {
                Dispose();
                return default;
            }
        }
    }
}
