using Warmline.Options;
using Warmline.Scheduling;

namespace Warmline;

/// <summary>Options that change while the pool runs.</summary>
internal sealed partial class PoolEngine
{
    /// <summary>Held for the whole of an update, from the first look at the current settings. Concurrent updates must not mix one
    /// update's settings with another's limits.</summary>
    readonly Lock _updateGate = new();

    /// <summary>Applies the settings; when that cannot be done while the pool runs, names what is fixed and changes nothing.</summary>
    public IReadOnlyList<string> TryUpdate(PoolSettings settings)
    {
        lock (_updateGate)
        {
            var before = Settings;
            if (before.FixedIn(settings) is { Count: > 0 } fixedNames)
            {
                return fixedNames;
            }

            if (before.Enabled != settings.Enabled)
            {
                LogSwitch(settings.Enabled);
            }

            Play((Engine: this, Settings: settings with { Name = Name }), static (scheduler, update, now, actions) =>
            {
                update.Engine.Settings = update.Settings;   // under the same lock: a reader sees both from the same update
                scheduler.LimitsChanged(SchedulerLimits.From(update.Settings), now, actions);
            });
            SetLeakWatch();
            var released = before.WarmConnections.Keys.Except(settings.WarmConnections.Keys);
            foreach (var (key, connections) in settings.WarmConnections.Concat(released.Select(key => KeyValuePair.Create(key, 0))))
            {
                KeepWarm(key, connections);
            }

            return [];
        }
    }

    void KeepWarm(ConnectionKey key, int connections) =>
        Play((key, connections), static (scheduler, warm, now, actions) => scheduler.HoldWarm(warm.key, warm.connections, now, actions));
}
