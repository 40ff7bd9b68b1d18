using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.RegularExpressions;

namespace Warmline.Docs.Tests;

/// <summary>Every C# block of the pages compiles, as if it stood in a method of a class that has the usual objects. Types may follow its statements; a block that begins with an attribute or
/// <c>public</c> holds members of such a class.</summary>
public sealed partial class CodeTests
{
    /// <summary>A compiler that hangs must fail the test. Generous, as build machines are slow.</summary>
    const int Patience = 240_000;

    /// <summary>What a web project sees without a line.</summary>
    static readonly string[] Implicit =
    [
        "System", "System.Collections.Generic", "System.IO", "System.Linq", "System.Net.Http", "System.Net.Http.Json", "System.Threading", "System.Threading.Tasks", "Microsoft.AspNetCore.Builder",
        "Microsoft.AspNetCore.Hosting", "Microsoft.AspNetCore.Http", "Microsoft.AspNetCore.Routing", "Microsoft.Extensions.Configuration", "Microsoft.Extensions.DependencyInjection",
        "Microsoft.Extensions.Hosting", "Microsoft.Extensions.Logging",
    ];

    /// <summary>What a block without usings of its own may take for granted besides. One that has some is complete: a reader copies it as it is.</summary>
    static readonly string[] Usual =
    [
        "System.ClientModel", "System.ClientModel.Primitives", "System.Net", "System.Net.Http.Headers", "System.Net.Security", "System.Net.ServerSentEvents", "Anthropic", "OpenAI", "OpenAI.Chat", "Warmline", "Warmline.MockLlm", "Xunit",
    ];

    const string Scope = """
        abstract class PageScope
        {
            protected static Warmline.ConnectionPool pool = null!;
            protected static System.Net.Http.HttpClient client = null!;
            protected static Warmline.ConnectionPoolOptions options = null!;
            protected static Microsoft.AspNetCore.Builder.WebApplicationBuilder builder = null!;
            protected static Microsoft.AspNetCore.Builder.WebApplication app = null!;
            protected static Microsoft.Extensions.DependencyInjection.IServiceCollection services = null!;
            protected static System.Net.Http.HttpRequestMessage request = null!;
            protected static System.Net.Http.HttpResponseMessage response = null!;
            protected static OpenAI.Chat.ChatClient chat = null!;
            protected static Anthropic.AnthropicClient claude = null!;
            protected static System.Threading.CancellationToken cancellationToken;
            protected static string openAiKey = null!, anthropicKey = null!;
            protected static System.Uri url = null!;
            protected static Microsoft.Extensions.Logging.ILogger logger = null!;
        }
        sealed class MyClient(System.Net.Http.HttpClient client)
        {
            public System.Net.Http.HttpClient Client => client;
        }
        """;

    [Fact(Timeout = Patience)]
    public async Task Every_block_of_CSharp_compiles()
    {
        var blocks = Page.Documents.SelectMany(page => page.Blocks).Where(block => block.Language is "csharp" or "cs").ToList();

        Assert.True(blocks.Count > 15);
        Check.None("Blocks that do not compile:", await CompileAsync(blocks));
    }

    [Fact(Timeout = Patience)]
    public async Task A_block_that_does_not_compile_is_named_by_its_file_and_line()
    {
        Block[] blocks =
        [
            new("docs/a.md", 11, "csharp", ["await using var pool = new ConnectionPool();", "pool.Nothing();"]),
            new("docs/b.md", 5, "csharp", ["using System.Text;", "", "var pool = new ConnectionPool();"]),
            new("docs/c.md", 7, "csharp", ["await pool.WarmUpAsync(url);", "", "sealed record Pair(int A)", "{", "    public int B => \"\";", "}"]),
            new("docs/d.md", 2, "csharp", ["[Fact]", "public void Member() => pool.GetStats();", "", "public int Other() => \"\";"]),
            new("docs/e.md", 3, "csharp", ["using (PoolRequestOptions.Use(new() { Tenant = \"acme\" }))", "{", "    _ = pool.CreateClient(url);", "}"]),
        ];

        var errors = await CompileAsync(blocks);

        Assert.Equal(["docs/a.md:12", "docs/b.md:7", "docs/c.md:11", "docs/d.md:5"], errors.Select(error => error[..error.IndexOf(": ", StringComparison.Ordinal)]).Distinct().Order(StringComparer.Ordinal));
    }

    /// <summary>Compiles all of them at once; each error begins with the page and the line.</summary>
    static async Task<IReadOnlyList<string>> CompileAsync(IReadOnlyList<Block> blocks)
    {
        var folder = Directory.CreateTempSubdirectory("warmline-docs-").FullName;
        try
        {
            var files = new List<string>();
            await WriteAsync("Scope.cs", Scope);
            for (var i = 0; i < blocks.Count; i++)
            {
                await WriteAsync($"Block{i}.cs", Source(blocks[i], i));
            }

            var references = await File.ReadAllLinesAsync(Path.Combine(AppContext.BaseDirectory, "references.txt"));
            var response = Path.Combine(folder, "compile.rsp");
            await File.WriteAllLinesAsync(response,
            [
                "/target:library", "/nologo", "/noconfig", "/nostdlib+", "/langversion:latest", "/nullable:enable", "/warn:0", "/utf8output", $"/out:\"{Path.Combine(folder, "pages.dll")}\"",
                .. references.Where(line => line.Length > 0).Select(line => $"/reference:\"{line}\""), .. files.Select(file => $"\"{file}\""),
            ]);
            return [.. (await RunAsync(response)).Split('\n').Select(line => Error().Match(line)).Where(match => match.Success).Select(match =>
                $"{Relative(match.Groups["file"].Value, folder)}:{match.Groups["line"].Value}: {match.Groups["what"].Value.Trim()}").Distinct()];

            async Task WriteAsync(string name, string text)
            {
                files.Add(Path.Combine(folder, name));
                await File.WriteAllTextAsync(files[^1], text);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    static async Task<string> RunAsync(string responseFile)
    {
        var compiler = typeof(CodeTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "Compiler").Value!;
        var host = Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") is { Length: > 0 } path ? path : "dotnet";
        using var process = Process.Start(new ProcessStartInfo(host, [compiler, "@" + responseFile]) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true })!;
        try
        {
            var (output, errors) = (process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
            var text = await output + await errors;
            Assert.True(process.ExitCode == 0 || Error().IsMatch(text), $"The compiler did not run: {text}");
            return text;
        }
        catch (OperationCanceledException)
        {
            process.Kill();
            throw;
        }
    }

    static string Source(Block block, int number)
    {
        var usings = block.Lines.TakeWhile(line => line.Length == 0 || UsingDirective().IsMatch(line)).Count();
        var types = Array.FindIndex(block.Lines, usings, line => TypeDeclaration().IsMatch(line));
        var body = block.Lines[usings..(types < 0 ? block.Lines.Length : types)];
        var isMembers = body.FirstOrDefault(line => line.Length > 0) is { } first && (first.StartsWith('[') || first.StartsWith("public ", StringComparison.Ordinal));
        var own = block.Lines[..usings].Where(line => line.Length > 0).ToList();
        var text = new StringBuilder();
        foreach (var name in own.Count > 0 ? Implicit : [.. Implicit, .. Usual])
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"using {name};");
        }

        text.AppendLine("#line default");
        Part(block.Lines[..usings], block.Line);
        text.AppendLine(CultureInfo.InvariantCulture, $"namespace Page{number} {{ sealed class Shown : PageScope {{");
        text.AppendLine(isMembers ? "" : "async System.Threading.Tasks.Task RunAsync() {");
        Part(body, block.Line + usings);
        text.AppendLine(isMembers ? "}" : "await System.Threading.Tasks.Task.CompletedTask; } }");
        if (types >= 0)
        {
            Part(block.Lines[types..], block.Line + types);
        }

        return text.AppendLine("}").ToString();

        void Part(string[] lines, int first)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"#line {first} \"{block.Path}\"").AppendJoin('\n', lines).AppendLine().AppendLine("#line default");
        }
    }

    /// <summary>The compiler makes whole paths of those in #line, from its own directory or the file's.</summary>
    static string Relative(string path, string folder)
    {
        foreach (var root in new[] { folder, Environment.CurrentDirectory })
        {
            if (path.StartsWith(root + Path.DirectorySeparatorChar, StringComparison.Ordinal))
            {
                return path[(root.Length + 1)..].Replace('\\', '/');
            }
        }

        return path;
    }

    [GeneratedRegex(@"^using (static )?[A-Za-z_][\w.]*( = [\w.<>]+)?;")]
    private static partial Regex UsingDirective();

    [GeneratedRegex(@"^(public |internal |sealed |static |abstract |partial |readonly |file )*(class|record|struct|interface|enum) ")]
    private static partial Regex TypeDeclaration();

    [GeneratedRegex(@"^(?<file>.+?)\((?<line>\d+),\d+\): error (?<what>.+)$|^error (?<what>CS.+)(?<file>)(?<line>)$", RegexOptions.Multiline)]
    private static partial Regex Error();
}
