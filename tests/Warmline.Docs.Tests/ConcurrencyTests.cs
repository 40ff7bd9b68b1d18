using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.MockLlm;

namespace Warmline.Docs.Tests;

/// <summary>The figures of docs/concurrency.md: so many calls at once, so many connections and so many that wait.</summary>
public sealed class ConcurrencyTests
{
    /// <summary>A thousand calls on a loaded machine. In milliseconds.</summary>
    const int Patience = 240_000;

    static readonly Page Concurrency = Page.Of("docs/concurrency.md");

    /// <summary>Every answer is held back until all calls are where they stay, so that the numbers do not depend on the machine's speed.</summary>
    [Theory(Timeout = Patience)]
    [InlineData(HttpProtocols.Http1AndHttp2, 20, 3)]
    [InlineData(HttpProtocols.Http1AndHttp2, 100, 8)]
    [InlineData(HttpProtocols.Http1AndHttp2, 1_000, 32)]
    [InlineData(HttpProtocols.Http1, 20, 20)]
    [InlineData(HttpProtocols.Http1, 100, 50)]
    [InlineData(HttpProtocols.Http1, 1_000, 50)]
    public async Task The_table_of_calls_at_once_is_what_happens(HttpProtocols protocols, int calls, int connections)
    {
        await using var server = await MockLlmServer.StartAsync(new() { Protocols = protocols, OnRequest = _ => new() { DelayBeforeHeaders = Timeout.InfiniteTimeSpan } }, cancellationToken: TestContext.Current.CancellationToken);
        await using var pool = new ConnectionPool(new() { SslOptions = server.CreateClientSslOptions(), UseProxy = false, Timeouts = { Pool = Timeout.InfiniteTimeSpan, Connect = TimeSpan.FromSeconds(120) } });
        using var client = pool.CreateClient(server.BaseAddress);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        var inFlight = protocols is HttpProtocols.Http1 ? connections : calls;

        var all = Enumerable.Range(0, calls).Select(_ => client.GetAsync(new Uri("v1/models", UriKind.Relative), end.Token)).ToList();
        await server.WaitForAsync(counters => counters.StreamsOpen == inFlight, end.Token);
        var stats = pool.GetStats();
        await end.CancelAsync();
        await Task.WhenAll(all).ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

        Assert.Equal((connections, inFlight, calls - inFlight), (stats.Connections, stats.Active, stats.Queued));
        var row = Concurrency.Rows.Single(row => row.Cells[0] == calls.ToString("N0", CultureInfo.InvariantCulture) && row.Cells.Length == 4);
        Assert.Equal(protocols is HttpProtocols.Http1 ? $"{inFlight}, {calls - inFlight} wait" : $"{connections}", row.Cells[protocols is HttpProtocols.Http1 ? 2 : 1]);
    }

    /// <summary>Whoever uses a type must be able to read whether threads may share it.</summary>
    [Fact]
    public void Every_type_with_a_life_of_its_own_says_whether_threads_may_share_it() => Check.None("docs/concurrency.md does not say whether threads may share:", XmlDocs.PublicTypes
        .Where(type => type.Assembly == typeof(ConnectionPool).Assembly && type.Namespace == nameof(Warmline) && type is { IsEnum: false, IsNested: false } && !(type.IsAbstract && type.IsSealed) && !type.IsSubclassOf(typeof(Exception)))
        .Where(type => !Concurrency.RowsIn("Threads").Any(row => row.Cells[0].Contains($"`{type.Name}`", StringComparison.Ordinal))).Select(type => type.Name));
}

/// <summary>Alone, as other tests allocate too.</summary>
[CollectionDefinition(nameof(WaitingTests), DisableParallelization = true)]
[Collection(nameof(WaitingTests))]
public sealed class WaitingTests
{
    /// <summary>In milliseconds.</summary>
    const int Patience = 120_000;

    /// <summary>What a waiting call takes, as the page has it.</summary>
    [Fact(Timeout = Patience)]
    public async Task A_waiting_call_takes_as_much_memory_as_told()
    {
        const int Calls = 10_000;
        await using var pool = new ConnectionPool(new() { UseProxy = false, Timeouts = { Pool = Timeout.InfiniteTimeSpan } });
        using var client = pool.CreateClient(new Uri("https://provider.example/"));
        using var end = new CancellationTokenSource();
        pool.Pause();
        var all = new List<Task>(Calls) { client.GetAsync(new Uri("first", UriKind.Relative), end.Token) };
        var before = GC.GetTotalMemory(forceFullCollection: true);

        all.AddRange(Enumerable.Range(1, Calls).Select(_ => client.PostAsync(new Uri("v1/chat/completions", UriKind.Relative), new StringContent("{}"), end.Token)).Take(Calls - 1));
        var each = (GC.GetTotalMemory(forceFullCollection: true) - before) / (Calls - 1);
        var waiting = pool.GetStats().Queued;
        await end.CancelAsync();
        await Task.WhenAll(all).ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

        Assert.Equal(Calls, waiting);
        Assert.Contains("It takes some 2.5 KB", Page.Of("docs/concurrency.md").Sections["Waiting"], StringComparison.Ordinal);
        Assert.InRange(each, 1_500, 3_500);
    }
}
