using System.Net;
using Warmline.Scheduling;

namespace Warmline.Tests.Scheduling;

/// <summary>Idle limits, and what makes connections lose their trust: no connection is ridden past its limit, and what is flushed goes as one.</summary>
internal sealed partial class SchedulerModel
{
    static readonly TimeSpan Moment = TimeSpan.FromSeconds(1);

    readonly List<Link> _mustGo = [];

    /// <summary>The look before a call was sent found its connection ended, lost or not to be trusted.</summary>
    void Bypass(Call call, ConnectionEnd end)
    {
        Log("Bypass " + end, call, call.Link?.State.Phase);
        var mattered = call.Phase is CallPhase.Leased;
        if (mattered)
        {
            var link = call.Link!;
            if (link.IsUsable)
            {
                NoteIdleEnd(link, call.Rested, end);
            }

            link.NoMore = true;
            Enqueue(call);
            EndLease(call);
            _coverage.Note("bypassed");
        }

        _scheduler.Bypass(call, end, _now, _actions);
        Require(mattered || _actions.Count == 0, "a bypass that came twice did something");
        Absorb();
        Require(!_draining || call.Phase is CallPhase.Ended, $"{call} waits in a pool that drains");
        CheckFlush();
    }

    void ClockJumped()
    {
        Log("ClockJumped", _links.Count);
        _mustGo.AddRange(_links.Where(IsResting));
        _coverage.Note(_mustGo.Count > 0 ? "slept with idle connections" : "slept without");
        _scheduler.ClockJumped(_now, _actions);
        Absorb();
        CheckFlush();
    }

    void LocalAddresses(IPAddress[] addresses)
    {
        Log("LocalAddresses", addresses.Length);
        foreach (var link in _links)
        {
            if (link.IsUsable && link.State.LocalAddress is { } address && !addresses.Contains(address))
            {
                link.NoMore = true;
                _coverage.Note(link.Streams.Count > 0 ? "a busy connection lost its address" : "an idle connection lost its address");
                if (link.Streams.Count == 0)
                {
                    _mustGo.Add(link);
                }
            }
        }

        var lost = _mustGo.Count;
        _scheduler.LocalAddresses(addresses, _now, _actions);
        Require(lost == 0 || _actions.Count > 0, "an address vanished and nothing was done");
        Absorb();
        CheckFlush();
    }

    /// <summary>What the server said with its last answer.</summary>
    void DrawHint(Link link)
    {
        if (!link.IsHttp2)
        {
            link.State.HintSeconds = link.Hint = ModelSetup.Pick(_random, -1, -1, -1, 1, 2, 5, 60);
        }
    }

    /// <summary>Before the event: an end that follows idleness takes the others along when it was a loss, and may teach when it was in order.</summary>
    void NoteIdleEnd(Link link, TimeSpan rested, ConnectionEnd end)
    {
        if (!link.IsUsable || rested < Moment)
        {
            return;
        }

        if (end is ConnectionEnd.InOrder)
        {
            link.Home.IdleEnds.Add((rested, _now));
        }
        else if (end is ConnectionEnd.Lost)
        {
            _mustGo.AddRange(link.Home.Links.Where(other => other != link && IsResting(other)));
            _coverage.Note(_mustGo.Count > 0 ? "lost with others" : "lost alone");
        }
    }

    TimeSpan RestOf(Link link) => link.WasIdle ? _now - link.RestSince : TimeSpan.Zero;

    static bool IsResting(Link link) => link.IsUsable && link.State.Phase is ConnectionPhase.Open && link.Streams.Count == 0;

    void CheckFlush()
    {
        foreach (var link in _mustGo)
        {
            Require(link.CloseAsked || link.Closed, $"{link} was idle and is kept, although it is as lost as the others");
        }

        _mustGo.Clear();
    }

    /// <summary>The limit less its margin, by the book.</summary>
    TimeSpan AllowedIdle(Link link)
    {
        var limit = StateOf(link.Home)?.IdleLimit.Learned(_now, _limits.IdleMemory) ?? TimeSpan.MaxValue;
        limit = link.Hint >= 0 && TimeSpan.FromSeconds(link.Hint) < limit ? TimeSpan.FromSeconds(link.Hint) : limit;
        return limit == TimeSpan.MaxValue ? limit : limit - Margin(limit * (StateOf(link.Home)!.WarmGoal > 0 ? 0.1 : 0.6));

        static TimeSpan Margin(TimeSpan share) => share < TimeSpan.FromSeconds(2) ? share : TimeSpan.FromSeconds(2);
    }

    void CheckRest(Call call, Link link)
    {
        var rest = RestOf(link);
        Require(rest < AllowedIdle(link), $"{call} is granted on {link}, which has been idle for {rest} and may be for {AllowedIdle(link)}");
        Require(rest < _limits.IdleTimeout || _limits.IdleTimeout == Timeout.InfiniteTimeSpan || link.Home.HeldWarm + link.Home.WarmUps.Count > 0, $"{call} is granted on {link}, which has been idle for {rest}");
        _coverage.Note(link.Hint >= 0 && rest >= Moment ? "rode after a rest within its hint" : "rode");
    }

    /// <summary>A limit is learned from two ends that agree, at different moments, and from nothing less.</summary>
    void CheckLearned(ModelKey key, KeyState state)
    {
        if (state.IdleLimit.Learned(_now, _limits.IdleMemory) is not { } learned)
        {
            return;
        }

        _coverage.Note("an idle limit was learned");
        var near = key.IdleEnds.FindAll(end => (end.Age - learned).Duration() <= 2 * (learned / 10 > Moment ? learned / 10 : Moment));
        Require(near.Exists(end => end.Age == learned) && near.Exists(one => near.Exists(other => other.At - one.At > Moment)), $"{key.Key} learned {learned} from {string.Join(", ", key.IdleEnds)}");
    }
}
