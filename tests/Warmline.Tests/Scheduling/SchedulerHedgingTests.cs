using Warmline.Options;
using Warmline.Scheduling;
using Xunit;

namespace Warmline.Tests.Scheduling;

/// <summary>Dials that stand still, and servers that end what was opened: how many connections are tried, when, and who is served by which.</summary>
public sealed class SchedulerHedgingTests
{
    static readonly ConnectionKey A = SchedulerPlay.A;

    readonly SchedulerPlay _play = new(new SchedulerLimits { IdleTimeout = Timeout.InfiniteTimeSpan, ConnectionLifetime = Timeout.InfiniteTimeSpan });

    [Fact]
    public void Beside_a_dial_that_stands_still_others_are_tried_ever_more_rarely()
    {
        var start = _play.Now;
        _play.Ask(A);
        List<(double At, ConnectionState Dial)> dials = [.. _play.Dialed.Select(dial => (0.0, Advance(dial)))];
        for (var step = 0; step < 1000; step++)
        {
            _play.Pass(0.01);
            dials.AddRange(_play.Dialed.Select(dial => ((_play.Now - start).TotalSeconds, Advance(dial))));
        }

        Assert.Equal([0, 0.5, 0.75, 1.75, 5.75], dials.Select(dial => dial.At));
    }

    [Fact]
    public void The_first_that_is_usable_serves_and_those_that_stand_still_are_given_up()
    {
        var waiter = _play.Ask(A);
        var silent = Advance(_play.Dialed.Single());
        _play.Pass(0.5);
        Assert.Equal([silent], _play.Of(ActionKind.Distrust).Select(action => action.Connection));
        var other = Advance(_play.Dialed.Single());

        _play.Succeeds(other);

        Assert.Equal((WaiterState.Leased, other), (waiter.State, waiter.Connection));
        Assert.Equal([silent], _play.Of(ActionKind.GiveUpDial).Select(action => action.Connection));
        _play.Fails(silent);
        Assert.Equal((1, TimeSpan.MinValue), (_play.State(A).Connections.Count, _play.State(A).BackOffUntil));   // that others got through shows that the host is well
    }

    [Fact]
    public void Once_a_handshake_is_known_a_shorter_silence_is_enough()
    {
        _play.Ask(A);
        var dial = Advance(_play.Dialed.Single());
        _play.Pass(0.02);
        var first = _play.Succeeds(dial);
        _play.Ask(A);
        Advance(_play.Dialed.Single());
        _play.Pass(0.24);
        Assert.Empty(_play.Dialed);
        _play.Pass(0.02);
        Assert.Single(_play.Dialed);
        Assert.Equal(ConnectionPhase.Open, first.Phase);
    }

    [Fact]
    public void Once_one_is_through_all_that_wait_get_their_dials()
    {
        var http1 = new ConnectionKey(true, "a.test", 443, protocols: HttpProtocols.Http1);
        _play.Ask(10, http1);
        Array.ForEach(_play.Dialing(http1), dial => Advance(dial));
        _play.Pass(0.5);
        var probe = Advance(_play.Dialed.Single());   // one, and not ten more for a server that may be overloaded

        _play.Succeeds(probe);

        Assert.Equal(9, _play.Dialed.Length);
    }

    [Fact]
    public void A_server_that_is_slow_and_goes_on_is_not_taken_for_silent()
    {
        _play.Ask(5, new ConnectionKey(true, "a.test", 443, protocols: HttpProtocols.Http1));
        var dials = Array.ConvertAll(_play.State(_play.Scheduler.Keys.Single().Key).Connections.ToArray(), dial => Advance(dial));
        for (var i = 0; i < 4; i++)
        {
            _play.Pass(0.2);
            Assert.Empty(_play.Dialed);
            _play.Succeeds(dials[i]);   // each 0.2 s one is through: the last has stood still for 0.8 s
        }
    }

    [Fact]
    public void What_is_usual_for_the_origin_and_the_round_trip_make_for_patience()
    {
        _play.Ask(A);
        var far = _play.Dialed.Single();
        Advance(far, DialPhase.Tcp);
        _play.Pass(0.4);
        Advance(far, DialPhase.Tls);   // a round trip of 400 ms
        _play.Pass(1.5);
        Assert.Empty(_play.Dialed);
        _play.Succeeds(far);   // in 1.9 s all together
        _play.Ask(A);
        Advance(_play.Dialed.Single());
        _play.Pass(3.7);
        Assert.Empty(_play.Dialed);
        _play.Pass(0.2);
        Assert.Single(_play.Dialed);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void At_the_limit_the_silent_one_gives_way_in_time(bool ofHost)
    {
        var play = new SchedulerPlay(ofHost ? new SchedulerLimits { MaxConnectionsPerHost = 1 } : new SchedulerLimits { MaxConnections = 1 });
        var waiter = play.Ask(A);
        var silent = Advance(play.Dialed.Single(), play: play);
        play.Pass(1.9);
        Assert.Empty(play.Of(ActionKind.GiveUpDial));
        play.Pass(0.2);
        Assert.Single(play.Of(ActionKind.GiveUpDial));
        play.Fails(silent);

        play.Succeeds(play.Dialed.Single());

        Assert.Equal(WaiterState.Leased, waiter.State);
    }

    [Fact]
    public void A_name_that_resolves_slowly_is_no_silence_and_costs_the_dial_no_time()
    {
        _play.Ask(A);
        var dial = _play.Dialed.Single();
        _play.Pass(20);
        Assert.DoesNotContain(_play.Actions, action => action.Kind is ActionKind.Dial or ActionKind.Distrust);
        Advance(dial);
        _play.Succeeds(dial, isHttp2: true);
        _play.Pass(4.9);
        Assert.Empty(_play.Of(ActionKind.SettingsOverdue));
        _play.Pass(0.2);
        Assert.Single(_play.Of(ActionKind.SettingsOverdue));
    }

    [Fact]
    public void A_fresh_connection_gets_no_call_before_its_settings_while_another_is_open()
    {
        _play.Ask(A);
        var open = _play.Succeeds(_play.Dialed.Single(), isHttp2: true);
        _play.Settings(open, 1);
        var waiting = _play.Ask(3, A);
        var fresh = _play.Dialing(A).Select(dial => _play.Succeeds(Advance(dial), isHttp2: true)).ToArray();
        Assert.NotEmpty(fresh);
        Assert.All(waiting, waiter => Assert.Equal(WaiterState.Waiting, waiter.State));

        _play.Release(open.FirstLease!);

        Assert.Equal(open, Assert.Single(waiting, waiter => waiter.State is WaiterState.Leased).Connection);
        _play.Settings(fresh[0], 1);
        Assert.Contains(waiting, waiter => waiter.Connection == fresh[0]);
    }

    [Fact]
    public void A_waiter_fails_only_when_nothing_is_on_its_way_any_more()
    {
        var waiter = _play.Ask(A);
        var first = Advance(_play.Dialed.Single());
        _play.Pass(0.5);
        var second = Advance(_play.Dialed.Single());
        _play.Fails(first);
        Assert.Equal(WaiterState.Waiting, waiter.State);
        Assert.Empty(_play.Dialed);   // it has used up its time, so no third
        _play.Fails(second);
        Assert.Equal((WaiterState.Ended, RefusalKind.DialFailed), (waiter.State, _play.Refused.Single().Refusal));
    }

    [Fact]
    public void While_the_host_has_another_address_a_failed_dial_ends_nobodys_wait()
    {
        var waiter = _play.Ask(A);
        var first = Advance(_play.Dialed.Single());
        first.HasOtherAddress = true;
        _play.Fails(first);
        var second = Advance(_play.Dialed.Single());   // at once
        _play.Fails(second);
        Assert.Equal(WaiterState.Ended, waiter.State);
        Assert.True(_play.State(A).BackOffUntil > _play.Now);
    }

    [Theory]
    [InlineData(true, 2, 12)]
    [InlineData(false, 2, 12)]
    [InlineData(false, 8, 24)]
    public void A_server_that_ends_unused_connections_at_once_is_dialled_after_growing_pauses(bool http2, int warm, int most)
    {
        var dials = Hold(warm, seconds: 20, endsAfter: 0.05, http2);

        Assert.InRange(dials, 5, most);
        Assert.True(_play.State(A).Facts.DialsFailed >= dials - warm);
        Assert.Equal(1, _told);
    }

    [Theory]
    [InlineData(0.9)]
    [InlineData(1.5)]
    [InlineData(3)]
    [InlineData(7)]
    public void One_that_ends_them_later_costs_a_dial_for_each_life(double seconds)
    {
        var dials = Hold(3, 60, seconds, http2: false);

        Assert.InRange(dials, 3, seconds < 2 ? 30 : 3 * ((60 / seconds) + 1));
        Assert.Equal(1, _told);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(10)]
    public void A_limit_that_is_known_costs_hardly_more(int limit)
    {
        _play.HoldWarm(A, 3);
        var first = _play.Dialed;
        _play.State(A).IdleLimit.Known = TimeSpan.FromSeconds(limit);
        Array.ForEach(first, dial => _play.Succeeds(dial));
        var dials = first.Length;
        for (var step = 0; step < 6000; step++)
        {
            _play.Pass(0.01);
            foreach (var dial in _play.Dialed)
            {
                dials++;
                _play.Succeeds(dial);
            }

            foreach (var closing in _play.In(A, ConnectionPhase.Closing))
            {
                _play.IsClosed(closing);
            }
        }

        Assert.InRange(dials, 3 * 60 / limit, 3 * ((60 * 1.3 / limit) + 1));
    }

    int _told;

    /// <summary>Holds connections warm that the server ends so long after they were opened; how many are dialled.</summary>
    int Hold(int warm, double seconds, double endsAfter, bool http2)
    {
        List<(TimeSpan At, ConnectionState Connection)> ends = [];
        var dials = 0;
        _play.HoldWarm(A, warm);
        Take();
        for (var end = _play.Now + TimeSpan.FromSeconds(seconds); _play.Now < end;)
        {
            _play.Pass(0.01);
            Take();
            foreach (var due in ends.FindAll(one => one.At <= _play.Now))
            {
                ends.Remove(due);
                _play.Closing(due.Connection);
                Take();
                _play.IsClosed(due.Connection);
                Take();
            }
        }

        return dials;

        void Take()
        {
            _told += _play.Of(ActionKind.WarmthIsCostly).Length;
            foreach (var dial in _play.Dialed)
            {
                dials++;
                _play.Succeeds(dial, http2);
                var more = _play.Dialed;
                if (http2)
                {
                    _play.Settings(dial, 100);
                    more = [.. more, .. _play.Dialed];
                }

                ends.Add((_play.Now + TimeSpan.FromSeconds(endsAfter), dial));
                Assert.Empty(more);
            }
        }
    }

    ConnectionState Advance(ConnectionState dial, DialPhase step = DialPhase.Tls, SchedulerPlay? play = null)
    {
        if (dial.Step is DialPhase.Dns && step is not DialPhase.Tcp)
        {
            (play ?? _play).Advances(dial, DialPhase.Tcp);
        }

        (play ?? _play).Advances(dial, step);
        return dial;
    }
}
