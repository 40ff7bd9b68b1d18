using System.Collections;
using System.Net;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.AspNetCore.Builder;
using Warmline.MockLlm;

namespace Warmline.AspNetCore.Tests;

/// <summary>What the stats endpoint tells.</summary>
public sealed class StatsTests
{
    [Fact]
    public void Every_public_property_of_every_record_is_in_the_JSON_under_its_name()
    {
        var stats = (PoolStats)Sample(typeof(PoolStats));
        var pool = new PoolDocument("llm", stats, [(WaiterInfo)Sample(typeof(WaiterInfo))], [(StreamInfo)Sample(typeof(StreamInfo))]);

        var json = JsonDocument.Parse(JsonSerializer.Serialize(new StatsDocument([pool]), StatsJson.Document)).RootElement.GetProperty("pools")[0];

        var seen = new HashSet<Type>();
        Assert.Equal("llm", json.GetProperty("name").GetString());
        Same(stats, json.GetProperty("stats"), seen);
        Same(pool.Waiters[0], json.GetProperty("waiters")[0], seen);
        Same(pool.Streams[0], json.GetProperty("streams")[0], seen);
        Assert.Superset(new HashSet<Type>([typeof(PoolStats), typeof(OriginStats), typeof(LaneStats), typeof(TenantStats), typeof(FaultStats), typeof(RateLimitStats), typeof(ProviderLimit), typeof(WaiterInfo), typeof(StreamInfo)]), seen);
    }

    [Fact]
    public void What_is_not_known_is_null_and_an_enumeration_is_a_word()
    {
        var stats = new PoolStats { MaxQueueWait = TimeSpan.FromMilliseconds(1234.5), RateLimits = [new RateLimitStats("https://a.example", "", [new ProviderLimit(RateLimitKind.InputTokens, null, 3, null, TimeSpan.FromSeconds(2))])] };

        var json = JsonSerializer.Serialize(new StatsDocument([new PoolDocument("default", stats, [new WaiterInfo("https://a.example", TimeSpan.FromSeconds(0.25), PoolRejectionReason.MaxConnections, "", "", -1)], [])]), StatsJson.Document);

        Assert.Contains("\"maxQueueWaitSeconds\":1.2345,", json, StringComparison.Ordinal);
        Assert.Contains("\"averageHandshakeSeconds\":null", json, StringComparison.Ordinal);
        Assert.Contains("""{"kind":"inputTokens","limit":null,"remaining":3,"resetsInSeconds":null,"ageSeconds":2}""", json, StringComparison.Ordinal);
        Assert.Contains("""{"origin":"https://a.example","waitedSeconds":0.25,"reason":"maxConnections","lane":"","tenant":"","priority":-1}""", json, StringComparison.Ordinal);
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task All_pools_of_the_container_and_those_handed_over_are_told_by_name()
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Eventually.Ct);
        await using var own = new ConnectionPool(new ConnectionPoolOptions { Name = "own", SslOptions = mock.CreateClientSslOptions() });
        await using var app = await App.StartAsync(services =>
        {
            services.AddConnectionPool();
            services.AddConnectionPool("batch", o => o.MaxConnections = 7);
        }, web => web.MapPoolStats("/pools", o =>
        {
            o.Pools.Add(own);
            o.Pools.Add(web.Services.GetRequiredKeyedService<ConnectionPool>("batch"));   // is there already
        }));
        using var client = own.CreateClient(mock.BaseAddress);
        using (var response = await Calls.StreamAsync(client))
        {
            var during = await PoolsAsync(app, "/pools/stats");
            Assert.Equal(["default", "batch", "own"], during.Select(pool => pool.GetProperty("name").GetString()));
            Assert.Equal(1, during[2].GetProperty("stats").GetProperty("active").GetInt32());
            Assert.Equal(own.GetStreams().Single().Origin, during[2].GetProperty("streams")[0].GetProperty("origin").GetString());
            Assert.Equal(0, during[0].GetProperty("streams").GetArrayLength());
        }

        await Eventually.TrueAsync(() => own.GetStats().Active == 0);
        var batch = await PoolsAsync(app, "/pools/stats?pool=batch");
        var (status, text, _) = await app.CallAsync("/pools/stats?pool=none");
        Assert.Equal("batch", Assert.Single(batch).GetProperty("name").GetString());
        Assert.Equal((HttpStatusCode.NotFound, "There is no pool of that name here, but: default, batch, own.\n"), (status, text));
        Assert.Equal(HttpStatusCode.NotFound, (await app.CallAsync("/pools/live?pool=none")).Status);
        Assert.Equal((HttpStatusCode.OK, "application/json; charset=utf-8"), await StatusAsync(app, "/pools/stats"));
    }

    [Fact(Timeout = Eventually.Patience)]
    public async Task Lists_of_waiters_and_requests_are_as_long_as_said_at_most()
    {
        await using var mock = await MockLlmServer.StartAsync(new MockLlmOptions { ServiceTime = TimeSpan.FromHours(1) }, cancellationToken: Eventually.Ct);
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { MaxConcurrentRequests = 3, SslOptions = mock.CreateClientSslOptions(), Timeouts = { Pool = Timeout.InfiniteTimeSpan } });
        await using var app = await App.StartAsync(_ => { }, web => web.MapPoolStats(configure: o =>
        {
            o.Pools.Add(pool);
            o.MaxListed = 2;
        }));
        using var client = pool.CreateClient(mock.BaseAddress);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(Eventually.Ct);
        var calls = Enumerable.Range(0, 7).Select(_ => Calls.CompleteAsync(client, end.Token)).ToList();
        await Eventually.TrueAsync(() => pool.GetStats() is { Active: 3, Queued: 4 }, () => pool.ToString());

        var json = Assert.Single(await PoolsAsync(app, "/warmline/stats"));

        Assert.Equal((2, 2), (json.GetProperty("waiters").GetArrayLength(), json.GetProperty("streams").GetArrayLength()));
        Assert.Equal((4, 3), (json.GetProperty("stats").GetProperty("queued").GetInt32(), json.GetProperty("stats").GetProperty("active").GetInt32()));
        Assert.Equal("maxConcurrentRequests", json.GetProperty("waiters")[0].GetProperty("reason").GetString());
        await end.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.WhenAll(calls));
    }

    [Fact]
    public async Task Without_a_pool_the_application_is_told_how_to_get_one()
    {
        await using var app = WebApplication.CreateSlimBuilder().Build();

        var error = Assert.Throws<InvalidOperationException>(() => app.MapPoolStats());
        Assert.Contains("AddConnectionPool()", error.Message, StringComparison.Ordinal);
        Assert.Contains("o.Pools.Add(pool)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Options_out_of_range_are_named_all_at_once()
    {
        await using var app = WebApplication.CreateSlimBuilder().Build();

        var error = Assert.Throws<ArgumentException>(() => app.MapPoolStats(configure: o =>
        {
            o.LiveInterval = TimeSpan.FromMilliseconds(99);
            o.MaxLiveReaders = 0;
            o.MaxListed = 10_001;
            o.Pools.Add(null!);
        }));
        Assert.Contains("LiveInterval is 00:00:00.0990000: must be 100 ms to 1 hour. MaxLiveReaders is 0: must be 1 to 1,000. MaxListed is 10001: must be 1 to 10,000. Pools has a null in it.", error.Message, StringComparison.Ordinal);
    }

    static async Task<List<JsonElement>> PoolsAsync(App app, string path) => [.. JsonDocument.Parse(await app.GetAsync(path)).RootElement.GetProperty("pools").EnumerateArray()];

    static async Task<(HttpStatusCode, string?)> StatusAsync(App app, string path)
    {
        var (status, _, type) = await app.CallAsync(path);
        return (status, type);
    }

    /// <summary>Walks a value and its JSON together.</summary>
    static void Same(object? value, JsonElement json, HashSet<Type> seen)
    {
        switch (value)
        {
            case null:
                Assert.Equal(JsonValueKind.Null, json.ValueKind);
                break;
            case string or Version or Enum:
                Assert.Equal(value is Enum ? Camel(value.ToString()!) : value.ToString(), json.GetString());
                break;
            case bool flag:
                Assert.Equal(flag, json.GetBoolean());
                break;
            case TimeSpan time:
                Assert.Equal(time.TotalSeconds, json.GetDouble());
                break;
            case IDictionary map:
                Assert.Equal(map.Count, json.EnumerateObject().Count());
                foreach (DictionaryEntry entry in map)
                {
                    Same(entry.Value, json.GetProperty(Camel(entry.Key.ToString()!)), seen);
                }

                break;
            case IEnumerable list:
                Assert.All(list.Cast<object>().Zip(json.EnumerateArray()), pair => Same(pair.First, pair.Second, seen));
                Assert.Equal(list.Cast<object>().Count(), json.GetArrayLength());
                break;
            case var number when number.GetType().IsPrimitive:
                Assert.Equal(Convert.ToDouble(number), json.GetDouble());
                break;
            default:
                seen.Add(value.GetType());
                foreach (var property in Shown(value.GetType()))
                {
                    var name = Camel(property.Name) + (Nullable.GetUnderlyingType(property.PropertyType) == typeof(TimeSpan) || property.PropertyType == typeof(TimeSpan) ? "Seconds" : "");
                    Assert.True(json.TryGetProperty(name, out var member), $"{value.GetType().Name}.{property.Name} is not in the JSON as {name}");
                    Same(property.GetValue(value), member, seen);
                }

                break;
        }
    }

    /// <summary>A value of a type with every property set to something that is not its default.</summary>
    static object Sample(Type type)
    {
        if (Nullable.GetUnderlyingType(type) is { } inner)
        {
            return Sample(inner);
        }

        if (type == typeof(string))
        {
            return "text";
        }

        if (type == typeof(TimeSpan) || type == typeof(Version) || type == typeof(bool))
        {
            return type == typeof(TimeSpan) ? TimeSpan.FromSeconds(1.5) : type == typeof(bool) ? true : new Version(2, 0);
        }

        if (type.IsEnum)
        {
            return Enum.GetValues(type).GetValue(1)!;
        }

        if (type.IsPrimitive)
        {
            return Convert.ChangeType(3, type);
        }

        if (type.IsInterface && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>))
        {
            var list = Array.CreateInstance(type.GetGenericArguments()[0], 1);
            list.SetValue(Sample(type.GetGenericArguments()[0]), 0);
            return list;
        }

        if (type.IsInterface && type.GetGenericTypeDefinition() == typeof(IReadOnlyDictionary<,>))
        {
            var map = (IDictionary)Activator.CreateInstance(typeof(Dictionary<,>).MakeGenericType(type.GetGenericArguments()))!;
            map.Add(Sample(type.GetGenericArguments()[0]), Sample(type.GetGenericArguments()[1]));
            return map;
        }

        var value = RuntimeHelpers.GetUninitializedObject(type);
        foreach (var property in Shown(type).Where(property => property.CanWrite))
        {
            property.SetValue(value, Sample(property.PropertyType));
        }

        return value;
    }

    static PropertyInfo[] Shown(Type type) => type.GetProperties(BindingFlags.Public | BindingFlags.Instance);

    static string Camel(string name) => char.ToLowerInvariant(name[0]) + name[1..];
}
