using System.Net;
using Warmline.Options;
using Warmline.Scheduling;
using Xunit;

namespace Warmline.Tests.Scheduling;

/// <summary>A scheduler on a stage: events in few words, the answers of the last one at hand.</summary>
internal sealed class SchedulerPlay(SchedulerLimits? limits = null)
{
    public static readonly IOException NoRoute = new("no route");
    public static readonly ConnectionKey A = new(true, "a.test", 443);
    public static readonly ConnectionKey B = new(true, "b.test", 443);
    public static readonly ConnectionKey C = new(true, "c.test", 443);

    /// <summary>The same origin as <see cref="A"/>, another key.</summary>
    public static readonly ConnectionKey AlsoA = new(true, "a.test", 443, partition: "also");

    public Scheduler Scheduler { get; } = new(limits ?? new SchedulerLimits(), seed: 1);

    public SchedulerLimits Limits => Scheduler.Limits;

    public TimeSpan Now { get; private set; } = TimeSpan.FromHours(1);

    /// <summary>What the last event led to.</summary>
    public List<SchedulerAction> Actions { get; } = [];

    public TimeSpan WakeAt { get; private set; } = TimeSpan.MaxValue;

    public Waiter[] Granted => [.. Of(ActionKind.Grant).Select(action => action.Waiter)];

    public ConnectionState[] Dialed => [.. Of(ActionKind.Dial).Select(action => action.Connection)];

    public ConnectionState[] Closed => [.. Actions.Where(action => action.Kind is ActionKind.Close or ActionKind.Drop).Select(action => action.Connection)];

    public SchedulerAction[] Refused => [.. Of(ActionKind.Refuse)];

    public SchedulerAction[] Of(ActionKind kind) => [.. Actions.Where(action => action.Kind == kind)];

    public KeyState State(ConnectionKey key) => Scheduler.Keys.Single(state => state.Key.Equals(key));

    public ConnectionState[] Dialing(ConnectionKey key) => In(key, ConnectionPhase.Dialing);

    public ConnectionState[] In(ConnectionKey key, ConnectionPhase phase) => [.. State(key).Connections.Where(connection => connection.Phase == phase).OrderBy(connection => connection.Id)];

    public Waiter Ask(ConnectionKey key, double seconds = double.PositiveInfinity, long upload = 0, string lane = "", string tenant = "", int priority = 0, BudgetKey? budget = null)
    {
        var waiter = new Waiter { BudgetKey = budget, UploadBytes = upload, Deadline = double.IsInfinity(seconds) ? TimeSpan.MaxValue : Now + TimeSpan.FromSeconds(seconds), LaneName = lane, TenantName = tenant, Priority = priority };
        Play(() => Scheduler.Acquire(waiter, key, Now, Actions));
        return waiter;
    }

    public Waiter[] Ask(int count, ConnectionKey key, string lane = "", string tenant = "") => [.. Enumerable.Range(0, count).Select(_ => Ask(key, lane: lane, tenant: tenant))];

    /// <summary>A lane, as the options would have it.</summary>
    public static LaneSettings Lane(string name, int reserve = 0, int ceiling = int.MaxValue, int queue = int.MaxValue) => new(name, reserve, ceiling, queue, CallTimeouts.Default);

    public static SharingSettings Lanes(params LaneSettings[] lanes) => new() { Lanes = lanes.ToDictionary(lane => lane.Name) };

    /// <summary>Tenants by weight: of the others, 1.</summary>
    public static SharingSettings Weights(params (string Tenant, int Weight)[] tenants) => new() { Named = tenants.ToDictionary(tenant => tenant.Tenant, tenant => TenantLimits.None with { Weight = tenant.Weight }) };

    public PoolRejectionReason Reason(Waiter waiter) => Scheduler.ReasonFor(waiter);

    /// <summary>Of these, how many have a lease.</summary>
    public static int Held(IEnumerable<Waiter> waiters) => waiters.Count(waiter => waiter.State is WaiterState.Leased);

    /// <summary>The head of an answer comes.</summary>
    public void Answer(Waiter waiter, int status = 200, double? retryAfter = null, long? limit = null, long? remaining = null, double? reset = null)
    {
        var told = new RateLimits { RetryAfter = retryAfter is { } wait ? TimeSpan.FromSeconds(wait) : null };
        if ((limit ?? remaining) is not null)
        {
            ref var requests = ref told.At(RateLimitKind.Requests);
            requests.Limit = limit;
            requests.Remaining = remaining;
            requests.ResetIn = reset is { } until ? TimeSpan.FromSeconds(until) : null;
        }

        Play(() => Scheduler.Answered(waiter, told, status, Now, Actions));
    }

    public void SlowDown(Waiter waiter) => Play(() => Scheduler.SlowDown(waiter, Now, Actions));

    public void Cancel(Waiter waiter) => Play(() => Scheduler.Cancel(waiter, Now, Actions));

    public void Release(Waiter waiter, LeaseOutcome outcome = LeaseOutcome.Reusable) => Play(() => Scheduler.Release(waiter, outcome, Now, Actions));

    public void Release(IEnumerable<Waiter> waiters)
    {
        foreach (var waiter in waiters)
        {
            Release(waiter);
        }
    }

    public void UploadEnded(Waiter waiter) => Scheduler.UploadEnded(waiter);

    public ConnectionState Succeeds(ConnectionState connection, bool isHttp2 = false, int handshakeMilliseconds = 50)
    {
        Play(() => Scheduler.DialSucceeded(connection, isHttp2, TimeSpan.FromMilliseconds(handshakeMilliseconds), Now, Actions));
        return connection;
    }

    public void Advances(ConnectionState connection, DialPhase step) => Play(() => Scheduler.DialAdvanced(connection, step, Now, Actions));

    public void Fails(ConnectionState connection) => Play(() => Scheduler.DialFailed(connection, NoRoute, Now, Actions));

    public void Settings(ConnectionState connection, int limit) => Play(() => Scheduler.SettingsSeen(connection, limit, Now, Actions));

    public void Closing(ConnectionState connection, ConnectionEnd end = ConnectionEnd.InOrder) => Play(() => Scheduler.ConnectionClosing(connection, end, Now, Actions));

    public void Bypass(Waiter waiter, ConnectionEnd end) => Play(() => Scheduler.Bypass(waiter, end, Now, Actions));

    public void Sleeps() => Play(() => Scheduler.ClockJumped(Now, Actions));

    public void LocalAddresses(params IPAddress[] addresses) => Play(() => Scheduler.LocalAddresses(addresses, Now, Actions));

    public void IsClosed(ConnectionState connection) => Play(() => Scheduler.ConnectionClosed(connection, Now, Actions));

    public void Pause(ConnectionKey? key, double atLeastSeconds = 0) => Play(() => Scheduler.SetPaused(key?.Origin, true, Now, Actions, TimeSpan.FromSeconds(atLeastSeconds)));

    public void Resume(ConnectionKey? key) => Play(() => Scheduler.SetPaused(key?.Origin, false, Now, Actions));

    public void Retire(ConnectionKey? key) => Play(() => Scheduler.Retire(key?.Origin, Now, Actions));

    public void Change(SchedulerLimits limits) => Play(() => Scheduler.LimitsChanged(limits, Now, Actions));

    public void Drain() => Play(() => Scheduler.Drain(Now, Actions));

    public WarmUp WarmUp(ConnectionKey key, int connections)
    {
        var warmUp = new WarmUp(connections);
        Play(() => Scheduler.WarmUp(warmUp, key, Now, Actions));
        return warmUp;
    }

    public void HoldWarm(ConnectionKey key, int connections) => Play(() => Scheduler.HoldWarm(key, connections, Now, Actions));

    /// <summary>Time passes, with a Tick whenever one was asked for.</summary>
    public void Pass(double seconds) => Pass(TimeSpan.FromSeconds(seconds));

    public void Pass(TimeSpan time)
    {
        var until = Now + time;
        var all = new List<SchedulerAction>();
        for (var ticks = 0; WakeAt <= until; ticks++)
        {
            Assert.True(ticks < 100_000, $"asks for tick after tick at {WakeAt}");   // a timer that does not move on would hold the test for ever
            Now = WakeAt > Now ? WakeAt : Now;
            WakeAt = TimeSpan.MaxValue;
            Play(() => Scheduler.Tick(Now, Actions));
            all.AddRange(Actions);
        }

        Now = until;
        Actions.Clear();
        Actions.AddRange(all);
    }

    /// <summary>Time passes, and no Tick comes: a timer that is late.</summary>
    public void PassLate(double seconds) => Now += TimeSpan.FromSeconds(seconds);

    /// <summary>Opens connections that nobody uses yet.</summary>
    public ConnectionState[] OpenHttp1(ConnectionKey key, int count)
    {
        WarmUp(key, State0(key) + count);
        return [.. Dialed.Select(connection => Succeeds(connection))];
    }

    /// <summary>Opens HTTP/2 connections that nobody uses yet, their SETTINGS seen.</summary>
    public ConnectionState[] OpenHttp2(ConnectionKey key, int count, int limit = 100)
    {
        WarmUp(key, State0(key) + count);
        var opened = Dialed;
        foreach (var connection in opened)
        {
            Succeeds(connection, isHttp2: true);
            Settings(connection, limit);
        }

        Assert.Equal(count, opened.Length);
        return opened;
    }

    int State0(ConnectionKey key) => Scheduler.Keys.FirstOrDefault(state => state.Key.Equals(key))?.Usable ?? 0;

    void Play(Action play)
    {
        Actions.Clear();
        play();
        foreach (var action in Actions)
        {
            WakeAt = action.Kind is ActionKind.WakeAt && action.At < WakeAt ? action.At : WakeAt;
        }
    }
}
