using System.Reflection;
using System.Text.RegularExpressions;

namespace Warmline.Docs.Tests;

/// <summary>docs/configuration.md leaves out no option and says of each what the code says.</summary>
public sealed partial class ConfigurationTests
{
    static readonly Page Configuration = Page.Of("docs/configuration.md");

    static readonly string[] Tables = ["Essential", "Often", "Rarely"];

    [Fact]
    public void Every_option_has_one_row_and_every_row_is_an_option()
    {
        var rows = Configuration.RowsIn(Tables).Where(row => row.Cells[0] != "option").ToList();

        Check.None("Options without exactly one row:", Option.All.Where(option => rows.Count(row => row.Cells[0] == $"`{option.Path}`") != 1).Select(option => option.Path));
        Check.None("Rows that are no option:", rows.Where(row => Option.All.All(option => row.Cells[0] != $"`{option.Path}`")).Select(row => $"{row.Line}: {row.Cells[0]}"));
        Check.None("Rows that do not say all five things:", rows.Where(row => row.Cells.Length != 5 || row.Cells.Any(cell => cell.Length == 0)).Select(row => $"{row.Line}: {row.Cells[0]}"));
    }

    [Fact]
    public void Every_default_and_range_is_the_codes()
    {
        var defaults = new ConnectionPoolOptions();
        Compare(Tables, Option.All, option => option.EffectiveIn(defaults));
    }

    [Fact]
    public void Every_option_of_a_request_is_there()
    {
        var unset = new PoolRequestOptions();
        Compare(["Request options"], Option.Of<PoolRequestOptions>(), option => option.Property.GetValue(unset));
    }

    [Fact]
    public void Every_option_of_hosting_is_there()
    {
        var unset = new PoolHostingOptions();
        Compare(["Hosting"], Option.Of<PoolHostingOptions>("Hosting."), option => option.Property.GetValue(unset));
    }

    /// <summary>Other packages describe their options in pages of their own.</summary>
    [Fact]
    public void Every_option_of_other_packages_is_on_some_page() => Check.None("No page names:", XmlDocs.PublicTypes
        .Where(type => type.Assembly != typeof(ConnectionPool).Assembly && type.Name.EndsWith("Options", StringComparison.Ordinal))
        .SelectMany(type => type.GetProperties(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly))
        .Where(property => !Page.Documents.Any(page => page.Names(property.Name))).Select(property => $"{property.DeclaringType!.Name}.{property.Name}"));

    /// <summary>In tables of other pages too, where they name options first and defaults second: as many, in the same order.</summary>
    [Fact]
    public void Every_default_that_another_page_tells_is_the_codes()
    {
        var defaults = new ConnectionPoolOptions();
        var compared = 0;
        var differences = new List<string>();
        foreach (var page in Page.Documents.Where(page => page != Configuration))
        {
            var told = false;
            foreach (var row in page.Rows)
            {
                told = page.Rows.Any(above => above.Line == row.Line - 1 || above.Line == row.Line - 2) ? told : row.Cells is [var of, "default", ..] && !XmlDocs.PublicTypes.Any(type => type != typeof(ConnectionPoolOptions) && of == $"`{type.Name}`");
                var options = Spans().Matches(row.Cells[0]).Select(match => Option.All.FirstOrDefault(option => option.Path == match.Groups[1].Value)).ToList();
                if (told && options.Count > 0 && options.TrueForAll(option => option is not null))
                {
                    compared += options.Count;
                    var values = options.Select(option => Option.Text(option!.EffectiveIn(defaults))).ToList();
                    if (!row.Cells[1].StartsWith(string.Join(", ", values), StringComparison.Ordinal))
                    {
                        differences.Add($"{page.Path}:{row.Line}: {string.Join(", ", values)}, not {row.Cells[1]}");
                    }
                }
            }
        }

        Check.None("Defaults that are not the code's:", differences);
        Assert.True(compared >= 8, $"{compared} compared");
    }

    [Fact]
    public void What_cannot_change_while_a_pool_runs_is_listed()
    {
        var listed = Spans().Matches(Configuration.Sections.Single(section => section.Key.StartsWith("What can change", StringComparison.Ordinal)).Value.Split("**Fixed:**")[1]).Select(match => match.Groups[1].Value);
        var options = Option.All.Where(option => !option.Path.Contains("].", StringComparison.Ordinal) && option.Property.CanWrite).ToList();

        Assert.Equal(options.Where(option => option.IsFixed()).Select(option => option.Path).Order(StringComparer.Ordinal), listed.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_preset_has_its_row_of_values()
    {
        var rows = Configuration.RowsIn("Presets").ToList();
        var columns = rows[0].Cells.Skip(2).Select(cell => Option.All.Single(option => cell == $"`{option.Path}`")).ToList();

        // Its name and its purpose are no values.
        Assert.Equal(typeof(PoolPreset).GetProperties(BindingFlags.Public | BindingFlags.Instance).Length - 2, columns.Count);
        Assert.Equal(PoolPreset.All.Select(preset => string.Join(" | ", columns.Select(column => Option.Text(column.EffectiveIn(new ConnectionPoolOptions().UsePreset(preset))))
                .Prepend(preset.Purpose).Prepend($"`{preset.Name}`"))),
            rows.Skip(1).Select(row => string.Join(" | ", row.Cells)));
    }

    /// <summary>On every page: what is named as a member of one of our types, or as an option by its path, exists.</summary>
    [Fact]
    public void Every_member_that_a_page_names_exists()
    {
        var types = XmlDocs.PublicTypes.ToLookup(type => type.Name.Split('`')[0], StringComparer.Ordinal);
        var groups = Option.All.Concat(Option.Of<PoolHostingOptions>("Hosting.")).Where(option => option.Path.Contains('.', StringComparison.Ordinal)).ToLookup(option => option.Path.Split('.', '[')[0], option => option.Property.Name, StringComparer.Ordinal);

        Check.None("Names of nothing:", Page.Documents.SelectMany(page => page.Spans.SelectMany(span => Members().Matches(span.Text)
            .Where(match => match.Groups["type"].Value is var type && match.Groups["member"].Value is var member
                && (types.Contains(type) ? !types[type].Any(known => known.GetMember(member).Length > 0) && !groups[type].Contains(member)
                    : groups.Contains(type) && !groups[type].Contains(member)))
            .Select(match => $"{page.Path}:{span.Line}: {match.Value}"))).Distinct());
    }

    static void Compare(string[] sections, IEnumerable<Option> options, Func<Option, object?> valueOf)
    {
        var rows = Configuration.RowsIn(sections).ToList();
        var differences = new List<string>();
        foreach (var option in options)
        {
            if (rows.FirstOrDefault(row => row.Cells[0] == $"`{option.Path}`") is not { Cells.Length: >= 3 } row)
            {
                differences.Add($"{option.Path}: no row");
                continue;
            }

            var (told, range) = (Plain(row.Cells[1]), Plain(row.Cells[2]));
            var value = Option.Text(valueOf(option));
            if (!Regex.IsMatch(told, $@"(^|\(){Regex.Escape(value)}($|[ ,;:)])"))
            {
                differences.Add($"{row.Line}: {option.Path}: the default is {value}, the page says {told}");
            }

            if (range != (option.Range() ?? "–"))
            {
                differences.Add($"{row.Line}: {option.Path}: the range is {option.Range() ?? "–"}, the page says {range}");
            }
        }

        Check.None("docs/configuration.md differs from the code:", differences);
    }

    static string Plain(string cell) => cell.Replace("`", "", StringComparison.Ordinal);

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex Spans();

    [GeneratedRegex(@"(?<![\w.\]""/<])(?<type>[A-Z]\w+)\.(?<member>[A-Z]\w+)")]
    private static partial Regex Members();
}
