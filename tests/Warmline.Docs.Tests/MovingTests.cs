using System.Reflection;
using Microsoft.Extensions.Http;

namespace Warmline.Docs.Tests;

/// <summary>docs/moving.md leaves out no knob of .NET's own handler, client and factory. Those of other platforms are not to be had here: the page names the versions that it was written from.</summary>
public sealed class MovingTests
{
    static readonly Page Moving = Page.Of("docs/moving.md");

    [Theory]
    [InlineData(typeof(SocketsHttpHandler), "SocketsHttpHandler")]
    [InlineData(typeof(HttpClient), "HttpClient")]
    [InlineData(typeof(HttpClientFactoryOptions), "IHttpClientFactory")]
    public void Every_property_has_a_row(Type type, string section)
    {
        var rows = Moving.Rows.Where(row => row.Section.Contains(section, StringComparison.Ordinal)).ToList();

        Check.None($"No row of the section on {section} in docs/moving.md is about:", type.GetProperties(BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly)
            .Select(property => property.Name).Where(name => !rows.Any(row => row.Cells[0].Contains($"`{name}`", StringComparison.Ordinal) && row.Cells.Length == 3 && row.Cells.All(cell => cell.Length > 0))));
    }

    [Theory]
    [InlineData("httpx")]
    [InlineData("aiohttp")]
    [InlineData("undici")]
    [InlineData("IHttpClientFactory")]
    public void Each_way_of_before_has_one_of_after(string from)
    {
        var blocks = Moving.Blocks;
        var heading = Moving.Sections.Keys.FirstOrDefault(key => key.StartsWith("From", StringComparison.Ordinal) && key.Contains(from, StringComparison.Ordinal));

        Assert.NotNull(heading);
        var rows = Moving.Rows.Where(row => row.Section == heading).ToList();
        Assert.True(rows.Count > 5);
        Assert.True(blocks.Count(block => block.Language != "csharp" || from == "IHttpClientFactory") > 0);
        Assert.Contains(blocks, block => block.Language == "csharp" && block.Line < rows[0].Line && block.Line > rows[0].Line - 60);
    }
}
