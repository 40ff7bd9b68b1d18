using System.ClientModel;
using System.ClientModel.Primitives;
using System.Globalization;
using System.Net;
using Anthropic;
using Anthropic.Models.Messages;
using OpenAI;
using OpenAI.Chat;

namespace Warmline.Docs.Tests;

/// <summary>What the SDKs do with each of the pool's errors, as docs/errors.md tells it: how often they send, and what their caller gets.</summary>
public sealed class SdkErrorTests
{
    /// <summary>The SDKs wait between attempts, Anthropic's by a clock of its own: some 2 s in all.</summary>
    const int Patience = 120_000;

    public static TheoryData<string> Names => [.. Errors.Keys];

    static readonly Dictionary<string, Func<Exception>> Errors = new(StringComparer.Ordinal)
    {
        [nameof(PoolRejectedException)] = () => PoolErrors.Rejected(PoolRejectionReason.QueueFull, ConnectionPool.Freeze(new()), Stats(), disposed: false),
        [nameof(PoolTimeoutException)] = () => new PoolTimeoutException(PoolRejectionReason.MaxConnections, 50, TimeSpan.FromSeconds(10), Stats(), "No place."),
        [nameof(PoolConnectException)] = () => new PoolConnectException(DialPhase.Tcp, RequestVerdict.NotSent, "No connection.", null),
        [nameof(PoolRequestException)] = () => new PoolRequestException(RequestVerdict.Unknown, HttpRequestError.ResponseEnded, "It broke.", new IOException()),
        [nameof(RequestStalledException)] = () => new RequestStalledException(StallPhase.FirstByte, TimeSpan.FromSeconds(600), TimeSpan.FromSeconds(600), RequestVerdict.Unknown, "https://api.openai.com:443", null),
        [nameof(PoolAbortedException)] = () => new PoolAbortedException(PoolRejectionReason.Draining),
    };

    [Fact]
    public void No_exception_is_left_out() => Assert.Equal(XmlDocs.PublicTypes.Where(type => type.IsSubclassOf(typeof(Exception))).Select(type => type.Name).Order(StringComparer.Ordinal), Errors.Keys.Order(StringComparer.Ordinal));

    [Theory(Timeout = Patience)]
    [MemberData(nameof(Names))]
    public async Task The_page_tells_what_the_sdks_do(string error)
    {
        var (openAi, anthropic) = (new Failing(Errors[error]), new Failing(Errors[error]));
        using var first = new HttpClient(openAi);
        using var second = new HttpClient(anthropic);
        var chat = new ChatClient("gpt-4o", new ApiKeyCredential("key"), new OpenAIClientOptions { Transport = new HttpClientPipelineTransport(first), RetryPolicy = new AtOnce() });
        var claude = new AnthropicClient { ApiKey = "key", HttpClient = second };

        var fromOpenAi = await Assert.ThrowsAnyAsync<Exception>(() => chat.CompleteChatAsync(["Hello"], cancellationToken: TestContext.Current.CancellationToken));
        var fromAnthropic = await Assert.ThrowsAnyAsync<Exception>(() => claude.Messages.Create(new() { Model = "claude-sonnet-4-5", MaxTokens = 10, Messages = [new UserMessageParam { Content = "Hello" }] }, TestContext.Current.CancellationToken));

        var row = Page.Of("docs/errors.md").Rows.Single(row => row.Cells[0] == $"`{error}`" && row.Cells.Length == 4);
        Assert.Equal(string.Create(CultureInfo.InvariantCulture, $"OpenAI: {openAi.Sent}, {Told(fromOpenAi, error)}. Anthropic: {anthropic.Sent}, {Told(fromAnthropic, error)}"), row.Cells[3]);
    }

    static string Told(Exception seen, string error) => seen.GetType().Name == error ? "as it is" : $"`{seen.GetType().Name}`";

    static PoolStats Stats()
    {
        using var pool = new ConnectionPool();
        return pool.GetStats();
    }

    sealed class Failing(Func<Exception> make) : HttpMessageHandler
    {
        public int Sent { get; private set; }

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Sent++;
            throw make();
        }
    }

    /// <summary>The SDK's own policy but for its pauses.</summary>
    sealed class AtOnce : ClientRetryPolicy
    {
        protected override TimeSpan GetNextDelay(PipelineMessage message, int tryCount) => TimeSpan.Zero;
    }
}
