namespace Warmline.Hosting.Tests;

/// <summary>The three lines of the README and of docs/hosting.md are those that the application of these tests runs.</summary>
public sealed class DocumentTests
{
    /// <summary>What the application says more, or otherwise: the test's trust, its client and its provider.</summary>
    static readonly (string Here, string Shown)[] Adapted =
    [
        (".SslOptions = Trusting(builder.Configuration[Authority]!)", ""),
        ("<ChatApi>(client => client.BaseAddress = provider)", "<MyClient>()"),
    ];

    [Theory]
    [InlineData("README.md", "## In an application")]
    [InlineData("docs/hosting.md", "# In an application")]
    public void The_document_shows_what_the_application_runs(string path, string heading)
    {
        var ran = Lines(Read("tests/Warmline.Hosting.Tests/TestApp.cs")).SkipWhile(line => !line.StartsWith("// The three lines", StringComparison.Ordinal)).Skip(1).Take(3)
            .Select(line => Adapted.Aggregate(line, (text, pair) => text.Replace(pair.Here, pair.Shown, StringComparison.Ordinal)));
        var document = Read(path);
        var start = document.IndexOf("```csharp", document.IndexOf(heading, StringComparison.Ordinal), StringComparison.Ordinal) + "```csharp".Length;

        Assert.Equal(ran, Lines(document[start..document.IndexOf("```", start, StringComparison.Ordinal)]).Where(static line => line != "using Warmline;"));
    }

    static IEnumerable<string> Lines(string text) => text.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 0);

    static string Read(string path)
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "Warmline.slnx")))
        {
            directory = directory.Parent;
        }

        return File.ReadAllText(Path.Combine(directory.FullName, path));
    }
}
