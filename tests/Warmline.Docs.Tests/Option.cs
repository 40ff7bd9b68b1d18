using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Reflection;
using System.Text.RegularExpressions;
using Warmline.Options;

namespace Warmline.Docs.Tests;

/// <summary>An option of a pool by its path, as in <c>Http2.TargetStreams</c> or <c>Lanes[name].Reserve</c>, read by reflection.</summary>
sealed partial record Option(string Path, PropertyInfo Property)
{
    /// <summary>All that <see cref="ConnectionPoolOptions"/> has, groups and named objects opened.</summary>
    public static IReadOnlyList<Option> All { get; } = [.. Opened(typeof(ConnectionPoolOptions), "")];

    /// <summary>Those of one type alone.</summary>
    public static IEnumerable<Option> Of<T>(string prefix = "") => Own(typeof(T)).Select(property => new Option(prefix + property.Name, property));

    /// <summary>What stands in <paramref name="options"/>, or rules where nothing stands there: of the frozen options.</summary>
    public object? EffectiveIn(ConnectionPoolOptions options)
    {
        var frozen = ConnectionPool.Freeze(options);
        return Path switch
        {
            "MaxIdleConnections" => frozen.MaxIdleConnections,
            "Timeouts.Connect" => frozen.ConnectTimeout,
            _ when Path.StartsWith("Timeouts.", StringComparison.Ordinal) => typeof(CallTimeouts).GetProperty(Property.Name)!.GetValue(frozen.Timeouts),
            _ => Property.GetValue(Owner(options)),
        };
    }

    /// <summary>As the pages write a value.</summary>
    public static string Text(object? value) => value switch
    {
        null or int.MaxValue or DecompressionMethods.None => "none",
        TimeSpan time when time == Timeout.InfiniteTimeSpan => "none",
        TimeSpan time when time >= TimeSpan.FromMinutes(15) => time.Ticks % TimeSpan.TicksPerHour == 0 ? $"{time.TotalHours} h" : $"{time.TotalMinutes} min",
        TimeSpan time => $"{time.TotalSeconds} s",
        int number => number.ToString("N0", CultureInfo.InvariantCulture),
        bool flag => flag ? "true" : "false",
        PoolTimeouts => "unset",
        System.Collections.ICollection { Count: 0 } => "empty",
        Enum or string => value.ToString()!,
        _ => throw new NotSupportedException($"How is {value} written?"),
    };

    /// <summary>The range that its documentation tells; of an enumeration its members; null where there is none to tell.</summary>
    public string? Range()
    {
        var told = RangeSentence().Match(XmlDocs.SummaryOf(Property));
        var type = Nullable.GetUnderlyingType(Property.PropertyType) ?? Property.PropertyType;
        return told.Success ? told.Groups[1].Value
            : Property.DeclaringType == typeof(PoolTimeouts) ? "above 0, or infinite"   // as the type says of each
            : type.IsEnum && type != typeof(DecompressionMethods) ? string.Join(", ", Enum.GetNames(type)) : null;
    }

    /// <summary>Whether a pool cannot change it while it runs: another value of it alone, in options that are otherwise the same, is one of those that it names as fixed.</summary>
    public bool IsFixed()
    {
        var (before, after) = (Base(), Base());
        after.SslOptions = before.SslOptions;
        after.Proxy = before.Proxy;
        var owner = Owner(after);
        if (Property.GetValue(owner) is System.Collections.IDictionary named)
        {
            named["other"] = Activator.CreateInstance(Property.PropertyType.GenericTypeArguments[1]);
        }
        else
        {
            Property.SetValue(owner, Other(Property.GetValue(owner)));
        }

        return ConnectionPool.Freeze(before).FixedIn(ConnectionPool.Freeze(after)).Count > 0;

        // Connections of one's own, or a tenant may not have a limit of them.
        ConnectionPoolOptions Base() => new() { Tenants = { Isolation = Path == "Tenants.Isolation" ? TenantIsolation.Leases : TenantIsolation.Connections } };
    }

    object? Other(object? value) => (Nullable.GetUnderlyingType(Property.PropertyType) ?? Property.PropertyType) switch
    {
        var type when type == typeof(bool) => value is not true,
        var type when type == typeof(int) => (value as int? ?? 4) + 1,
        var type when type == typeof(TimeSpan) => (value as TimeSpan? ?? TimeSpan.FromSeconds(5)) + TimeSpan.FromSeconds(1),
        var type when type == typeof(DecompressionMethods) => DecompressionMethods.GZip,
        var type when type.IsEnum => Enum.GetValues(type).Cast<object>().First(other => !other.Equals(value)),
        var type when type == typeof(string) => "other",
        var type when type == typeof(Func<HttpRequestMessage, CancellationToken, ValueTask>) => (HttpRequestMessage _, CancellationToken _) => ValueTask.CompletedTask,
        var type when type == typeof(IWebProxy) => new WebProxy("http://proxy.example:8080"),
        var type when type == typeof(SslClientAuthenticationOptions) => new SslClientAuthenticationOptions(),
        var type => throw new NotSupportedException($"Another {type} for {Path}?"),
    };

    /// <summary>The object that holds the property: for named objects a new one of its type.</summary>
    object Owner(object options)
    {
        var owner = options;
        foreach (var step in Path.Split('.')[..^1])
        {
            owner = step.EndsWith(']') ? Activator.CreateInstance(Property.DeclaringType!)! : owner.GetType().GetProperty(step)!.GetValue(owner)!;
        }

        return owner;
    }

    static IEnumerable<Option> Opened(Type type, string prefix)
    {
        foreach (var property in Own(type))
        {
            if (property.PropertyType is { IsGenericType: true } dictionary && dictionary.GetGenericTypeDefinition() == typeof(IDictionary<,>))
            {
                yield return new Option(prefix + property.Name, property);
                foreach (var inner in Opened(dictionary.GenericTypeArguments[1], $"{prefix}{property.Name}[{(property.Name == "Hosts" ? "origin" : "name")}]."))
                {
                    yield return inner;
                }
            }
            else if (IsGroup(property.PropertyType) && !prefix.EndsWith("].", StringComparison.Ordinal))   // a lane's clocks are the pool's by name
            {
                foreach (var inner in Opened(property.PropertyType, $"{prefix}{property.Name}."))
                {
                    yield return inner;
                }
            }
            else
            {
                yield return new Option(prefix + property.Name, property);
            }
        }
    }

    static bool IsGroup(Type type) => type.Assembly == typeof(ConnectionPoolOptions).Assembly && type.IsClass && (type.Name.EndsWith("Options", StringComparison.Ordinal) || type == typeof(PoolTimeouts));

    static PropertyInfo[] Own(Type type) => type.GetProperties(BindingFlags.Public | BindingFlags.Instance);

    [GeneratedRegex(@"Range: (.+?)\.(?: |$)")]
    private static partial Regex RangeSentence();
}
