using System.Globalization;
using Warmline.Tests.Guards;
using Xunit;

namespace Warmline.Tests.Providers;

/// <summary>Which profile is chosen for a host, and what each says.</summary>
public sealed class ProviderProfileTests
{
    [Theory]
    [InlineData("api.openai.com", 443, "OpenAI")]
    [InlineData("API.OpenAI.com", 8443, "OpenAI")]
    [InlineData("acme.openai.azure.com", 443, "AzureOpenAI")]
    [InlineData("acme.cognitiveservices.azure.com", 443, "AzureOpenAI")]
    [InlineData("acme.services.ai.azure.com", 443, "AzureOpenAI")]
    [InlineData("api.anthropic.com", 443, "Anthropic")]
    [InlineData("api.ezaiapi.com", 443, "EzAI")]
    [InlineData("API.EzaiAPI.com", 8443, "EzAI")]
    [InlineData("ezaiapi.com", 443, "Default")]
    [InlineData("openrouter.ai", 443, "OpenRouter")]
    [InlineData("api.groq.com", 443, "Groq")]
    [InlineData("generativelanguage.googleapis.com", 443, "Gemini")]
    [InlineData("api.mistral.ai", 443, "Mistral")]
    [InlineData("localhost", 11434, "Ollama")]
    [InlineData("127.0.0.1", 11434, "Ollama")]
    [InlineData("127.0.0.9", 8000, "vLLM")]
    [InlineData("[::1]", 8000, "vLLM")]
    [InlineData("::1", 11434, "Ollama")]
    [InlineData("localhost", 5000, "Default")]
    [InlineData("gpu-7.example.com", 8000, "Default")]   // not this machine: a proxy may be before it
    [InlineData("gpu-7.example.com", 11434, "Default")]
    [InlineData("openai.azure.com", 443, "Default")]
    [InlineData(".openai.azure.com", 443, "Default")]
    [InlineData("evil-openai.azure.com", 443, "Default")]
    [InlineData("api.openai.com.example.com", 443, "Default")]
    [InlineData("xapi.openai.com", 443, "Default")]
    [InlineData("", 443, "Default")]
    public void A_host_has_its_profile(string host, int port, string name) => Assert.Equal(name, ProviderProfile.Of(host, port).Name);

    [Fact]
    public void Each_has_a_name_that_finds_it()
    {
        Assert.All(ProviderProfile.All, profile => Assert.Same(profile, ProviderProfile.Find(profile.Name.ToUpperInvariant())));
        Assert.Equal(ProviderProfile.All.Count, ProviderProfile.All.Select(profile => profile.Name).Distinct(StringComparer.OrdinalIgnoreCase).Count());
        Assert.All(["", "openai ", "gpt-4o"], name => Assert.Null(ProviderProfile.Find(name)));
    }

    [Fact]
    public void No_host_belongs_to_two()
    {
        var hosts = ProviderProfile.All.SelectMany(profile => profile.Hosts).ToList();

        Assert.Equal(hosts.Count, hosts.Distinct(StringComparer.OrdinalIgnoreCase).Count());
        Assert.All(ProviderProfile.All, profile => Assert.All(profile.Hosts, host => Assert.Same(profile, ProviderProfile.Of(host[0] == '.' ? "acme" + host : host, 443))));
    }

    [Fact]
    public void What_is_known_is_in_range_and_what_is_not_is_null()
    {
        Assert.All(ProviderProfile.All, profile =>
        {
            Assert.True(profile.IdleLimit is null || profile.IdleLimit > TimeSpan.Zero);
            Assert.True(profile.StreamLimit is null or >= 1);
            Assert.True(profile.PingInterval is null || profile.PingInterval > TimeSpan.Zero);
        });
        Assert.Equal((null, null, null), (ProviderProfile.Default.IdleLimit, ProviderProfile.Default.StreamLimit, ProviderProfile.Default.PingInterval));
        Assert.Equal((400, 400, 5, 5), (Seconds(ProviderProfile.OpenAI), Seconds(ProviderProfile.Anthropic), Seconds(ProviderProfile.Vllm), Seconds(ProviderProfile.Ollama)));
    }

    [Fact]
    public void EzAI_is_chosen_by_its_host_and_speaks_Anthropics_protocol() =>
        Assert.Equal((RateLimitFormat.Anthropic, null), (ProviderProfile.Of("api.ezaiapi.com", 443).RateLimits, ProviderProfile.EzAI.IdleLimit));   // whose edge is not Anthropic's

    [Fact]
    public void One_of_your_own_keeps_what_it_does_not_change()
    {
        var own = ProviderProfile.Vllm with { IdleLimit = TimeSpan.FromSeconds(60) };

        Assert.Equal((60, RateLimitFormat.None, "vLLM"), (Seconds(own), own.RateLimits, own.ToString()));
        Assert.Equal(5, Seconds(ProviderProfile.Vllm));
    }

    [Fact]
    public void The_document_says_the_same()
    {
        var rows = Repo.Read("docs/providers.md").Split('\n');
        Assert.All(ProviderProfile.All, profile =>
        {
            var cells = Assert.Single(rows, row => row.StartsWith($"| `{profile.Name}` |", StringComparison.Ordinal)).Split('|', StringSplitOptions.TrimEntries);
            Assert.Equal(profile.IdleLimit is { } idle ? $"{idle.TotalSeconds:0} s" : "–", cells[3]);
            Assert.Equal(profile.StreamLimit?.ToString(CultureInfo.InvariantCulture) ?? "–", cells[4]);
            Assert.Equal(profile.RateLimits.ToString(), cells[5], ignoreCase: true);
            Assert.All(profile.Hosts, host => Assert.Contains(host, cells[2], StringComparison.Ordinal));
        });
    }

    static double? Seconds(ProviderProfile profile) => profile.IdleLimit?.TotalSeconds;
}
