using System.Net;
using Warmline.MockLlm;

namespace Warmline.Hosting.Tests;

/// <summary>The pool in an ASP.NET Core application: adopted, ready, reloaded.</summary>
public sealed class AppTests
{
    const string Expected = "Warm connections answer at once; cold ones shake hands first. Warm connections answer at";

    [Fact(Timeout = AppRig.Patience)]
    public async Task Three_lines_put_a_typed_client_and_both_sdks_on_the_pool()
    {
        await using var rig = await AppRig.StartAsync(new() { RecordRequests = true });
        var answers = new List<string>();
        foreach (var path in new[] { "typed", "openai/chat", "openai/sync", "openai/stream", "openai/tool", "openai/embeddings", "claude/create", "claude/stream", "claude/tool" })
        {
            answers.Add(await rig.GetAsync(path));
        }

        Assert.Equal(
        [
            Expected, Expected, Expected, Expected, $"ToolCalls weather({{\"city\":\"mock\"}}): {Expected}", "128 numbers",
            Expected, Expected, "tool_use weather({\"city\":\"mock\"})",
        ], answers);
        Assert.Equal(10, rig.Stats.TotalRequests);
        Assert.Equal(1, rig.Stats.NewConnections);
        Assert.All(rig.Mock.GetRequests(), request => Assert.Equal("HTTP/2", request.Protocol));
        Assert.Contains("reuse=90.0%", await rig.GetAsync("stats"), StringComparison.Ordinal);
    }

    [Fact(Timeout = AppRig.Patience)]
    public async Task The_application_listens_and_is_ready_only_when_it_is_warm()
    {
        using var gate = new ManualResetEventSlim();
        var dialed = new TaskCompletionSource();
        await using var rig = await AppRig.CreateAsync(new()
        {
            OnConnection = _ =>
            {
                dialed.TrySetResult();
                gate.Wait(AppRig.Ct);
                return null;
            },
        });
        rig.Write($$"""{ "Hosts": { "{{rig.Mock.BaseAddress}}": { "WarmConnections": 3 } } }""");
        var start = rig.StartAppAsync();
        await dialed.Task;
        Assert.False(start.IsCompleted);
        Assert.Empty(rig.App!.Urls);   // the server has bound no address yet

        gate.Set();
        await start;
        Assert.Equal("Healthy", await rig.GetAsync("health"));
        Assert.Equal(3, rig.Stats.Idle);
        Assert.Equal(Expected, await rig.GetAsync("typed"));
        Assert.Equal((1, 3), (rig.Stats.ReusedConnections, rig.Stats.NewConnections));
    }

    [Fact(Timeout = AppRig.Patience)]
    public async Task With_its_provider_down_it_starts_and_is_not_ready_until_the_provider_is_back()
    {
        var isDown = true;
        await using var rig = await AppRig.CreateAsync(new() { OnConnection = _ => Volatile.Read(ref isDown) ? new() { Act = MockConnectionAct.Close } : null });
        rig.Write($$"""{ "Hosts": { "{{rig.Mock.BaseAddress}}": { "WarmConnections": 2 } } }""");
        await rig.StartAppAsync();
        await rig.LoggedAsync("the application starts all the same");
        using (var response = await rig.Client.GetAsync(new Uri("health", UriKind.Relative), AppRig.Ct))
        {
            Assert.Equal((HttpStatusCode.ServiceUnavailable, "Unhealthy"), (response.StatusCode, await response.Content.ReadAsStringAsync(AppRig.Ct)));
        }

        Volatile.Write(ref isDown, false);
        await Eventually.TrueAsync(() => rig.Stats.Idle == 2);
        Assert.Equal("Healthy", await rig.GetAsync("health"));
    }

    [Fact(Timeout = AppRig.Patience)]
    public async Task The_settings_file_is_rewritten_while_calls_run_and_none_fails()
    {
        await using var rig = await AppRig.StartAsync(settings: """{ "MaxConnections": 10 }""");
        using var enough = CancellationTokenSource.CreateLinkedTokenSource(AppRig.Ct);
        var answered = 0;
        var callers = Enumerable.Range(0, 8).Select(caller => Task.Run(async () =>
        {
            while (!enough.IsCancellationRequested)
            {
                var tokens = caller % 2 == 0 ? await rig.GetAsync("typed") : await rig.GetAsync("relay?tokens=20&gap=5");
                Assert.True(tokens == Expected || tokens.EndsWith("data: [DONE]\n\n", StringComparison.Ordinal), tokens);
                Interlocked.Increment(ref answered);
            }
        }, AppRig.Ct)).ToArray();

        await MoreAsync();
        rig.Write("""{ "MaxConnections": 2, "IdleTimeout": "5s", "Http2": { "MaxStreamsPerConnection": 4, "TargetStreams": 2 } }""");
        await rig.LoggedAsync("changed options have been applied");
        await MoreAsync();
        rig.Write("""{ "MaxConnections": 2, "Enabled": false }""");
        await rig.LoggedAsync("The pool is switched off");
        await MoreAsync();
        Assert.True(rig.Stats.Bypassed > 0);
        rig.Write("""{ "MaxConections": 2 }""");
        await rig.LoggedAsync("Llm:MaxConections is not an option");
        await MoreAsync();
        rig.Write("""{ "Dns": { "CacheTtl": "1m" } }""");
        await rig.LoggedAsync("Dns.CacheTtl cannot change while the pool runs");
        await MoreAsync();
        rig.Write("""{ "MaxConnections": 40 }""");
        await rig.LoggedAsync("The pool is switched on again");
        await MoreAsync();

        await enough.CancelAsync();
        await Task.WhenAll(callers);
        Assert.Equal(0, rig.Stats.Refused);

        Task MoreAsync()
        {
            var before = Volatile.Read(ref answered);
            return Eventually.TrueAsync(() => Volatile.Read(ref answered) >= before + 20 || callers.Any(caller => caller.IsFaulted));
        }
    }

    [Fact(Timeout = AppRig.Patience)]
    public async Task Mistakes_in_the_settings_file_keep_it_from_starting()
    {
        await using var rig = await AppRig.CreateAsync(settings: """{ "MaxConnections": 0, "IdleTimeot": "30s" }""");

        var error = await Assert.ThrowsAsync<Microsoft.Extensions.Options.OptionsValidationException>(rig.StartAppAsync);
        Assert.Contains("MaxConnections is 0: must be 1 to 65535.", error.Message, StringComparison.Ordinal);
        Assert.Contains("Llm:IdleTimeot is not an option.", error.Message, StringComparison.Ordinal);
    }
}
