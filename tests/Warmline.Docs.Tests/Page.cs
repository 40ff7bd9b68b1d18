using System.Text;
using System.Text.RegularExpressions;

namespace Warmline.Docs.Tests;

/// <summary>A fenced block of a page: its language, its lines, the number of its first line in the file, and the heading above it.</summary>
sealed record Block(string Path, int Line, string Language, string[] Lines, string Section = "")
{
    public string Text => string.Join('\n', Lines);

    public override string ToString() => $"{Path}:{Line}";
}

/// <summary>A row of a table, by the section that it stands in.</summary>
sealed record Row(string Section, int Line, string[] Cells);

/// <summary>A Markdown file of the repository.</summary>
sealed partial class Page
{
    readonly string[] _lines;

    Page(string path)
    {
        Path = path;
        _lines = File.ReadAllLines(System.IO.Path.Combine(Root, path));
        Read();
    }

    /// <summary>The directory of Warmline.slnx, found upwards from the test's program.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>All Markdown files, by their paths from the root.</summary>
    public static IReadOnlyList<Page> All { get; } = [.. Walk(new DirectoryInfo(Root)).Order(StringComparer.Ordinal).Select(path => new Page(path))];

    /// <summary>Those whose code a reader takes.</summary>
    public static IReadOnlyList<Page> Documents { get; } = [.. All.Where(page => page.Path is "README.md" or "CONTRIBUTING.md" || page.Path.StartsWith("docs/", StringComparison.Ordinal))];

    public string Path { get; }

    public List<Block> Blocks { get; } = [];

    /// <summary>What a link's fragment can name.</summary>
    public HashSet<string> Anchors { get; } = new(StringComparer.Ordinal);

    /// <summary>Line and target of each link and picture.</summary>
    public List<(int Line, string Target)> Links { get; } = [];

    /// <summary>Code within the text, and the line that it stands in.</summary>
    public List<(int Line, string Text)> Spans { get; } = [];

    public List<Row> Rows { get; } = [];

    /// <summary>The text below each heading, tables included, up to the next heading of any level; code without its marks.</summary>
    public Dictionary<string, string> Sections { get; } = new(StringComparer.Ordinal);

    public static Page Of(string path) => All.Single(page => page.Path == path);

    /// <summary>The rows of the tables below headings that begin with one of these words.</summary>
    public IEnumerable<Row> RowsIn(params string[] sections) => Rows.Where(row => sections.Any(section => row.Section.StartsWith(section, StringComparison.Ordinal)));

    /// <summary>Whether the page has this name as code, within the text or in a block of C#, alone or as a part of a longer path.</summary>
    public bool Names(string name) => Spans.Select(span => span.Text).Concat(Blocks.Where(block => block.Language == "csharp").Select(block => block.Text)).Any(text => Regex.IsMatch(text, $@"(?<![A-Za-z0-9_]){Regex.Escape(name)}(?![A-Za-z0-9_])"));

    void Read()
    {
        var (heading, text, seen) = ("", new StringBuilder(), new Dictionary<string, int>(StringComparer.Ordinal));
        for (var i = 0; i < _lines.Length; i++)
        {
            var line = _lines[i];
            if (Fence().Match(line) is { Success: true } fence)
            {
                var end = Array.FindIndex(_lines, i + 1, later => later.TrimStart().StartsWith("```", StringComparison.Ordinal));
                Assert.True(end >= 0, $"{Path}:{i + 1}: a block without an end.");
                Blocks.Add(new Block(Path, i + 2, fence.Groups[1].Value, _lines[(i + 1)..end], heading));
                i = end;
            }
            else if (Heading().Match(line) is { Success: true } head)
            {
                Sections.TryAdd(heading, text.ToString());
                (heading, text) = (head.Groups[1].Value.Replace("`", "", StringComparison.Ordinal).Trim(), new StringBuilder());
                var slug = Slug(heading);
                var count = seen[slug] = seen.GetValueOrDefault(slug) + 1;
                Anchors.Add(count == 1 ? slug : $"{slug}-{count - 1}");
            }
            else
            {
                text.AppendLine(line);
                ReadText(line, i + 1, heading);
            }
        }

        Sections.TryAdd(heading, text.ToString());
    }

    void ReadText(string line, int number, string heading)
    {
        Spans.AddRange(Code().Matches(line).Select(match => (number, match.Groups[2].Value.Trim())));
        Links.AddRange(Link().Matches(Code().Replace(line, "")).Select(match => (number, match.Groups[1].Value)));
        Anchors.UnionWith(Id().Matches(line).Select(match => match.Groups[1].Value));
        if (line.StartsWith('|') && !line.StartsWith("|--", StringComparison.Ordinal) && !line.StartsWith("| -", StringComparison.Ordinal))
        {
            Rows.Add(new Row(heading, number, [.. line.Trim().Trim('|').Split(" | ").Select(cell => cell.Trim())]));
        }
    }

    /// <summary>The fragment that the forge makes of a heading: small letters, no punctuation, a hyphen for each space.</summary>
    static string Slug(string heading) => NoSlug().Replace(LinkText().Replace(heading, "$1").ToLowerInvariant(), "").Replace(' ', '-');

    static IEnumerable<string> Walk(DirectoryInfo directory)
    {
        foreach (var entry in directory.EnumerateFileSystemInfos())
        {
            if (entry is FileInfo { Extension: ".md" })
            {
                yield return System.IO.Path.GetRelativePath(Root, entry.FullName).Replace('\\', '/');
            }
            else if (entry is DirectoryInfo inner && !inner.Name.StartsWith('.') && inner.Name is not ("bin" or "obj" or "artifacts" or "packages" or "node_modules" or "TestResults" or "BenchmarkDotNet.Artifacts"))
            {
                foreach (var path in Walk(inner))
                {
                    yield return path;
                }
            }
        }
    }

    static string FindRoot()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(System.IO.Path.Combine(directory.FullName, "Warmline.slnx")))
        {
            directory = directory.Parent;
        }

        return directory?.FullName ?? throw new InvalidOperationException($"No Warmline.slnx above {AppContext.BaseDirectory}.");
    }

    [GeneratedRegex(@"^\s*```(\w*)")]
    private static partial Regex Fence();

    [GeneratedRegex(@"^#{1,6} (.+)$")]
    private static partial Regex Heading();

    [GeneratedRegex("(`+)(.+?)\\1(?!`)")]
    private static partial Regex Code();

    [GeneratedRegex(@"\]\(([^()\s]+)(?:\s+""[^""]*"")?\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"\[([^\]]*)\]\([^)]*\)")]
    private static partial Regex LinkText();

    [GeneratedRegex("<a id=\"([^\"]+)\">")]
    private static partial Regex Id();

    [GeneratedRegex(@"[^\p{L}\p{N}\-_ ]")]
    private static partial Regex NoSlug();
}

/// <summary>Failures that say everything at once.</summary>
static class Check
{
    public static void None(string rule, IEnumerable<string> violations)
    {
        var lines = violations.ToList();
        Assert.True(lines.Count == 0, $"{rule}\n  {string.Join("\n  ", lines)}");
    }
}
