using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;
using Warmline.Options;

namespace Warmline.Hosting;

/// <summary>One name that AddConnectionPool was called with, and what was said about it.</summary>
internal sealed class PoolRegistration(string name)
{
    public string Name { get; } = name;

    public List<IConfiguration> Sections { get; } = [];

    public List<Action<ConnectionPoolOptions>> Code { get; } = [];

    public List<Action<PoolHostingOptions>> HostingCode { get; } = [];
}

/// <summary>
/// All pools of a service collection. Makes their options: configuration first and code after it, in whatever order they were registered; a
/// preset fills only what both leave unset.
/// </summary>
internal sealed class PoolRegistrations : IConfigureNamedOptions<ConnectionPoolOptions>, IValidateOptions<ConnectionPoolOptions>, IConfigureNamedOptions<PoolHostingOptions>, IValidateOptions<PoolHostingOptions>
{
    readonly List<PoolRegistration> _pools = [];

    public IReadOnlyList<PoolRegistration> All => _pools;

    public PoolRegistration? Find(string? name) => _pools.Find(pool => pool.Name == name);

    public PoolRegistration Add(string name)
    {
        var pool = new PoolRegistration(name);
        _pools.Add(pool);
        return pool;
    }

    public void Configure(string? name, ConnectionPoolOptions options)
    {
        if (Find(name) is { } pool)
        {
            options.Name = PoolSettings.IsName(pool.Name) ? pool.Name : null;
            pool.Sections.ForEach(section => ConfigurationReader.Read(section, options));
            pool.Code.ForEach(configure => configure(options));
        }
    }

    public void Configure(string? name, PoolHostingOptions options)
    {
        if (Find(name) is { } pool)
        {
            pool.Sections.ForEach(section => ConfigurationReader.Read(section, options));
            pool.HostingCode.ForEach(configure => configure(options));
        }
    }

    public void Configure(ConnectionPoolOptions options) => Configure(Microsoft.Extensions.Options.Options.DefaultName, options);

    public void Configure(PoolHostingOptions options) => Configure(Microsoft.Extensions.Options.Options.DefaultName, options);

    public ValidateOptionsResult Validate(string? name, ConnectionPoolOptions options)
    {
        if (Find(name) is null)
        {
            return ValidateOptionsResult.Skip;
        }

        var problems = new List<string>();
        PoolSettings.Freeze(options, problems);
        return Result(name!, problems);
    }

    public ValidateOptionsResult Validate(string? name, PoolHostingOptions options) =>
        Find(name) is null ? ValidateOptionsResult.Skip : Result(name!, [.. options.ConfigurationProblems, .. options.Problems()]);

    /// <summary>One text for each pool, as the platform joins texts within a line: each problem on a line of its own.</summary>
    static ValidateOptionsResult Result(string name, List<string> problems) => problems switch
    {
        [] => ValidateOptionsResult.Success,
        [var only] => ValidateOptionsResult.Fail($"Pool '{PoolSet.Show(name)}': {only}"),
        _ => ValidateOptionsResult.Fail($"Pool '{PoolSet.Show(name)}':{string.Concat(problems.Select(problem => $"\n  {problem}"))}"),
    };
}
