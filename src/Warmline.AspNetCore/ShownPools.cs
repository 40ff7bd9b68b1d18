using Microsoft.Extensions.DependencyInjection;
using Warmline.Hosting;

namespace Warmline.AspNetCore;

/// <summary>The pools that an endpoint shows: those of the container, and those handed over.</summary>
internal sealed class ShownPools
{
    readonly PoolSet? _registered;
    readonly ConnectionPool[] _others;

    ShownPools(PoolSet? registered, ConnectionPool[] others) => (_registered, _others) = (registered, others);

    /// <exception cref="InvalidOperationException">There is none.</exception>
    public static ShownPools Of(IServiceProvider services, IEnumerable<ConnectionPool> others)
    {
        var shown = new ShownPools(services.GetService<PoolSet>(), [.. others]);
        return shown._registered is null && shown._others.Length == 0
            ? throw new InvalidOperationException("There is no connection pool to show: register one by services.AddConnectionPool(), or hand yours over by MapPoolStats(configure: o => o.Pools.Add(pool)).")
            : shown;
    }

    /// <summary>The pools, each once. Makes those of the container that nobody has asked for yet.</summary>
    public List<ConnectionPool> All() => [.. (_registered?.Names ?? []).Select(name => _registered!.Get(name)).Concat(_others).Distinct()];
}
