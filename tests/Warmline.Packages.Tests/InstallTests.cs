using System.Diagnostics;
using System.Text.Json;

namespace Warmline.Packages.Tests;

/// <summary>From an empty folder with the packages alone.</summary>
public sealed class InstallTests(Feed feed)
{
    [Fact(Timeout = Command.TestLimit)]
    public async Task A_new_project_adds_two_packages_and_calls()
    {
        var folder = feed.NewFolder("Caller");
        (await Command.DotnetAsync(feed, folder, "new", "console", "--no-restore")).Checked();
        (await Command.DotnetAsync(feed, folder, "add", "package", "Warmline", "--version", feed.Version)).Checked();
        (await Command.DotnetAsync(feed, folder, "add", "package", "Warmline.MockLlm", "--version", feed.Version)).Checked();
        await File.WriteAllTextAsync(Path.Combine(folder, "Program.cs"), """"
            using Warmline;
            using Warmline.MockLlm;

            await using var server = await MockLlmServer.StartAsync();
            await using var pool = new ConnectionPool(new ConnectionPoolOptions { SslOptions = server.CreateClientSslOptions() });
            using var client = pool.CreateClient(new Uri(server.BaseAddress, "v1"));
            for (var call = 0; call < 3; call++)
            {
                using var response = await client.PostAsync("chat/completions", new StringContent("""{ "messages": [] }""", null, "application/json"));
                Console.WriteLine($"{(int)response.StatusCode} over HTTP/{response.Version}");
            }

            Console.WriteLine($"{pool.GetStats().TotalRequests} requests, {pool.GetStats().NewConnections} connection; the server saw {server.GetCounters().Requests}");
            """");

        var run = (await Command.DotnetAsync(feed, folder, "run")).Checked();

        Assert.Equal("200 over HTTP/2.0\n200 over HTTP/2.0\n200 over HTTP/2.0\n3 requests, 1 connection; the server saw 3\n", run.Output.ReplaceLineEndings("\n"));
    }

    [Fact(Timeout = Command.TestLimit)]
    public async Task The_command_is_installed_and_sizes_and_shows()
    {
        var tool = await InstallAsync(feed, "tool");

        var size = await WarmlineAsync("size", "--users", "100", "--response", "8s", "--interval", "30s");
        Assert.Matches(@"calls at once +27\b", size);
        Assert.Matches(@"MaxConnections +30\b", size);
        Assert.Matches(@"MaxIdleConnections +15\b", size);

        Assert.Equal(Feed.Revision() is { Length: > 0 } commit ? $"0.1.0+{commit}" : "0.1.0", (await WarmlineAsync("--version")).Trim());

        using var demo = JsonDocument.Parse(await WarmlineAsync("demo", "--calls", "10", "--service", "20", "--rtt", "5", "--json"));
        Assert.Equal(["client-per-call", "dotnet-default", "warmline-cold", "warmline-warmed"], demo.RootElement.GetProperty("ways").EnumerateArray().Select(way => way.GetProperty("way").GetString()));
        Assert.All(demo.RootElement.GetProperty("ways").EnumerateArray(), way => Assert.Equal(0, way.GetProperty("failures").GetInt32()));

        async Task<string> WarmlineAsync(params string[] arguments)
        {
            var start = new ProcessStartInfo(tool, arguments) { WorkingDirectory = Path.GetDirectoryName(tool)! };
            feed.Settle(start);
            return (await Command.RunAsync(start)).Checked().Output;
        }
    }

    /// <summary>Installs the command into a folder of its own.</summary>
    /// <returns>Its path.</returns>
    internal static async Task<string> InstallAsync(Feed feed, string name)
    {
        var folder = feed.NewFolder(name);
        (await Command.DotnetAsync(feed, folder, "tool", "install", "Warmline.Cli", "--tool-path", ".", "--version", feed.Version)).Checked();
        return Path.Combine(folder, OperatingSystem.IsWindows() ? "warmline.exe" : "warmline");
    }
}
