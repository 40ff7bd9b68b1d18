using System.Net;

namespace Warmline.Options;

/// <summary>
/// What <c>NO_PROXY</c> may say. .NET compares each entry with the host as the address has it: a name, <c>.domain</c>, or an address. Other
/// programs understand more, and what .NET does not understand it ignores: calls that were to go past the proxy go through it.
/// </summary>
internal static class NoProxyForms
{
    const string Domain = "(.domain stands for the domain and all below it)";

    /// <summary>Whether the proxy is the one that the environment variables name.</summary>
    public static bool IsEnvironments(IWebProxy? proxy) => proxy?.GetType().FullName == "System.Net.Http.HttpEnvironmentProxy";

    public static string? OfEnvironment() =>
        Environment.GetEnvironmentVariable("no_proxy") is { Length: > 0 } lower ? lower : Environment.GetEnvironmentVariable("NO_PROXY");

    /// <summary>The entries that have no effect, each with what to write in its place.</summary>
    public static IEnumerable<(string Entry, string Instead)> Unsupported(string? value)
    {
        foreach (var entry in (value ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            if (Instead(entry) is { } instead)
            {
                yield return (Shown(entry), instead);
            }
        }
    }

    static string? Instead(string entry) => entry switch
    {
        "*" => "unset the proxy environment variables, or set UseProxy to false",
        _ when entry.Any(static letter => letter is ';' or ' ' or '\t' or '|') => "separate entries with commas",
        _ when entry.Contains("://", StringComparison.Ordinal) || entry.Contains('@', StringComparison.Ordinal) => "use the host name only",
        _ when entry.Contains('/', StringComparison.Ordinal) =>
            "name each host or address; for a range, set Proxy to a WebProxy whose BypassList has a pattern for it",
        _ when entry.StartsWith("*.", StringComparison.Ordinal) && !entry.AsSpan(1).Contains('*') => $"write {entry[1..]} {Domain}",
        _ when entry.Contains('*', StringComparison.Ordinal) =>
            "name each host or address; for a pattern, set Proxy to a WebProxy whose BypassList has it",
        _ when entry[0] != '[' && entry.Contains(':', StringComparison.Ordinal) && IPAddress.TryParse(entry, out _) => $"write [{entry}]",
        _ when PortAt(entry) is > 0 and var colon => $"write {entry[..colon]}",
        _ when entry.EndsWith('.') => "leave out the dot at the end",
        _ => null,
    };

    static int PortAt(string entry)
    {
        var colon = entry.LastIndexOf(':');
        return colon > entry.LastIndexOf(']') ? colon : -1;
    }

    /// <summary>Nothing that may be a user name or password.</summary>
    static string Shown(string entry) => entry.Length > 100 || entry.Contains('@', StringComparison.Ordinal) ? "an entry" : $"'{entry}'";
}
