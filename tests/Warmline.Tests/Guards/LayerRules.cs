using System.Text.RegularExpressions;

namespace Warmline.Tests.Guards;

/// <summary>
/// Which folder of the library may use which, checked on the sources: by the names of the types and extension methods that the folders
/// declare.
/// </summary>
internal static partial class LayerRules
{
    const string Root = "root";

    static readonly string[] Leaves = ["Options", "Providers", "Telemetry"];

    static readonly Dictionary<string, string[]> MayUse = new()
    {
        ["Options"] = Leaves,
        ["Providers"] = Leaves,
        ["Telemetry"] = Leaves,
        ["Scheduling"] = [.. Leaves, "Scheduling"],
        ["Transport"] = [.. Leaves, "Transport"],
        ["Pool"] = [.. Leaves, "Scheduling", "Transport", Root, "Pool", "Calls"],
        ["Calls"] = [.. Leaves, "Scheduling", "Transport", Root, "Pool", "Calls"],
        [Root] = [.. Leaves, "Scheduling", "Transport", Root, "Pool", "Calls"],
        ["Hosting"] = [.. Leaves, Root, "Pool", "Hosting"],
    };

    /// <summary>One line for each use that the layout forbids.</summary>
    /// <param name="sources">Paths below the library's folder, and texts.</param>
    public static IEnumerable<string> Violations(IEnumerable<(string Path, string Text)> sources)
    {
        var files = sources.Select(source => (source.Path, Layer: LayerOf(source.Path), Code: CSharpCode.Of(source.Text))).ToList();
        var declared = files.SelectMany(file => Declarations().Matches(file.Code).Select(match => (match.Groups["name"].Value, file.Layer)))
            .ToLookup(type => type.Value, type => type.Layer, StringComparer.Ordinal);
        var extensions = files.SelectMany(file => Extensions().Matches(file.Code).Select(match => (match.Groups["name"].Value, file.Layer)))
            .ToLookup(method => method.Value, method => method.Layer, StringComparer.Ordinal);

        foreach (var (path, layer, code) in files)
        {
            if (!MayUse.TryGetValue(layer, out var allowed))
            {
                yield return $"{path}: the folder {layer} is not in the layout";
                continue;
            }

            var uses = Names().Matches(code).Select(match => (match.Groups["name"].Value, Layers: declared[match.Groups["name"].Value]))
                .Concat(Calls().Matches(code).Select(match => (match.Groups["name"].Value, Layers: extensions[match.Groups["name"].Value])))
                .Concat(Usings().Matches(code).Select(match => (match.Value, Layers: match.Groups["layer"].Captures.Select(capture => capture.Value))));
            foreach (var (name, layers) in uses.DistinctBy(use => use.Value))
            {
                if (layers.Any() && !layers.Intersect(allowed).Any())
                {
                    yield return $"{path}: {layer} must not use {layers.First()} ({name})";
                }
            }

            foreach (var name in layer == "Scheduling" ? Impure().Matches(code).Select(match => match.Value).Distinct() : [])
            {
                yield return $"{path}: Scheduling is a pure state machine and knows no {name}";
            }
        }
    }

    static string LayerOf(string path) => path.IndexOf('/', StringComparison.Ordinal) is var slash && slash < 0 ? Root : path[..slash];

    [GeneratedRegex(@"^(?:(?:public|internal|static|sealed|abstract|partial|readonly|ref|unsafe) )*(?:(?:class|struct|interface|enum|record struct|record class|record) |delegate [^(=;]*?)(?<name>\w+)(?=[\s<({:;])", RegexOptions.Multiline)]
    private static partial Regex Declarations();

    [GeneratedRegex(@"\b(?<name>\w+)(?:<[^<>()]*>)?\(this\s")]
    private static partial Regex Extensions();

    [GeneratedRegex(@"(?<![\w.])(?:global::)?(?:(?:Warmline|Options|Providers|Telemetry|Scheduling|Transport|Pool|Calls|Hosting)\.)*(?<name>[A-Za-z_]\w*)\b(?!\s*(?:\{\s*get\b|=(?![=>])))")]   // a property's own name, declared or assigned to, is no use of the type
    private static partial Regex Names();

    [GeneratedRegex(@"\.(?<name>\w+)(?:<[^<>()]*>)?\(")]
    private static partial Regex Calls();

    [GeneratedRegex(@"\bWarmline\.(?<layer>Options|Providers|Telemetry|Scheduling|Transport|Pool|Calls|Hosting)\s*;")]
    private static partial Regex Usings();

    [GeneratedRegex(@"(?<![\w.])(?:System\.(?:\w+\.)*)?(?:await|async|lock|Lock|Monitor|Interlocked|Socket\w*|Http\w*Message|HttpClient\w*|Stream|Task|ValueTask|Thread|Timer|TimeProvider|DateTime|DateTimeOffset|Stopwatch|ILogger)\b")]
    private static partial Regex Impure();
}
