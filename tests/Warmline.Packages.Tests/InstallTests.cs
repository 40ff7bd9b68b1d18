using System.Diagnostics;

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
        var folder = feed.NewFolder("tool");
        (await Command.DotnetAsync(feed, folder, "tool", "install", "Warmline.Cli", "--tool-path", ".", "--version", feed.Version)).Checked();

        var size = await WarmlineAsync("size", "--users", "100", "--response", "8s", "--interval", "30s");
        Assert.Matches(@"calls at once +27\b", size);
        Assert.Matches(@"MaxConnections +30\b", size);
        Assert.Matches(@"MaxIdleConnections +15\b", size);

        Assert.Equal(FileVersionInfo.GetVersionInfo(Feed.Built("Warmline.Cli")).ProductVersion, (await WarmlineAsync("--version")).Trim());

        var demo = await WarmlineAsync("demo", "--calls", "10", "--service", "20", "--rtt", "5");
        Assert.Contains("Warmline", demo, StringComparison.Ordinal);

        async Task<string> WarmlineAsync(params string[] arguments)
        {
            var start = new ProcessStartInfo(Path.Combine(folder, OperatingSystem.IsWindows() ? "warmline.exe" : "warmline"), arguments) { WorkingDirectory = folder };
            feed.Settle(start);
            return (await Command.RunAsync(start)).Checked().Output;
        }
    }

    [Fact(Timeout = Command.TestLimit)]
    public async Task A_trimmed_application_gives_no_warning_and_runs()
    {
        // All three libraries are rooted: every member of theirs is analysed, not only what the program calls.
        var folder = feed.NewFolder("Trimmed");
        await File.WriteAllTextAsync(Path.Combine(folder, "Trimmed.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk.Web">
              <PropertyGroup>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <SelfContained>true</SelfContained>
                <PublishTrimmed>true</PublishTrimmed>
                <TrimMode>full</TrimMode>
                <TrimmerSingleWarn>false</TrimmerSingleWarn>
                <EnableAotAnalyzer>true</EnableAotAnalyzer>
                <EnableSingleFileAnalyzer>true</EnableSingleFileAnalyzer>
                <EnableRequestDelegateGenerator>true</EnableRequestDelegateGenerator>
                <InvariantGlobalization>true</InvariantGlobalization>
                <UseCurrentRuntimeIdentifier>true</UseCurrentRuntimeIdentifier>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="Warmline.AspNetCore" Version="{feed.Version}" />
                <PackageReference Include="Warmline.MockLlm" Version="{feed.Version}" />
                <TrimmerRootAssembly Include="Warmline;Warmline.AspNetCore;Warmline.MockLlm" RootMode="all" />
              </ItemGroup>
            </Project>
            """);
        await File.WriteAllTextAsync(Path.Combine(folder, "Program.cs"), """"
            using Warmline;
            using Warmline.MockLlm;

            await using var server = await MockLlmServer.StartAsync();
            var builder = WebApplication.CreateSlimBuilder();
            builder.Logging.ClearProviders();
            builder.WebHost.UseUrls("http://127.0.0.1:0");
            builder.Services.AddConnectionPool(options =>
            {
                options.SslOptions = server.CreateClientSslOptions();
                options.Hosts[server.BaseAddress.GetLeftPart(UriPartial.Authority)] = new() { WarmConnections = 1 };
            }).Bind(builder.Configuration.GetSection("Llm"));
            builder.Services.AddHttpClient("openai", client => client.BaseAddress = server.BaseAddress).UseConnectionPool();
            builder.Services.AddHealthChecks().AddConnectionPoolHealthCheck();
            await using var app = builder.Build();
            app.MapHealthChecks("/health");
            app.MapPoolStats();
            app.MapPoolMetrics();
            await app.StartAsync();

            var openai = app.Services.GetRequiredService<IHttpClientFactory>().CreateClient("openai");
            using var response = await openai.PostAsync("v1/chat/completions", new StringContent("""{ "stream": true, "messages": [] }""", null, "application/json"));
            var last = "";
            await foreach (var item in response.ReadServerSentEventsAsync())
            {
                last = item.Data;
            }

            using var self = new HttpClient { BaseAddress = new Uri(app.Urls.First()) };
            Console.WriteLine($"{(int)response.StatusCode} {last} {await self.GetStringAsync("/health")}");
            Console.WriteLine($"stats: {(await self.GetStringAsync("/warmline/stats")).Contains("\"totalRequests\":1")}");
            Console.WriteLine($"metrics: {(await self.GetAsync("/metrics")).StatusCode}");
            """");

        var publish = (await Command.DotnetAsync(feed, folder, "publish", "-c", "Release", "-o", "out", "--nologo")).Checked();
        Assert.DoesNotContain("warning", publish.All, StringComparison.OrdinalIgnoreCase);

        var start = new ProcessStartInfo(Path.Combine(folder, "out", OperatingSystem.IsWindows() ? "Trimmed.exe" : "Trimmed")) { WorkingDirectory = folder };
        feed.Settle(start);
        var run = (await Command.RunAsync(start)).Checked();

        Assert.Equal("200 [DONE] Healthy\nstats: True\nmetrics: OK\n", run.Output.ReplaceLineEndings("\n"));
        Assert.False(File.Exists(Path.Combine(folder, "out", "System.Xml.ReaderWriter.dll")), "It was not trimmed.");
    }
}
