using System.Text.RegularExpressions;

namespace Warmline.Docs.Tests;

/// <summary>No link of any page leads nowhere, and from each page a reader finds on.</summary>
public sealed partial class LinkTests
{
    [Fact]
    public void Every_link_within_the_repository_leads_to_a_file_and_a_heading() => Check.None("Links that lead nowhere:", Page.All.SelectMany(page => page.Links
        .Where(link => !link.Target.Contains("://", StringComparison.Ordinal) && !link.Target.StartsWith("mailto:", StringComparison.Ordinal))
        .Select(link => (link.Line, link.Target, Problem: Problem(page, link.Target))).Where(link => link.Problem is not null)
        .Select(link => $"{page.Path}:{link.Line}: {link.Target}: {link.Problem}")));

    [Fact]
    public void A_link_that_leads_nowhere_is_found()
    {
        var page = Page.Of("docs/errors.md");

        Assert.Equal("no such file", Problem(page, "nowhere.md"));
        Assert.Equal("no such file", Problem(page, "README.md"));
        Assert.Equal("no such heading", Problem(page, "sharing.md#nowhere"));
        Assert.Equal("no such heading", Problem(page, "#nowhere"));
        Assert.Null(Problem(page, "../README.md#use-it"));
        Assert.Null(Problem(page, "../LICENSE"));
        Assert.Null(Problem(page, "#stalls"));
    }

    [Fact]
    public void No_page_holds_a_mark_for_later() => Check.None("Left for later:", Page.All.SelectMany(page => File.ReadLines(Path.Combine(Page.Root, page.Path)).Select((line, index) => (Line: index + 1, Text: line))
        .Where(line => Later().IsMatch(line.Text)).Select(line => $"{page.Path}:{line.Line}: {line.Text.Trim()}")));

    /// <summary>From the README each page of docs/ is reached by links, in few steps.</summary>
    [Fact]
    public void Every_document_is_reached_from_the_readme()
    {
        var reached = new HashSet<string>(StringComparer.Ordinal) { "README.md" };
        var next = new Queue<string>(reached);
        while (next.TryDequeue(out var path))
        {
            foreach (var target in Page.Of(path).Links.Where(link => !link.Target.Contains("://", StringComparison.Ordinal)).Select(link => Target(Page.Of(path), link.Target).File).Where(file => file.EndsWith(".md", StringComparison.Ordinal)))
            {
                if (Page.All.Any(page => page.Path == target) && reached.Add(target))
                {
                    next.Enqueue(target);
                }
            }
        }

        Check.None("Pages that no link leads to:", Page.Documents.Select(page => page.Path).Except(reached));
        Check.None("Pages that lead to no other:", Page.Documents.Where(page => !page.Links.Any(link => Target(page, link.Target).File is var file && file != page.Path && file.EndsWith(".md", StringComparison.Ordinal))).Select(page => page.Path));
    }

    static string? Problem(Page page, string target)
    {
        var (file, fragment) = Target(page, target);
        if (!File.Exists(Path.Combine(Page.Root, file)) && !Directory.Exists(Path.Combine(Page.Root, file)))
        {
            return "no such file";
        }

        return fragment.Length == 0 || !file.EndsWith(".md", StringComparison.Ordinal) || Page.Of(file).Anchors.Contains(fragment) ? null : "no such heading";
    }

    [GeneratedRegex(@"@[A-Z]{3,}@|\b(?:TODO|TBD|FIXME|XXX)\b")]
    private static partial Regex Later();

    /// <summary>File, from the root, and fragment.</summary>
    static (string File, string Fragment) Target(Page page, string target)
    {
        var parts = target.Split('#', 2);
        var whole = parts[0].Length == 0 ? Path.Combine(Page.Root, page.Path) : Path.GetFullPath(Path.Combine(Page.Root, Path.GetDirectoryName(page.Path)!, parts[0]));
        return (Path.GetRelativePath(Page.Root, whole).Replace('\\', '/'), parts.Length > 1 ? parts[1] : "");
    }
}
