using System.Text.Json;

namespace Warmline.Cli.Tests;

public sealed class SizeTests
{
    [Fact(Timeout = Cli.TestLimit)]
    public async Task The_size_is_printed_with_the_line_of_code()
    {
        var result = await Cli.RunAsync("size", "--users", "100", "--response", "8s", "--interval", "30s");

        Assert.Equal((0, ""), (result.ExitCode, result.Errors));
        Assert.StartsWith("100 users, 1 call at once each, an answer in 8s, a question every 30s:", result.Output, StringComparison.Ordinal);
        Assert.Matches(@"calls at once +27\b", result.Output);
        Assert.Matches(@"MaxConnections +30\b", result.Output);
        Assert.Matches(@"MaxIdleConnections +15\b", result.Output);
        Assert.Matches(@"over HTTP/2 +4   of them opened", result.Output);
        Assert.Contains("many of them would wait.\n--simulate says how many", result.Output.ReplaceLineEndings("\n"));
        Assert.All(result.Output.Split('\n'), line => Assert.True(line.TrimEnd().Length <= 80, line));
        Assert.EndsWith("new ConnectionPoolOptions { MaxConnections = 30, MaxIdleConnections = 15 }", result.Output.TrimEnd(), StringComparison.Ordinal);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task Nobody_is_told_to_wait_where_every_call_has_a_place()
    {
        var result = await Cli.RunAsync("size", "--users", "50", "--response", "8s", "--interval", "8s");

        Assert.Matches(@"MaxConnections +50   all that", result.Output);
        Assert.Contains("none has to wait", result.Output);
        Assert.DoesNotContain("would wait", result.Output);
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task Json_holds_every_figure()
    {
        var result = await Cli.RunAsync("size", "--users", "50", "--response", "00:00:08", "--interval", "8000ms", "--calls", "2", "--json");

        using var json = JsonDocument.Parse(result.Output);
        var root = json.RootElement;
        Assert.Equal((100, 100, 50), (root.GetProperty("concurrentCalls").GetInt32(), root.GetProperty("maxConnections").GetInt32(), root.GetProperty("maxIdleConnections").GetInt32()));
        Assert.Equal((100, 8), (root.GetProperty("http1").GetProperty("sockets").GetInt32(), root.GetProperty("http2").GetProperty("sockets").GetInt32()));
        Assert.True(root.GetProperty("http1").GetProperty("memoryBytes").GetInt64() > root.GetProperty("http2").GetProperty("memoryBytes").GetInt64());
        Assert.Equal("new ConnectionPoolOptions { MaxConnections = 100, MaxIdleConnections = 50 }", root.GetProperty("code").GetString());
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("error: --users is missing: for example --users 100.", "--response", "8s", "--interval", "30s")]
    [InlineData("error: --users is '0', must be a whole number, 1 or more: for example 100.", "--users", "0", "--response", "8s", "--interval", "30s")]
    [InlineData("error: --response is '8', must be a time with its unit, above 0 and at most a day: for example 500ms, 8s or 2m.", "--users", "1", "--response", "8", "--interval", "30s")]
    [InlineData("error: --interval is '0s', must be a time with its unit, above 0 and at most a day: for example 500ms, 8s or 2m.", "--users", "1", "--response", "8s", "--interval", "0s")]
    [InlineData("error: --calls is 'two', must be a whole number, 1 or more: for example 100.", "--users", "1", "--response", "8s", "--interval", "1s", "--calls", "two")]
    [InlineData("error: --users is 90000: must be few enough for 65535 connections in one pool, and these need 90000: spread them over several processes.", "--users", "90000", "--response", "8s", "--interval", "8s")]
    [InlineData("error: '--user' is not known here. See: warmline size --help", "--user", "9")]
    public async Task A_mistake_is_one_sentence_with_value_range_and_remedy(string sentence, params string[] arguments)
    {
        var result = await Cli.RunAsync(["size", .. arguments]);

        Assert.Equal((2, "", sentence), (result.ExitCode, result.Output, result.Errors.TrimEnd()));
    }
}
