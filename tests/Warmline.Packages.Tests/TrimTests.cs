using System.Diagnostics;

namespace Warmline.Packages.Tests;

/// <summary>The packages in an application that is published trimmed and self-contained.</summary>
public sealed class TrimTests(Feed feed)
{
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
