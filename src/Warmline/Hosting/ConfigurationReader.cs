using System.Globalization;
using System.Net;
using Microsoft.Extensions.Configuration;
using Warmline.Options;

namespace Warmline.Hosting;

/// <summary>
/// Reads a section of the configuration into options. By hand, and not by the platform's binder: that one ignores a misspelt key, takes
/// <c>30</c> for thirty days, and stops at the first mistake. Here each is a problem with its path, reported together with all others.
/// </summary>
internal static class ConfigurationReader
{
    delegate void Setter<in T>(T options, Value value);

    static readonly Dictionary<string, Setter<Http2Options>> Http2 = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Mode"] = (options, value) => options.Mode = value.Mode() ?? options.Mode,
        ["TargetStreams"] = (options, value) => options.TargetStreams = value.Number() ?? options.TargetStreams,
        ["SpreadConnections"] = (options, value) => options.SpreadConnections = value.Number() ?? options.SpreadConnections,
        ["MaxStreamsPerConnection"] = (options, value) => options.MaxStreamsPerConnection = value.Number() ?? options.MaxStreamsPerConnection,
        ["PingDelay"] = (options, value) => options.PingDelay = value.Time() ?? options.PingDelay,
        ["PingTimeout"] = (options, value) => options.PingTimeout = value.Time() ?? options.PingTimeout,
    };

    static readonly Dictionary<string, Setter<PoolTimeouts>> Timeouts = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Pool"] = (options, value) => options.Pool = value.Time(),
        ["Connect"] = (options, value) => options.Connect = value.Time(),
        ["Write"] = (options, value) => options.Write = value.Time(),
        ["FirstByte"] = (options, value) => options.FirstByte = value.Time(),
        ["Read"] = (options, value) => options.Read = value.Time(),
        ["Content"] = (options, value) => options.Content = value.Time(),
        ["Total"] = (options, value) => options.Total = value.Time(),
    };

    static readonly Dictionary<string, Setter<DnsOptions>> Dns = new(StringComparer.OrdinalIgnoreCase)
    {
        ["CacheEnabled"] = (options, value) => options.CacheEnabled = value.Flag() ?? options.CacheEnabled,
        ["CacheTtl"] = (options, value) => options.CacheTtl = value.Time() ?? options.CacheTtl,
        ["MaxStale"] = (options, value) => options.MaxStale = value.Time() ?? options.MaxStale,
        ["FailureTtl"] = (options, value) => options.FailureTtl = value.Time() ?? options.FailureTtl,
    };

    static readonly Dictionary<string, Setter<TcpKeepAliveOptions>> TcpKeepAlive = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Idle"] = (options, value) => options.Idle = value.Time() ?? options.Idle,
        ["Interval"] = (options, value) => options.Interval = value.Time() ?? options.Interval,
        ["Count"] = (options, value) => options.Count = value.Number() ?? options.Count,
    };

    static readonly Dictionary<string, Setter<OriginOptions>> Host = new(StringComparer.OrdinalIgnoreCase)
    {
        ["WarmConnections"] = (options, value) => options.WarmConnections = value.Number() ?? options.WarmConnections,
        ["Profile"] = ReadProfile,
        ["Pacing"] = (options, value) => options.Pacing = value.Flag(),
    };

    static readonly Dictionary<string, Setter<LaneOptions>> Lane = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Reserve"] = (options, value) => options.Reserve = value.Number() ?? options.Reserve,
        ["Ceiling"] = (options, value) => options.Ceiling = value.Number(),
        ["MaxQueueLength"] = (options, value) => options.MaxQueueLength = value.Number(),
        ["Timeouts"] = (options, value) => value.Group(options.Timeouts, Timeouts),
    };

    static readonly Dictionary<string, Setter<TenantOptions>> Tenant = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Weight"] = (options, value) => options.Weight = value.Number() ?? options.Weight,
        ["MaxConcurrentRequests"] = (options, value) => options.MaxConcurrentRequests = value.Number(),
        ["MaxConnections"] = (options, value) => options.MaxConnections = value.Number(),
        ["MaxQueueLength"] = (options, value) => options.MaxQueueLength = value.Number(),
    };

    static readonly Dictionary<string, Setter<TenantsOptions>> Tenants = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Isolation"] = (options, value) => options.Isolation = value.Isolation() ?? options.Isolation,
        ["MaxConcurrentRequests"] = (options, value) => options.MaxConcurrentRequests = value.Number(),
        ["MaxConnections"] = (options, value) => options.MaxConnections = value.Number(),
        ["MaxQueueLength"] = (options, value) => options.MaxQueueLength = value.Number(),
        ["MaxKnown"] = (options, value) => options.MaxKnown = value.Number() ?? options.MaxKnown,
        ["Named"] = (options, value) => value.Members(options.Named, Tenant),
    };

    static readonly Dictionary<string, Setter<PoolHostingOptions>> Hosting = new(StringComparer.OrdinalIgnoreCase)
    {
        ["WarmUpTimeout"] = (options, value) => options.WarmUpTimeout = value.Time() ?? options.WarmUpTimeout,
        ["RequireWarmUp"] = (options, value) => options.RequireWarmUp = value.Flag() ?? options.RequireWarmUp,
        ["DrainTimeout"] = (options, value) => options.DrainTimeout = value.Time(),
    };

    static readonly Dictionary<string, Setter<ConnectionPoolOptions>> Pool = new(StringComparer.OrdinalIgnoreCase)
    {
        ["Enabled"] = (options, value) => options.Enabled = value.Flag() ?? options.Enabled,
        ["Preset"] = ReadPreset,
        ["MaxConnections"] = (options, value) => options.MaxConnections = value.Number() ?? options.MaxConnections,
        ["MaxConnectionsPerHost"] = (options, value) => options.MaxConnectionsPerHost = value.Number(),
        ["MaxConcurrentRequests"] = (options, value) => options.MaxConcurrentRequests = value.Number(),
        ["MaxIdleConnections"] = (options, value) => options.MaxIdleConnections = value.Number(),
        ["MaxQueueLength"] = (options, value) => options.MaxQueueLength = value.Number() ?? options.MaxQueueLength,
        ["RetryBudget"] = (options, value) => options.RetryBudget = value.Number() ?? options.RetryBudget,
        ["LeakThreshold"] = (options, value) => options.LeakThreshold = value.Time(),
        ["IdleTimeout"] = (options, value) => options.IdleTimeout = value.Time() ?? options.IdleTimeout,
        ["ConnectionLifetime"] = (options, value) => options.ConnectionLifetime = value.Time() ?? options.ConnectionLifetime,
        ["UseProxy"] = (options, value) => options.UseProxy = value.Flag() ?? options.UseProxy,
        ["AllowAutoRedirect"] = (options, value) => options.AllowAutoRedirect = value.Flag() ?? options.AllowAutoRedirect,
        ["AutomaticDecompression"] = (options, value) => options.AutomaticDecompression = value.Methods() ?? options.AutomaticDecompression,
        ["Name"] = (options, value) => options.Name = value.Text is { Length: > 0 } name ? name : options.Name,
        ["StatsLogInterval"] = (options, value) => options.StatsLogInterval = value.Time(),
        ["Http2"] = (options, value) => value.Group(options.Http2, Http2),
        ["Timeouts"] = (options, value) => value.Group(options.Timeouts, Timeouts),
        ["Dns"] = (options, value) => value.Group(options.Dns, Dns),
        ["TcpKeepAlive"] = (options, value) => value.Group(options.TcpKeepAlive, TcpKeepAlive),
        ["Lanes"] = (options, value) => value.Members(options.Lanes, Lane),
        ["Tenants"] = (options, value) => value.Group(options.Tenants, Tenants),
        ["Pacing"] = (options, value) => options.Pacing = value.Flag() ?? options.Pacing,
        ["Hosts"] = (options, value) => ReadHosts(options, "", value),
        ["Hosting"] = (_, _) => { },   // the other reader's
        ["BeforeSend"] = (_, value) => value.Problem("cannot be configured: set it in code"),
        ["SslOptions"] = (_, value) => value.Problem("cannot be configured: set it in code"),
        ["Proxy"] = (_, value) => value.Problem("cannot be configured: set it in code, or by HTTPS_PROXY and NO_PROXY in the environment"),
    };

    public static void Read(IConfiguration configuration, ConnectionPoolOptions options) => ReadGroup(configuration, options, Pool, options.ConfigurationProblems);

    public static void Read(IConfiguration configuration, PoolHostingOptions options) => ReadGroup(configuration.GetSection("Hosting"), options, Hosting, options.ConfigurationProblems);

    static void ReadGroup<T>(IConfiguration group, T options, Dictionary<string, Setter<T>> setters, List<string> problems)
    {
        foreach (var section in group.GetChildren())
        {
            var value = new Value(section, problems);
            if (!setters.TryGetValue(section.Key, out var set))
            {
                value.Unknown(setters.Keys);
            }
            else
            {
                set(options, value);
            }
        }
    }

    static void ReadPreset(ConnectionPoolOptions options, Value value)
    {
        if (value.Text is { Length: > 0 } name)
        {
            if (PoolPreset.Find(name) is { } preset)
            {
                options.UsePreset(preset);
            }
            else
            {
                value.Problem($"is '{name}': must be {string.Join(", ", PoolPreset.All.Select(known => known.Name))}");
            }
        }
    }

    static void ReadProfile(OriginOptions options, Value value)
    {
        if (value.Text is { Length: > 0 } name)
        {
            options.Profile = ProviderProfile.Find(name);
            if (options.Profile is null)
            {
                value.Problem($"is '{name}': must be {string.Join(", ", ProviderProfile.All.Select(known => known.Name))}");
            }
        }
    }

    /// <summary>
    /// Configuration keys are split at each colon, an address's own too: below Hosts every step that is no option of a host is a part of
    /// its address.
    /// </summary>
    static void ReadHosts(ConnectionPoolOptions options, string address, Value value)
    {
        foreach (var section in value.Section.GetChildren())
        {
            var inner = new Value(section, value.Problems);
            if (address.Length > 0 && Host.TryGetValue(section.Key, out var set))
            {
                if (!options.Hosts.TryGetValue(address, out var host))
                {
                    options.Hosts[address] = host = new OriginOptions();
                }

                set(host, inner);
            }
            else if (inner.Text is { Length: > 0 })
            {
                if (address.Length == 0)
                {
                    inner.Problem("must be an object, like { \"api.openai.com\": { \"WarmConnections\": 4 } }");
                }
                else
                {
                    inner.Unknown(Host.Keys);
                }
            }
            else
            {
                ReadHosts(options, address.Length == 0 ? section.Key : $"{address}:{section.Key}", inner);
            }
        }
    }

    /// <summary>One section, and where its problems go. A value that is empty or null leaves the option as it is.</summary>
    readonly struct Value(IConfigurationSection section, List<string> problems)
    {
        public IConfigurationSection Section => section;

        public List<string> Problems => problems;

        public string? Text => section.Value;

        public int? Number() => Parse("a whole number, like 50", static (string text, out int number) => int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out number));

        public bool? Flag() => Parse("true or false", static (string text, out bool flag) => bool.TryParse(text, out flag));

        public TimeSpan? Time() => Parse("a time with its unit, like 500ms, 30s, 2m, 1h, 00:00:30 or infinite", static (string text, out TimeSpan time) => Duration.TryParse(text, out time));

        public Http2Mode? Mode() => Parse("Preferred, Disabled or Required", static (string text, out Http2Mode mode) => Enum.TryParse(text, ignoreCase: true, out mode) && !char.IsAsciiDigit(text.TrimStart()[0]));

        public TenantIsolation? Isolation() => Parse("Leases or Connections", static (string text, out TenantIsolation isolation) => Enum.TryParse(text, ignoreCase: true, out isolation) && !char.IsAsciiDigit(text.TrimStart()[0]));

        public DecompressionMethods? Methods() => Parse("None, All, or some of GZip, Deflate, Brotli with commas between", static (string text, out DecompressionMethods methods) =>
            Enum.TryParse(text, ignoreCase: true, out methods) && !char.IsAsciiDigit(text.TrimStart()[0]));

        public void Group<T>(T? options, Dictionary<string, Setter<T>> setters)
        {
            if (Text is { Length: > 0 } text)
            {
                Problem($"is '{text}': must be an object with {string.Join(", ", setters.Keys)}");
            }
            else if (options is not null)
            {
                ReadGroup(section, options, setters, problems);
            }
        }

        /// <summary>Options by name, each an object of its own.</summary>
        public void Members<T>(IDictionary<string, T> members, Dictionary<string, Setter<T>> setters)
            where T : class, new()
        {
            if (Text is { Length: > 0 } text)
            {
                Problem($"is '{text}': must be an object of named objects, each with {string.Join(", ", setters.Keys)}");
            }

            foreach (var member in section.GetChildren())
            {
                if (!members.TryGetValue(member.Key, out var options))
                {
                    members[member.Key] = options = new T();
                }

                new Value(member, problems).Group(options, setters);
            }
        }

        /// <summary>A key that is no option: most are misspelt, so what is near comes first.</summary>
        public void Unknown(IReadOnlyCollection<string> known)
        {
            var key = section.Key;
            var (near, edits) = known.Select(name => (Name: name, Edits: Edits(key, name))).MinBy(static candidate => candidate.Edits);
            Problem($"is not an option.{(edits <= 2 && edits * 2 < key.Length ? $" Did you mean {near}?" : "")} Known here: {string.Join(", ", known)}");
        }

        public void Problem(string what) => problems.Add($"{section.Path} {what}.");

        T? Parse<T>(string rule, Parser<T> parse)
            where T : struct
        {
            if (Text is not { Length: > 0 } text)
            {
                if (section.GetChildren().Any())
                {
                    Problem($"is an object: must be {rule}");
                }

                return null;
            }

            if (parse(text, out var parsed))
            {
                return parsed;
            }

            Problem($"is '{text}': must be {rule}");
            return null;
        }
    }

    /// <summary>Letters to insert, leave out or replace until one word is the other (Levenshtein), whatever their case.</summary>
    static int Edits(string from, string to)
    {
        // From the beginning of one, as far as it was read, to each beginning of the other.
        var row = Enumerable.Range(0, to.Length + 1).ToArray();
        for (var i = 1; i <= from.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= to.Length; j++)
            {
                var replaced = diagonal + (char.ToUpperInvariant(from[i - 1]) == char.ToUpperInvariant(to[j - 1]) ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(replaced, Math.Min(row[j], row[j - 1]) + 1);
            }
        }

        return row[to.Length];
    }

    delegate bool Parser<T>(string text, out T value);
}
