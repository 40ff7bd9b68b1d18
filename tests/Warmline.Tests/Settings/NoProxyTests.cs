using System.Net;
using System.Reflection;
using Warmline.Options;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Settings;

/// <summary>Which forms of NO_PROXY .NET understands, asked of .NET itself, and what the pool says of the others.</summary>
public sealed class NoProxyTests
{
    static readonly string[] Targets = ["http://llm.test:8000/", "http://127.0.0.1:8000/", "http://localhost:8000/", "http://[::1]:8000/"];

    [Theory]
    [InlineData("llm.test", null)]
    [InlineData("LLM.Test", null)]
    [InlineData(".test", null)]
    [InlineData(".llm.test", null)]
    [InlineData("127.0.0.1", null)]
    [InlineData("localhost", null)]
    [InlineData("[::1]", null)]
    [InlineData("*", "unset the proxy environment variables, or set UseProxy to false")]
    [InlineData("*.test", "write .test (.domain stands for the domain and all below it)")]
    [InlineData("127.0.0.0/8", "name each host or address; for a range, set Proxy to a WebProxy whose BypassList has a pattern for it")]
    [InlineData("::1/128", "name each host or address; for a range, set Proxy to a WebProxy whose BypassList has a pattern for it")]
    [InlineData("127.*", "name each host or address; for a pattern, set Proxy to a WebProxy whose BypassList has it")]
    [InlineData("llm*", "name each host or address; for a pattern, set Proxy to a WebProxy whose BypassList has it")]
    [InlineData("*.*.test", "name each host or address; for a pattern, set Proxy to a WebProxy whose BypassList has it")]
    [InlineData("localhost:8000", "write localhost")]
    [InlineData("[::1]:8000", "write [::1]")]
    [InlineData("::1", "write [::1]")]
    [InlineData("llm.test.", "leave out the dot at the end")]
    [InlineData("http://llm.test", "use the host name only")]
    [InlineData("a;llm.test", "separate entries with commas")]
    [InlineData("a llm.test", "separate entries with commas")]
    public void A_form_without_effect_is_named_with_what_to_write(string entry, string? instead) =>
        Assert.Equal(instead is null ? [] : [($"'{entry}'", instead)], NoProxyForms.Unsupported(entry));

    [Fact(Timeout = Rig.Patience)]
    public async Task It_is_the_platform_that_decides_which_do_nothing()
    {
        var found = (await ChildProcess.RunAsync(typeof(Platform))).Split('\n');

        var expected = typeof(NoProxyTests).GetMethod(nameof(A_form_without_effect_is_named_with_what_to_write))!
            .GetCustomAttributes(typeof(InlineDataAttribute), false).Cast<InlineDataAttribute>()
            .Select(static row => $"{row.Data[0]}: {(row.Data[1] is null ? "works" : "does nothing")}");
        Assert.Equal(expected, found);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task They_are_told_once_and_without_the_login()
    {
        var environment = Environment("http://joe:s3cret@127.0.0.1:1", "*.test, localhost, 10.0.0.0/8");
        var found = await ChildProcess.RunAsync(typeof(Child), [.. environment]);

        Assert.Equal(
            ["NO_PROXY: '*.test' has no effect because .NET does not support this form; matching calls still use the proxy. "
                + "To bypass it, write .test (.domain stands for the domain and all below it)",
            "NO_PROXY: '10.0.0.0/8' has no effect because .NET does not support this form; matching calls still use the proxy. "
                + "To bypass it, name each host or address; for a range, set Proxy to a WebProxy whose BypassList has a pattern for it"],
            found.Split('\n'));
    }

    [Theory]
    [InlineData("", "")]
    [InlineData(null, "")]
    [InlineData(" , ,", "")]
    [InlineData("a, b ,.c", "")]
    [InlineData("a, *.b ,c:80,joe:s3cret@d", "'*.b' 'c:80' an entry")]
    public void Only_the_entries_that_do_nothing_are_named(string? value, string named) =>
        Assert.Equal(named, string.Join(' ', NoProxyForms.Unsupported(value).Select(static told => told.Entry)));

    [Theory]
    [InlineData("no variable")]
    [InlineData("another proxy")]
    [InlineData("no proxy")]
    public async Task Nothing_is_told_where_the_environments_proxy_is_not_used(string why)
    {
        var environment = Environment(why == "no variable" ? "" : "http://127.0.0.1:1", "*");
        var found = await ChildProcess.RunAsync(typeof(Child), [.. environment, ("WHY", why)]);

        Assert.DoesNotContain("NO_PROXY", found, StringComparison.Ordinal);
    }

    [Fact]
    public void Other_proxies_are_not_the_environments()
    {
        Assert.False(NoProxyForms.IsEnvironments(null));
        Assert.False(NoProxyForms.IsEnvironments(new WebProxy("http://proxy.test")));
    }

    static IEnumerable<(string Name, string? Value)> Environment(string proxy, string noProxy)
    {
        foreach (var name in (string[])["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
        {
            yield return (name, name.StartsWith("all", StringComparison.OrdinalIgnoreCase) ? "" : proxy);
        }

        yield return ("no_proxy", noProxy);
        yield return ("NO_PROXY", noProxy);
    }

    public sealed class Child
    {
        [Fact]
        public async Task Plays()
        {
            ChildProcess.SkipUnlessChild();
            var logs = new LogRecorder();
            for (var i = 0; i < 2; i++)   // it is told once
            {
                await using var pool = new ConnectionPool(System.Environment.GetEnvironmentVariable("WHY") switch
                {
                    "another proxy" => new() { Proxy = new WebProxy("http://127.0.0.1:1") },
                    "no proxy" => new() { UseProxy = false },
                    _ => new(),
                }, logs);
            }

            ChildProcess.Tell(string.Join('\n', logs.Entries.Select(static entry => entry.Message)
                .Where(static message => !message.StartsWith("Drain", StringComparison.Ordinal))));
        }
    }

    /// <summary>The platform's own class, made anew for each form; where HttpClient keeps it, it is made once.</summary>
    public sealed class Platform
    {
        [Fact]
        public void Plays()
        {
            ChildProcess.SkipUnlessChild();
            var create = typeof(HttpClient).Assembly.GetType("System.Net.Http.HttpEnvironmentProxy")!
                .GetMethod("TryCreate", BindingFlags.Public | BindingFlags.Static)!;
            var rows = typeof(NoProxyTests).GetMethod(nameof(A_form_without_effect_is_named_with_what_to_write))!
                .GetCustomAttributes(typeof(InlineDataAttribute), false).Cast<InlineDataAttribute>();
            var lines = new List<string>();
            foreach (var entry in rows.Select(static row => (string)row.Data[0]!))
            {
                foreach (var (name, value) in Environment("http://127.0.0.1:1", entry))
                {
                    System.Environment.SetEnvironmentVariable(name, value);
                }

                var made = new object?[1];
                Assert.True((bool)create.Invoke(null, made)!);
                var works = Targets.Any(target => ((IWebProxy)made[0]!).IsBypassed(new Uri(target)));
                lines.Add($"{entry}: {(works ? "works" : "does nothing")}");
            }

            ChildProcess.Tell(string.Join('\n', lines));
        }
    }
}
