using System.CommandLine;
using System.Reflection;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace Warmline.Docs.Tests;

/// <summary>The commands and the configuration that the pages show are such as the program takes.</summary>
public sealed partial class CommandTests
{
    /// <summary>The options of a pool stand in a section of this name on all pages.</summary>
    const string Section = "Llm";

    static readonly Command Warmline = Root();

    [Fact]
    public void Every_command_shown_is_known_with_its_options()
    {
        var shown = Page.Documents.SelectMany(Shown).ToList();

        Assert.True(shown.Count > 8, string.Join('\n', shown));
        Check.None("Commands that warmline does not take:", shown.Select(command => (command.Where, command.Line, Mistake: Mistake(command.Line, command.IsComplete))).Where(command => command.Mistake is not null)
            .Select(command => $"{command.Where}: warmline {command.Line}: {command.Mistake}"));
    }

    [Theory]
    [InlineData("size --users 100 --response 8s --interval 30s", true)]
    [InlineData("size --user 100 --response 8s --interval 30s", false)]
    [InlineData("sizes --users 100", false)]
    [InlineData("probe https://api.openai.com/v1/models --idle 600", true)]
    [InlineData("probe https://api.openai.com/v1/models --idled 600", false)]
    [InlineData("mock --window 2s 'a b'", false)]
    public void A_command_that_does_not_exist_is_found(string line, bool isKnown) => Assert.Equal(isKnown, Mistake(line) is null);

    [Fact]
    public void Every_project_and_script_that_a_command_names_exists() => Check.None("No such file:", Page.Documents.SelectMany(page => page.Blocks.Where(block => block.Language == "sh")
        .SelectMany(block => block.Lines.Select((line, index) => (Where: $"{page.Path}:{block.Line + index}", Line: line)))
        .SelectMany(line => Projects().Matches(line.Line).Select(match => (line.Where, Path: match.Groups["path"].Value)))
        .Where(named => !File.Exists(Path.Combine(Page.Root, named.Path)) && !Directory.Exists(Path.Combine(Page.Root, named.Path))).Select(named => $"{named.Where}: {named.Path}")));

    [Fact]
    public void Every_block_of_JSON_is_JSON_and_every_configuration_is_taken()
    {
        var configurations = 0;
        var mistakes = new List<string>();
        foreach (var block in Page.Documents.SelectMany(page => page.Blocks).Where(block => block.Language is "json" or "jsonc"))
        {
            try
            {
                using var document = JsonDocument.Parse(block.Text, new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = false });
                if (document.RootElement.ValueKind is JsonValueKind.Object && document.RootElement.TryGetProperty(Section, out _))
                {
                    configurations++;
                    mistakes.AddRange(Mistakes(block.Text).Select(mistake => $"{block}: {mistake}"));
                }
            }
            catch (JsonException mistake)
            {
                mistakes.Add($"{block}: line {mistake.LineNumber + 1} of it is no JSON");
            }
        }

        Check.None("Blocks of JSON that are not taken:", mistakes);
        Assert.True(configurations >= 3);
    }

    [Fact]
    public void A_configuration_that_is_not_taken_is_found()
    {
        Assert.Empty(Mistakes("""{ "Llm": { "MaxConnections": 40, "Hosts": { "https://api.openai.com": { "WarmConnections": 4 } } } }"""));
        Assert.Contains("Llm:MaxConnection is not an option", Assert.Single(Mistakes("""{ "Llm": { "MaxConnection": 40 } }""")), StringComparison.Ordinal);
        Assert.Contains("must be 1 to 65535", Assert.Single(Mistakes("""{ "Llm": { "MaxConnections": 0 } }""")), StringComparison.Ordinal);
        Assert.Contains("Hosting:Drain is not an option", Assert.Single(Mistakes("""{ "Llm": { "Hosting": { "Drain": "1s" } } }""")), StringComparison.Ordinal);
    }

    /// <summary>Read by an application's own way, the reader and the checks behind it.</summary>
    static IReadOnlyList<string> Mistakes(string json)
    {
        using var stream = new MemoryStream(System.Text.Encoding.UTF8.GetBytes(json));
        var services = new ServiceCollection();
        services.AddConnectionPool().Bind(new ConfigurationBuilder().AddJsonStream(stream).Build().GetSection(Section));
        using var provider = services.BuildServiceProvider();
        return [.. Failures<ConnectionPoolOptions>(provider), .. Failures<PoolHostingOptions>(provider)];
    }

    static IEnumerable<string> Failures<T>(IServiceProvider provider)
        where T : class
    {
        try
        {
            _ = provider.GetRequiredService<IOptions<T>>().Value;
            return [];
        }
        catch (OptionsValidationException refused)
        {
            return refused.Failures;
        }
    }

    static string? Mistake(string line, bool isComplete = true)
    {
        var parsed = Warmline.Parse([.. Words().Matches(line).Select(match => match.Value.Trim('\'', '"'))]);
        return parsed.CommandResult.Command == Warmline ? "no such command" : parsed.Errors.FirstOrDefault(error => isComplete || !error.Message.StartsWith("Required argument missing", StringComparison.Ordinal))?.Message;
    }

    /// <summary>What follows "warmline" in blocks for the shell and in code within the text, without its comment, and where it stands. A text may speak of an option without its value.</summary>
    static IEnumerable<(string Where, string Line, bool IsComplete)> Shown(Page page)
    {
        foreach (var block in page.Blocks.Where(block => block.Language is "sh" or "bash" or "console"))
        {
            var text = block.Text.Replace("\\\n", " ", StringComparison.Ordinal).Split('\n');
            for (var i = 0; i < text.Length; i++)
            {
                if (InShell().Match(text[i]) is { Success: true } match)
                {
                    yield return ($"{page.Path}:{block.Line + i}", match.Groups["rest"].Value.Trim(), true);
                }
            }
        }

        foreach (var (number, text) in page.Spans)
        {
            if (InShell().Match(text) is { Success: true } match && !text.Contains('…', StringComparison.Ordinal) && match.Groups["rest"].Value.Trim() is { Length: > 0 } rest)
            {
                yield return ($"{page.Path}:{number}", rest, false);
            }
            else if (text.Contains(" --", StringComparison.Ordinal) && Warmline.Subcommands.Any(command => text.StartsWith(command.Name + " ", StringComparison.Ordinal)))
            {
                yield return ($"{page.Path}:{number}", text, false);   // without the program's name, as a text may say it
            }
        }
    }

    /// <summary>The commands as the program makes them, below a root as its own.</summary>
    static Command Root()
    {
        var root = new Command("warmline");
        foreach (var create in Assembly.Load("Warmline.Cli").GetTypes().Where(type => type.Name.EndsWith("Command", StringComparison.Ordinal))
            .Select(type => type.GetMethod("Create", BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic)).Where(method => method?.ReturnType == typeof(Command)))
        {
            root.Add((Command)create!.Invoke(null, [])!);
        }

        return root;
    }

    [GeneratedRegex(@"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:dotnet run --project src/Warmline\.Cli(?: -c \w+)? --|warmline)(?<rest>(?: [^#|>&;]*)?)")]
    private static partial Regex InShell();

    [GeneratedRegex(@"'[^']*'|""[^""]*""|\S+")]
    private static partial Regex Words();

    [GeneratedRegex(@"(?:--project |dotnet (?:pack|build|run|test) |^\s*\./)(?<path>\w[\w./\-]*)")]
    private static partial Regex Projects();
}
