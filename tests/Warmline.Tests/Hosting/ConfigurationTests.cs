using System.Net;
using System.Reflection;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Warmline.Hosting;
using Warmline.Options;
using Warmline.Tests.Guards;
using Xunit;

namespace Warmline.Tests.Hosting;

public sealed class ConfigurationTests
{
    [Fact]
    public void Every_option_that_a_configuration_can_hold_is_read_under_its_name()
    {
        var values = new Dictionary<Type, (string Text, object Value)>
        {
            [typeof(int)] = ("3", 3), [typeof(bool)] = ("false", false), [typeof(TimeSpan)] = ("90s", TimeSpan.FromSeconds(90)), [typeof(Http2Mode)] = ("disabled", Http2Mode.Disabled),
            [typeof(DecompressionMethods)] = ("gzip, Brotli", DecompressionMethods.GZip | DecompressionMethods.Brotli), [typeof(TenantIsolation)] = ("connections", TenantIsolation.Connections), [typeof(string)] = ("llm", "llm"),
        };
        string[] inCode = ["SslOptions", "Proxy", "BeforeSend"];
        var checkedNames = new List<string>();
        Check(typeof(ConnectionPoolOptions), "", options => options);
        Check(typeof(Http2Options), "Http2:", options => options.Http2);
        Check(typeof(PoolTimeouts), "Timeouts:", options => options.Timeouts);
        Check(typeof(DnsOptions), "Dns:", options => options.Dns);
        Check(typeof(TcpKeepAliveOptions), "TcpKeepAlive:", options => options.TcpKeepAlive);
        Check(typeof(OriginOptions), "Hosts:api.openai.com:", options => options.Hosts["api.openai.com"]);
        Check(typeof(LaneOptions), "Lanes:batch:", options => options.Lanes["batch"]);
        Check(typeof(PoolTimeouts), "Lanes:batch:Timeouts:", options => options.Lanes["batch"].Timeouts);
        Check(typeof(TenantsOptions), "Tenants:", options => options.Tenants);
        Check(typeof(TenantOptions), "Tenants:Named:acme:", options => options.Tenants.Named["acme"]);
        Assert.True(checkedNames.Count >= 50, string.Join(", ", checkedNames));

        void Check(Type type, string path, Func<ConnectionPoolOptions, object> part)
        {
            foreach (var property in type.GetProperties().Where(property => property.CanWrite && !inCode.Contains(property.Name)))
            {
                if (values.TryGetValue(Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType, out var sample))
                {
                    var options = Read(HostRig.Values((path + property.Name, sample.Text)));
                    Assert.True(options.ConfigurationProblems.Count == 0, $"{path}{property.Name}: {string.Join(" ", options.ConfigurationProblems)}");
                    Assert.Equal(sample.Value, property.GetValue(part(options)));
                    checkedNames.Add(path + property.Name);
                }
                else
                {
                    Assert.True(property.PropertyType.Namespace == "Warmline" && property.PropertyType.IsClass, $"{path}{property.Name}, a {property.PropertyType.Name}, has no way into a configuration: teach ConfigurationReader, or list it here as for code only.");
                }
            }
        }
    }

    [Fact]
    public void Every_option_of_the_hosting_is_read_under_its_name()
    {
        var options = new PoolHostingOptions();
        ConfigurationReader.Read(HostRig.Json("""{ "Hosting": { "WarmUpTimeout": "3s", "RequireWarmUp": true, "DrainTimeout": "5m" }, "MaxConnections": 3 }"""), options);

        Assert.Empty(options.ConfigurationProblems);
        Assert.Equal((TimeSpan.FromSeconds(3), true, TimeSpan.FromMinutes(5)), (options.WarmUpTimeout, options.RequireWarmUp, options.DrainTimeout));
        Assert.Equal(3, typeof(PoolHostingOptions).GetProperties(BindingFlags.Public | BindingFlags.Instance).Length);
    }

    [Theory]
    [InlineData("api.openai.com", "https://api.openai.com")]
    [InlineData("https://api.openai.com", "https://api.openai.com")]
    [InlineData("https://api.openai.com:8443", "https://api.openai.com:8443")]
    [InlineData("localhost:8443", "https://localhost:8443")]
    [InlineData("http://127.0.0.1:11434", "http://127.0.0.1:11434")]
    public void A_host_may_be_written_as_name_or_address_though_configuration_keys_are_split_at_colons(string key, string origin)
    {
        var options = Read(HostRig.Json($$"""{ "Hosts": { "{{key}}": { "WarmConnections": 4 }, "other.example": { "WarmConnections": 1 } } }"""));
        var problems = new List<string>();
        var settings = PoolSettings.Freeze(options, problems);

        Assert.Empty(problems);
        Assert.Equal([(origin, 4), ("https://other.example", 1)], settings!.WarmConnections.Select(warm => (warm.Key.Origin, warm.Value)));
    }

    [Fact]
    public void Every_mistake_is_told_at_once_with_its_path()
    {
        using var provider = Provider(HostRig.Json("""
            { "Llm": { "MaxConections": 10, "IdleTimeout": 30, "Preset": "Backend", "Http2": { "Mode": "1", "Targets": 3 }, "Timeouts": "none", "MaxQueueLength": { "a": 1 },
                       "Hosts": { "api.openai.com": { "WarmConection": 4 }, "x": 1 }, "SslOptions": "no", "MaxConnections": 0, "Hosting": { "WarmUp": 1 } } }
            """).GetSection("Llm"));

        var failures = Assert.Throws<OptionsValidationException>(() => provider.GetRequiredService<ConnectionPool>()).Message.Split('\n');

        string[] expected =
        [
            "Llm:MaxConections is not an option. Did you mean MaxConnections? Known here: Enabled, Preset, MaxConnections,",
            "Llm:IdleTimeout is '30': must be a time with its unit,",
            "Llm:Preset is 'Backend': must be Cli, BackendApi, Batch, MultiTenantSaaS.",
            "Llm:Http2:Mode is '1': must be Preferred, Disabled or Required.",
            "Llm:Http2:Targets is not an option. Known here: Mode,",
            "Llm:Timeouts is 'none': must be an object with Pool,",
            "Llm:MaxQueueLength is an object: must be a whole number",
            "Llm:Hosts:api.openai.com:WarmConection is not an option. Did you mean WarmConnections? Known here: WarmConnections,",
            "Llm:Hosts:x must be an object, like",
            "Llm:SslOptions cannot be configured: set it in code.",
            "MaxConnections is 0: must be 1 to 65535.",
        ];
        Assert.Equal("Pool 'default':", failures[0]);
        Assert.All(expected, start => Assert.Single(failures, failure => failure.StartsWith("  " + start, StringComparison.Ordinal)));
        Assert.Equal(expected.Length + 1, failures.Length);
    }

    [Theory]
    [InlineData("MaxConection", "MaxConnections")]    // two letters off
    [InlineData("maxqueuelenght", "MaxQueueLength")]
    [InlineData("Paceing", "Pacing")]
    [InlineData("MaxConect", null)]
    [InlineData("NS", null)]                          // nearer to Dns than to be told apart from chance
    public void A_misspelt_key_is_told_with_the_option_that_is_near(string key, string? near)
    {
        using var provider = Provider(HostRig.Json($$"""{ "Llm": { "{{key}}": 5 } }""").GetSection("Llm"));

        var error = Assert.Throws<OptionsValidationException>(() => provider.GetRequiredService<ConnectionPool>());

        Assert.StartsWith($"Pool 'default': Llm:{key} is not an option.{(near is null ? "" : $" Did you mean {near}?")} Known here: Enabled, ", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Lanes_and_tenants_are_read_as_they_are_nested()
    {
        var options = Read(HostRig.Json("""
            { "Pacing": true,
              "Lanes": { "stream": { "Reserve": 10, "Ceiling": 40, "MaxQueueLength": 100, "Timeouts": { "FirstByte": "180s" } }, "Batch": null, "bulk": {} },
              "Tenants": { "Isolation": "connections", "MaxConcurrentRequests": 10, "Named": { "acme": { "Weight": 3, "MaxConnections": 4 } } },
              "Hosts": { "api.openai.com": { "Pacing": false } } }
            """));

        Assert.Empty(options.ConfigurationProblems);
        Assert.Equal((10, 40, 100, TimeSpan.FromSeconds(180), (TimeSpan?)null),
            (options.Lanes["stream"].Reserve, options.Lanes["stream"].Ceiling, options.Lanes["stream"].MaxQueueLength, options.Lanes["stream"].Timeouts.FirstByte, options.Lanes["stream"].Timeouts.Read));
        Assert.Equal((TenantIsolation.Connections, 10), (options.Tenants.Isolation, options.Tenants.MaxConcurrentRequests));
        var settings = ConnectionPool.Freeze(options);
        Assert.True(settings.Pacing);
        Assert.False(settings.Providers.PacingOf(new ConnectionKey(true, "api.openai.com", 443)));
        Assert.Equal(180, settings.Sharing.Stream!.Timeouts.FirstByte.TotalSeconds);
        Assert.Equal(4, settings.Sharing.LimitsOf("acme").MaxConnections);
        Assert.Equal(10, settings.Sharing.LimitsOf("acme").MaxConcurrentRequests);
        Assert.Equal(1, settings.Sharing.LimitsOf("other").Weight);
    }

    [Theory]
    [InlineData("""{ "Lanes": "x" }""", "Lanes is 'x': must be an object of named objects, each with Reserve, Ceiling, MaxQueueLength, Timeouts.")]
    [InlineData("""{ "Lanes": { "batch": 20 } }""", "Lanes:batch is '20': must be an object with Reserve, Ceiling, MaxQueueLength, Timeouts.")]
    [InlineData("""{ "Lanes": [ "stream" ] }""", "Lanes:0 is 'stream': must be an object with Reserve,")]
    [InlineData("""{ "Lanes": { "batch": { "Celing": 20 } } }""", "Lanes:batch:Celing is not an option. Did you mean Ceiling? Known here: Reserve, Ceiling, MaxQueueLength, Timeouts.")]
    [InlineData("""{ "Lanes": { "batch": { "Ceiling": "many" } } }""", "Lanes:batch:Ceiling is 'many': must be a whole number, like 50.")]
    [InlineData("""{ "Lanes": { "batch": { "Timeouts": "60s" } } }""", "Lanes:batch:Timeouts is '60s': must be an object with Pool,")]
    [InlineData("""{ "Lanes": { "batch": { "Timeouts": { "Read": 60 } } } }""", "Lanes:batch:Timeouts:Read is '60': must be a time with its unit")]
    [InlineData("""{ "Lanes": { "batch": { "Timeouts": { "Connect": "5s" } } } }""", "Lanes[\"batch\"].Timeouts.Connect is 00:00:05: must be left unset here")]
    [InlineData("""{ "Tenants": 10 }""", "Tenants is '10': must be an object with Isolation,")]
    [InlineData("""{ "Tenants": { "Isolation": "1" } }""", "Tenants:Isolation is '1': must be Leases or Connections.")]
    [InlineData("""{ "Tenants": { "Isolation": "Hosts" } }""", "Tenants:Isolation is 'Hosts': must be Leases or Connections.")]
    [InlineData("""{ "Tenants": { "Named": 3 } }""", "Tenants:Named is '3': must be an object of named objects, each with Weight, MaxConcurrentRequests, MaxConnections, MaxQueueLength.")]
    [InlineData("""{ "Tenants": { "Named": { "acme": 3 } } }""", "Tenants:Named:acme is '3': must be an object with Weight,")]
    [InlineData("""{ "Tenants": { "Named": { "acme": { "Weigth": 3 } } } }""", "Tenants:Named:acme:Weigth is not an option.")]
    [InlineData("""{ "Tenants": { "MaxKnown": { "a": 1 } } }""", "Tenants:MaxKnown is an object: must be a whole number")]
    [InlineData("""{ "Pacing": "on" }""", "Pacing is 'on': must be true or false.")]
    [InlineData("""{ "Hosts": { "api.openai.com": { "Pacing": 1 } } }""", "Hosts:api.openai.com:Pacing is '1': must be true or false.")]
    public void A_mistake_in_lanes_tenants_or_pacing_is_told_with_its_path(string json, string start)
    {
        var problems = new List<string>();
        PoolSettings.Freeze(Read(HostRig.Json(json)), problems);

        Assert.StartsWith(start, Assert.Single(problems), StringComparison.Ordinal);
    }

    [Fact]
    public void Code_rules_over_configuration_and_both_over_a_preset_whatever_the_order()
    {
        var section = HostRig.Json("""{ "Preset": "Batch", "MaxConnections": 40, "IdleTimeout": "45s", "MaxQueueLength": 5 }""");
        foreach (var bindFirst in new[] { true, false })
        {
            var services = new ServiceCollection();
            var builder = services.AddConnectionPool();
            if (bindFirst)
            {
                builder.Bind(section);
            }

            builder.Configure(options => options.UsePreset(PoolPreset.MultiTenantSaaS).MaxConnections = 20);
            if (!bindFirst)
            {
                builder.Bind(section);
            }

            using var provider = services.BuildServiceProvider();
            var options = provider.GetRequiredService<IOptionsMonitor<ConnectionPoolOptions>>().CurrentValue;

            Assert.Equal((20, TimeSpan.FromSeconds(45), 5, 200), (options.MaxConnections, options.IdleTimeout, options.MaxQueueLength, options.MaxConcurrentRequests));
        }
    }

    [Fact]
    public void An_empty_value_leaves_the_option_as_it_is()
    {
        var options = Read(HostRig.Values(("MaxConnections", ""), ("IdleTimeout", null), ("Http2", null)));

        Assert.Empty(options.ConfigurationProblems);
        Assert.Equal((50, TimeSpan.FromSeconds(120)), (options.MaxConnections, options.IdleTimeout));
    }

    [Theory]
    [InlineData("docs/hosting.md", "https://api.anthropic.com, https://api.openai.com")]
    [InlineData("docs/sharing.md", "")]
    public void The_documentations_configuration_is_valid(string document, string warm)
    {
        var page = Repo.Read(document);
        var start = page.IndexOf("```json", StringComparison.Ordinal) + "```json".Length;
        var configuration = HostRig.Json(page[start..page.IndexOf("```", start, StringComparison.Ordinal)]);
        using var provider = Provider(configuration.GetSection("Llm"));
        var pool = provider.GetRequiredService<ConnectionPool>();

        Assert.Empty(provider.GetRequiredService<IOptionsFactory<PoolHostingOptions>>().Create("").ConfigurationProblems);
        Assert.Equal(warm, string.Join(", ", pool.Engine.Settings.WarmConnections.Keys.Select(key => key.Origin).Order()));
        Assert.Equal(["batch", "stream"], pool.Engine.Settings.Sharing.Lanes.Keys.Order());
        Assert.Equal(3, pool.Engine.Settings.Sharing.LimitsOf("acme").Weight);
    }

    static ConnectionPoolOptions Read(IConfiguration configuration)
    {
        var options = new ConnectionPoolOptions();
        ConfigurationReader.Read(configuration, options);
        return options;
    }

    static ServiceProvider Provider(IConfiguration section)
    {
        var services = new ServiceCollection();
        services.AddConnectionPool().Bind(section);
        return services.BuildServiceProvider();
    }
}
