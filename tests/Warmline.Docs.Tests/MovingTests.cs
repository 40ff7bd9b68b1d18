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
        var heading = Moving.Sections.Keys.Single(key => key.StartsWith("From", StringComparison.Ordinal) && key.Contains(from, StringComparison.Ordinal));
        var blocks = Moving.Blocks.Where(block => block.Section == heading).ToList();

        Assert.Equal(2, blocks.Count);
        Assert.Equal("csharp", blocks[1].Language);
        Assert.Contains("pool", blocks[1].Text, StringComparison.OrdinalIgnoreCase);
        Assert.True(Moving.Rows.Count(row => row.Section == heading && row.Cells.Length == 3) > 5);
    }
}
