using System.Net;
using Warmline.Options;
using Warmline.Scheduling;
using Xunit;
using static Warmline.Tests.Scheduling.SchedulerPlay;

namespace Warmline.Tests.Scheduling;

/// <summary>How long connections are trusted while they are idle, what is learned of their servers, and what goes together.</summary>
public sealed class SchedulerTrustTests
{
    static readonly SchedulerLimits Lasting = new() { ConnectionLifetime = Timeout.InfiniteTimeSpan, IdleTimeout = Timeout.InfiniteTimeSpan };

    readonly SchedulerPlay _play = new(Lasting);

    [Theory]
    [InlineData(100, 98)]
    [InlineData(5, 3)]
    [InlineData(3, 1.2)]
    [InlineData(2, 0.8)]
    [InlineData(1, 0.4)]
    [InlineData(0, 0)]
    public void A_connection_ends_ahead_of_the_time_that_its_server_announced(int hint, double kept)
    {
        var connection = Rests(hint);
        _play.Pass(Math.Max(0, kept - 0.001));
        Assert.Equal(kept > 0 ? ConnectionPhase.Open : ConnectionPhase.Closing, connection.Phase);
        _play.Pass(0.002);
        Assert.Equal(ConnectionPhase.Closing, connection.Phase);
    }

    [Fact]
    public void The_margin_is_no_less_than_a_handshake_on_a_long_way()
    {
        Ends(Rests(5, handshakeMilliseconds: 3000));
        var connection = Rests(5, handshakeMilliseconds: 3000);
        _play.Pass(2.01);
        Assert.Equal(ConnectionPhase.Closing, connection.Phase);
    }

    [Fact]
    public void A_late_timer_lets_no_call_ride_a_connection_whose_time_is_over()
    {
        var old = Rests(5);
        _play.PassLate(3);
        var call = _play.Ask(A);
        Assert.Equal((WaiterState.Waiting, ConnectionPhase.Closing), (call.State, old.Phase));
        Assert.Single(_play.Dialing(A));
    }

    [Fact]
    public void The_known_limit_of_a_provider_counts_from_the_start()
    {
        var key = new ConnectionKey(true, "api.openai.com", 443);
        var connection = _play.OpenHttp2(key, 1)[0];
        _play.Pass(397.9);
        Assert.Equal(ConnectionPhase.Open, connection.Phase);
        _play.Pass(0.2);
        Assert.Equal(ConnectionPhase.Closing, connection.Phase);
    }

    [Fact]
    public void Two_ends_that_agree_teach_the_smaller_one_and_it_is_forgotten_after_an_hour()
    {
        EndsAfter(61);
        Assert.Equal(TimeSpan.MaxValue, _play.Scheduler.AllowedIdle(_play.State(A)));
        EndsAfter(60);
        Assert.Equal(TimeSpan.FromSeconds(58), _play.Scheduler.AllowedIdle(_play.State(A)));
        var third = Rests();
        _play.Pass(58.001);
        Assert.Equal(ConnectionPhase.Closing, third.Phase);
        _play.IsClosed(third);

        _play.HoldWarm(A, 0);
        for (var minute = 0; minute < 59; minute++)   // in use, or the key would be forgotten altogether
        {
            Ends(Rests());
            _play.Pass(60);
        }

        var later = Rests();
        _play.Pass(300);
        Assert.Equal(ConnectionPhase.Open, later.Phase);
    }

    [Fact]
    public void Ends_that_do_not_agree_teach_nothing()
    {
        EndsAfter(60);
        EndsAfter(30);
        EndsAfter(20);
        Assert.Equal(TimeSpan.MaxValue, _play.Scheduler.AllowedIdle(_play.State(A)));
    }

    [Fact]
    public void A_restart_teaches_nothing_however_often_it_comes()
    {
        for (var round = 0; round < 3; round++)
        {
            var connections = new List<ConnectionState>();
            var calls = _play.Ask(5, A);
            foreach (var dialing in _play.Dialing(A))
            {
                connections.Add(_play.Succeeds(dialing));
            }

            foreach (var call in calls)
            {
                _play.Release(call);
                _play.Pass(20);
            }

            connections.ForEach(Ends);
        }

        _play.Pass(100);
        EndsAfter(100);   // as long as the first of a restart had been idle
        Assert.Equal(TimeSpan.MaxValue, _play.Scheduler.AllowedIdle(_play.State(A)));
    }

    [Fact]
    public void A_restart_in_the_middle_of_what_was_learned_leaves_it_as_it_was()
    {
        EndsAfter(60);
        EndsAfter(60);
        var calls = _play.Ask(2, A);
        var both = _play.Dialing(A).Select(dialing => _play.Succeeds(dialing)).ToArray();
        _play.Release(calls[0]);
        _play.Pass(10);
        _play.Release(calls[1]);
        _play.Pass(5);
        Ends(both[0]);
        Ends(both[1]);
        Assert.Equal(TimeSpan.FromSeconds(58), _play.Scheduler.AllowedIdle(_play.State(A)));
    }

    [Fact]
    public void Connections_that_end_together_are_one_observation()
    {
        var calls = _play.Ask(4, A);
        var connections = _play.Dialing(A).Select(dialing => _play.Succeeds(dialing)).ToArray();
        _play.Release(calls);
        _play.Pass(60);
        Array.ForEach(connections, Ends);
        Assert.Equal(TimeSpan.MaxValue, _play.Scheduler.AllowedIdle(_play.State(A)));
    }

    [Fact]
    public void An_end_that_others_outlasted_or_that_belongs_to_the_answer_before_teaches_nothing()
    {
        var connection = Rests();
        _play.Pass(90);
        _play.Release(_play.Ask(A));   // it lasted 90 s
        Assert.Equal(ConnectionPhase.Open, connection.Phase);
        Ends(connection);
        for (var i = 0; i < 3; i++)
        {
            EndsAfter(30);
            _play.Pass(100);
        }

        EndsAfter(0.5);
        EndsAfter(0.5);
        Assert.Equal(TimeSpan.MaxValue, _play.Scheduler.AllowedIdle(_play.State(A)));
    }

    [Theory]
    [InlineData(ConnectionEnd.Lost, 2, 3)]
    [InlineData(ConnectionEnd.Lost, 0.9, 0)]
    [InlineData(ConnectionEnd.InOrder, 2, 0)]
    [InlineData(ConnectionEnd.Alone, 2, 0)]
    internal void A_loss_after_a_rest_takes_all_idle_connections_of_the_key_along_and_no_other(ConnectionEnd end, double rested, int dropped)
    {
        var other = _play.OpenHttp1(B, 1)[0];
        var all = _play.OpenHttp1(A, 5);
        var busy = _play.Ask(A);
        _play.Pass(rested);
        var first = all.First(connection => connection != busy.Connection);
        _play.Closing(first, end);
        Assert.Equal(dropped, _play.Of(ActionKind.Drop).Count(action => action.Connection != first));
        Assert.Equal(dropped > 0 ? dropped + 1 : 0, _play.Of(ActionKind.Flushed).SingleOrDefault().Active);
        Assert.Equal(dropped > 0 ? dropped + 1 : 0, _play.Scheduler.Facts.Lost);
        Assert.Equal((ConnectionPhase.Open, ConnectionPhase.Open), (busy.Connection!.Phase, other.Phase));
        Assert.Empty(_play.Dialed);
    }

    [Fact]
    public void A_connection_that_the_platform_gave_up_while_it_was_idle_is_a_loss()
    {
        var all = _play.OpenHttp2(A, 3);
        _play.Pass(10);
        _play.IsClosed(all[0]);
        Assert.Equal(2, _play.Of(ActionKind.Drop).Length);
    }

    [Fact]
    public void A_call_that_is_bypassed_keeps_its_place_and_none_of_its_tries_is_used_up()
    {
        _play.OpenHttp1(A, 4);
        _play.Pass(10);
        var granted = _play.Scheduler.Stats().Granted;
        var call = _play.Ask(A);
        Assert.Equal(TimeSpan.FromSeconds(10), call.Rested);
        for (var i = 0; i < 3; i++)
        {
            _play.Bypass(call, ConnectionEnd.Alone);
            Assert.Equal((WaiterState.Leased, 0), (call.State, call.Redispatches));
        }

        _play.Bypass(call, ConnectionEnd.Alone);
        Assert.Equal(WaiterState.Waiting, call.State);
        _play.Succeeds(_play.Dialing(A).Single());
        Assert.Equal((WaiterState.Leased, TimeSpan.Zero), (call.State, call.Rested));
        Assert.Equal(granted + 1, _play.Scheduler.Stats().Granted);   // one call, wherever it was placed
    }

    [Fact]
    public void Who_comes_while_the_first_call_after_a_rest_has_no_answer_is_warned_too()
    {
        _play.OpenHttp2(A, 1);
        _play.Pass(10);
        var first = _play.Ask(A);
        Assert.Equal(first.Rested, _play.Ask(A).Rested);
        _play.Release(first);
        Assert.Equal(TimeSpan.Zero, _play.Ask(A).Rested);
    }

    [Fact]
    public void After_a_sleep_all_idle_connections_go_and_what_is_held_warm_comes_back()
    {
        _play.HoldWarm(A, 2);
        var warm = _play.Dialed.Select(dialing => _play.Succeeds(dialing)).ToArray();
        var others = _play.OpenHttp2(B, 2);
        var busy = _play.Ask(B);
        _play.Sleeps();
        Assert.Equal([.. warm, .. others.Where(other => other != busy.Connection)], _play.Of(ActionKind.Drop).Select(action => action.Connection));
        Assert.Equal((2, 3), (_play.Dialed.Length, _play.Of(ActionKind.Flushed).Single().Active));
        Assert.All(_play.Dialed, dialed => Assert.Equal(A, dialed.Key.Key));
    }

    [Fact]
    public void Connections_from_a_lost_address_end_idle_ones_at_once_busy_ones_after_their_streams()
    {
        var all = _play.OpenHttp2(A, 4);
        var busy = _play.Ask(A);
        all[0].LocalAddress = all[1].LocalAddress = all[2].LocalAddress = IPAddress.Parse("192.0.2.9");
        busy.Connection!.LocalAddress = all[0].LocalAddress;
        _play.LocalAddresses(IPAddress.Loopback);
        Assert.Equal(ConnectionPhase.Draining, busy.Connection.Phase);
        Assert.All(all.Where(connection => connection.LocalAddress is not null && connection != busy.Connection), connection => Assert.Equal(ConnectionPhase.Closing, connection.Phase));
        Assert.All(all.Where(connection => connection.LocalAddress is null), connection => Assert.Equal(ConnectionPhase.Open, connection.Phase));
        _play.Release(busy);
        Assert.Equal([busy.Connection], _play.Of(ActionKind.Drop).Select(action => action.Connection));
    }

    [Fact]
    public void What_is_held_warm_has_its_successor_before_the_servers_limit_ends_it()
    {
        _play.HoldWarm(A, 2);
        var first = _play.Dialed.Select(dialing => _play.Succeeds(dialing)).ToArray();
        Array.ForEach(first, connection => connection.HintSeconds = 22);
        _play.Release(_play.Ask(2, A));
        _play.Pass(17.9);
        Assert.Empty(_play.Dialed);
        _play.Pass(0.2);   // 20 s are allowed, and a tenth of that is time to open another
        var second = _play.Dialed;
        Assert.Equal((2, 2), (second.Length, _play.State(A).Idle));
        Assert.All(second, dialing => _play.Succeeds(dialing));
        Assert.Equal(4, _play.State(A).Idle);
        _play.Pass(2);
        Assert.Equal(first, _play.Closed);
        Assert.Equal((2, 0), (_play.State(A).Idle, _play.Dialing(A).Length));
    }

    [Fact]
    public void Without_a_permit_for_both_the_old_one_goes_first()
    {
        var play = new SchedulerPlay(Lasting with { MaxConnections = 1, MaxIdleConnections = 1 });
        play.HoldWarm(A, 1);
        var first = play.Succeeds(play.Dialed.Single());
        first.HintSeconds = 22;
        play.Release(play.Ask(A));
        play.Pass(19.9);
        Assert.Equal(ConnectionPhase.Open, first.Phase);
        play.Pass(0.2);
        Assert.Equal([first], play.Closed);
        play.IsClosed(first);
        Assert.Single(play.Dialed);
    }

    [Fact]
    public void A_flush_restores_no_warmth_in_a_pause_or_a_drain()
    {
        _play.HoldWarm(A, 2);
        var warm = _play.Dialed.Select(dialing => _play.Succeeds(dialing)).ToArray();
        _play.Pass(2);
        _play.Pause(A);
        _play.Closing(warm[0], ConnectionEnd.Lost);
        Assert.Empty(_play.Dialed);
        _play.Resume(A);
        Assert.Equal(2, _play.Dialed.Length);
        _play.Drain();
        _play.Sleeps();
        Assert.Empty(_play.Dialed);
    }

    /// <summary>A connection that was used once and is idle from now on.</summary>
    ConnectionState Rests(int hint = -1, int handshakeMilliseconds = 50)
    {
        var call = _play.Ask(A);
        if (call.Connection is null)
        {
            _play.Succeeds(_play.Dialing(A)[^1], handshakeMilliseconds: handshakeMilliseconds);
        }

        var connection = call.Connection!;
        connection.HintSeconds = hint;
        _play.Release(call);
        return connection;
    }

    void EndsAfter(double seconds)
    {
        var connection = Rests();
        _play.Pass(seconds);
        Ends(connection);
    }

    void Ends(ConnectionState connection)
    {
        _play.Closing(connection);
        _play.IsClosed(connection);
    }
}
