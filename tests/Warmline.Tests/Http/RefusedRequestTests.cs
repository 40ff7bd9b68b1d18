using System.Buffers.Binary;
using System.Net;
using System.Net.Http.Headers;
using Microsoft.AspNetCore.Http;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Http;

/// <summary>Requests that cannot be sent as they are: refused with the bare handler's error, provably unsent, and at the price that the
/// bare handler pays.</summary>
public sealed class RefusedRequestTests
{
    const string Ascii = "Request headers must contain only ASCII characters.";

    static readonly Dictionary<string, Action<HttpRequestMessage>> Requests = new(StringComparer.Ordinal)
    {
        ["request header"] = request => request.Headers.Add("X-Title", "Café"),
        ["full-width key"] = request => request.Headers.TryAddWithoutValidation("Authorization", "Bearer ｋｅｙ"),
        ["User-Agent"] = request => request.Headers.TryAddWithoutValidation("User-Agent", "Café/1.0"),
        ["content header"] = request => Post(request, new StringContent("x")).Content!.Headers.TryAddWithoutValidation("X-Title", "ü☃"),
        ["large body"] = request => Post(request, new ByteArrayContent(new byte[100_000])).Headers.Add("X-Title", "Café"),
        ["json body"] = request => Post(request, new StringContent("{}", null, "application/json")).Headers.Add("X-Title", "Café"),
        ["stream body"] = request => Post(request, new StreamContent(new MemoryStream(new byte[100_000]))).Headers.Add("X-Title", "Café"),
        ["chunked without content"] = request => request.Headers.TransferEncodingChunked = true,
        ["length that throws"] = request => Post(request, new BadLengthContent()),
    };

    public static TheoryData<string, bool> Cases
    {
        get
        {
            var cases = new TheoryData<string, bool>();
            foreach (var name in Requests.Keys)
            {
                cases.Add(name, false);
                cases.Add(name, true);
            }

            return cases;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Cases))]
    public async Task What_cannot_be_sent_is_refused_as_by_the_bare_handler(string name, bool http2)
    {
        var (bare, pool) = (await PlayAsync(false), await PlayAsync(true));

        Assert.Equal(bare.Told, pool.Told);
        if (pool.Error is HttpRequestException)
        {
            Assert.Equal(RequestVerdict.NotSent, Assert.IsType<PoolRequestException>(pool.Error).Verdict);
        }

        async Task<(string Told, Exception? Error)> PlayAsync(bool isPool)
        {
            await using var side = new Side(isPool, http2);
            var seen = 0;
            var address = await side.ServeAsync(context =>
            {
                seen += context.Request.Path == "/bad" ? 1 : 0;
                return Task.CompletedTask;
            });
            for (var i = 0; i < 8; i++)   // on HTTP/2 the connection's own first frames are out then
            {
                Assert.Equal("200", await Side.TellAsync(side.GetAsync(address)));
            }

            var request = side.Request(HttpMethod.Get, new Uri(address, "bad"));
            Requests[name](request);
            var (shape, error) = await Failures.PlayAsync(() => side.SendAsync(request));
            var after = await side.AfterAsync(address);
            if (isPool)
            {
                Assert.True(error is not PoolRequestException { InnerException: IOException }, shape);
                Assert.Equal((0L, error is PoolRequestException && name != "chunked without content" ? 1L : 0L), (side.Stats!.Faults.FailedUnknown, side.Stats.Faults.FailedNotSent));
            }

            return ($"{shape}: {error?.Message}; {seen} seen; {after}", error);
        }
    }

    /// <summary>It is sent, and the server does not take it.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "HttpRequestException(HttpProtocolError) < HttpProtocolException")]
    [InlineData(false, "400")]
    public async Task What_the_platform_sends_is_the_servers_to_judge(bool http2, string outcome)
    {
        var (bare, pool) = (await PlayAsync(false), await PlayAsync(true));

        Assert.Equal((outcome, outcome), (bare.Shape, pool.Shape));
        Assert.Equal(http2 ? RequestVerdict.Unknown : null, (pool.Error as PoolRequestException)?.Verdict);

        async Task<(string Shape, Exception? Error)> PlayAsync(bool isPool)
        {
            await using var side = new Side(isPool, http2);
            var request = side.Request(HttpMethod.Get, await side.ServeAsync(_ => Task.CompletedTask));
            request.Headers.TryAddWithoutValidation("X-Title", "a\0b");
            return await Failures.PlayAsync(() => side.SendAsync(request));
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("Host")]
    [InlineData("Café")]
    public async Task On_plain_http_too(string what)
    {
        var (bare, pool) = (await PlayAsync(false), await PlayAsync(true));

        Assert.Equal(bare, pool);
        Assert.Contains(Ascii, pool, StringComparison.Ordinal);

        async Task<string> PlayAsync(bool isPool)
        {
            await using var side = new Side(isPool, http2: false);
            var request = side.Request(HttpMethod.Get, side.ServeRaw(async peer => await peer.ReadHeadAsync()));
            request.Headers.TryAddWithoutValidation(what == "Host" ? "Host" : "X-Title", "Café");
            var (shape, error) = await Failures.PlayAsync(() => side.SendAsync(request));
            return $"{shape}: {error!.Message}";
        }
    }

    public static TheoryData<string, HttpVersionPolicy> Versions
    {
        get
        {
            var versions = new TheoryData<string, HttpVersionPolicy>();
            foreach (var version in new[] { "0.9", "1.2", "1.10", "2.1", "3.1", "4.0" })
            {
                foreach (var policy in Enum.GetValues<HttpVersionPolicy>())
                {
                    versions.Add(version, policy);
                }
            }

            return versions;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Versions))]
    public async Task A_version_that_is_none_is_refused_before_anything_is_resolved_or_dialled(string version, HttpVersionPolicy policy)
    {
        Assert.Equal("NotSupportedException: Request version value must be one of 1.0, 1.1, 2.0, or 3.0.",
            await SameAsync(address => new HttpRequestMessage(HttpMethod.Get, address) { Version = new Version(version), VersionPolicy = policy }));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_contradicts_itself_is_refused_before_anything_is_resolved_or_dialled()
    {
        Assert.StartsWith("HttpRequestException(Unknown) < InvalidOperationException: ", await SameAsync(address => new HttpRequestMessage(HttpMethod.Post, address) { Headers = { TransferEncodingChunked = true } }), StringComparison.Ordinal);
        Assert.Equal("NotSupportedException: HTTP 1.0 does not support chunking.",
            await SameAsync(address => new HttpRequestMessage(HttpMethod.Post, address) { Version = HttpVersion.Version10, Content = new OwnContent((_, _) => Task.CompletedTask) }));
        Assert.Equal("NotSupportedException: HTTP 1.0 does not support chunking.",
            await SameAsync(address => new HttpRequestMessage(HttpMethod.Post, address) { Version = HttpVersion.Version10, Content = new StringContent("x"), Headers = { TransferEncodingChunked = true } }));
        Assert.StartsWith("InvalidOperationException: ", await SameAsync(_ => new HttpRequestMessage(HttpMethod.Get, "models")), StringComparison.Ordinal);
        Assert.StartsWith("InvalidOperationException: ", await SameAsync(_ => new HttpRequestMessage { RequestUri = null }), StringComparison.Ordinal);
    }

    /// <summary>Both handlers' error, to a name that nothing may ask for.</summary>
    static async Task<string> SameAsync(Func<Uri, HttpRequestMessage> request)
    {
        var address = new Uri("https://nowhere.invalid/");
        using var bare = new HttpMessageInvoker(new SocketsHttpHandler { UseProxy = false });
        var network = new FakeNetwork();
        await using var pool = new ConnectionPool(new ConnectionPoolOptions { UseProxy = false }, null, null, network);
        using var pooled = new HttpMessageInvoker(pool.CreateHandler());

        var (expected, error) = await Failures.PlayAsync(() => bare.SendAsync(request(address), Rig.Ct));
        var (shape, told) = await Failures.PlayAsync(() => pooled.SendAsync(request(address), Rig.Ct));

        Assert.Equal($"{expected}: {error!.Message}", $"{shape}: {told!.Message}");
        Assert.Empty(network.Resolved);
        Assert.Equal((0L, 0L, 0L), (pool.GetStats().TotalRequests, pool.GetStats().FailedDials, pool.GetStats().NewConnections));
        return $"{shape}: {told.Message}";
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task On_a_cold_pool_bad_requests_are_unsent_and_harm_no_good_one()
    {
        await using var rig = await Rig.StartHttp1Async();
        var bad = Enumerable.Range(0, 4).Select(async _ => await Assert.ThrowsAsync<PoolRequestException>(() => rig.CallAsync(Calls.Chat(headers: ("x-title", "Café"))))).ToArray();
        await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => rig.CallAsync()));

        Assert.All(await Task.WhenAll(bad), error => Assert.Equal((RequestVerdict.NotSent, Ascii, null), (error.Verdict, error.Message, error.InnerException)));
        Assert.Equal((0L, 4L, 0L), (rig.Stats.Faults.FailedUnknown, rig.Stats.Faults.FailedNotSent, rig.Stats.Faults.RetriedNotSent));
        Assert.Equal((20, 0L), (rig.Counters.Requests, rig.Stats.FailedDials));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(Http2Mode.Disabled, "2.0", HttpVersionPolicy.RequestVersionExact, null)]
    [InlineData(Http2Mode.Disabled, "2.0", HttpVersionPolicy.RequestVersionOrHigher, null)]
    [InlineData(Http2Mode.Disabled, "2.0", HttpVersionPolicy.RequestVersionOrLower, "1.1")]
    [InlineData(Http2Mode.Disabled, "1.1", HttpVersionPolicy.RequestVersionOrHigher, "1.1")]
    [InlineData(Http2Mode.Required, "1.1", HttpVersionPolicy.RequestVersionExact, "1.1")]
    [InlineData(Http2Mode.Required, "1.1", HttpVersionPolicy.RequestVersionOrLower, "2.0")]
    [InlineData(Http2Mode.Required, "1.0", HttpVersionPolicy.RequestVersionOrLower, "2.0")]
    [InlineData(Http2Mode.Preferred, "2.0", HttpVersionPolicy.RequestVersionOrHigher, "2.0")]
    public async Task An_order_is_obeyed_or_refused_whatever_the_mode(Http2Mode mode, string version, HttpVersionPolicy policy, string? answered)
    {
        await using var rig = await Rig.StartAsync(options => options.Http2.Mode = mode);
        var request = Calls.Chat();
        (request.Version, request.VersionPolicy) = (new Version(version), policy);
        if (answered is not null)
        {
            using var response = await rig.SendAsync(request);
            Assert.Equal(answered, response.Version.ToString());
            return;
        }

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => rig.SendAsync(request));
        Assert.Equal(HttpRequestError.VersionNegotiationError, error.HttpRequestError);
        Assert.Contains("Http2.Mode is Disabled", error.Message, StringComparison.Ordinal);
        Assert.Equal((0L, 0L), (rig.Stats.NewConnections, rig.Stats.TotalRequests));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_server_of_http_1_gives_the_place_back_where_http_2_or_higher_is_asked_for()
    {
        await using var rig = await Rig.StartHttp1Async(options => options.MaxConcurrentRequests = 1);
        for (var i = 0; i < 3; i++)
        {
            var request = Calls.Chat();
            (request.Version, request.VersionPolicy) = (HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrHigher);
            Assert.Equal(HttpRequestError.VersionNegotiationError, (await Assert.ThrowsAsync<PoolRequestException>(() => rig.SendAsync(request))).HttpRequestError);
        }

        await rig.CallAsync();
        Assert.Equal((1, 1), (rig.Counters.ConnectionsAccepted, rig.Counters.Requests));
    }

    /// <summary>On HTTP/1.1 the first of a body waits for more in the platform's buffer, and the headers with it.</summary>
    [Theory(Timeout = Rig.Patience)]
    [InlineData(0, RequestVerdict.NotSent, typeof(IOException))]
    [InlineData(0, RequestVerdict.NotSent, typeof(InvalidOperationException))]
    [InlineData(10, RequestVerdict.NotSent, typeof(IOException))]
    [InlineData(100_000, RequestVerdict.Unknown, typeof(IOException))]
    [InlineData(100_000, RequestVerdict.Unknown, typeof(InvalidOperationException))]
    public async Task A_content_that_throws_is_unsent_as_long_as_nothing_left(int written, RequestVerdict verdict, Type type)
    {
        await using var side = new Side(isPool: true, http2: false);
        var address = await side.ServeAsync(async context => await context.Request.Body.CopyToAsync(Stream.Null));
        var content = new OwnContent(async (stream, ct) =>
        {
            await stream.WriteAsync(new byte[written], ct);
            throw (Exception)Activator.CreateInstance(type, "mine")!;
        }, 200_000);

        var (_, error) = await Failures.PlayAsync(() => side.PostAsync(address, content));

        Assert.Equal(verdict, Assert.IsType<PoolRequestException>(error).Verdict);
        Assert.Equal((type, "mine"), (error!.InnerException!.GetType(), error.InnerException.Message));
        Assert.Equal((verdict is RequestVerdict.NotSent ? 1L : 0L, 0L), (side.Stats!.Faults.FailedNotSent, side.Stats.Faults.RetriedNotSent));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Headers_beyond_the_servers_limit_are_unsent_and_cost_no_connection()
    {
        var (bare, pool) = (await PlayAsync(false), await PlayAsync(true));

        Assert.Equal(bare.Told, pool.Told);
        Assert.Equal(RequestVerdict.NotSent, Assert.IsType<PoolRequestException>(pool.Error).Verdict);
        Assert.Equal("The HTTP request headers length exceeded the server limit of 4096 bytes.", pool.Error!.Message);

        static async Task<(string Told, Exception? Error)> PlayAsync(bool isPool)
        {
            await using var side = new Side(isPool, http2: true);
            var address = side.ServeFrames(async connection =>
            {
                var limit = new byte[6];
                limit[1] = 6;
                BinaryPrimitives.WriteInt32BigEndian(limit.AsSpan(2), 4096);
                await connection.WriteAsync(RawHttp2Server.Settings, 0, 0, limit);
                while (true)
                {
                    await connection.AnswerAsync(await connection.ReadRequestAsync(), ended: true);
                }
            });
            Assert.Equal("200", await Side.TellAsync(side.GetAsync(address)));
            Assert.Equal("200", await Side.TellAsync(side.GetAsync(address)));
            var request = side.Request(HttpMethod.Get, address);
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", new string('k', 6_000));
            var (shape, error) = await Failures.PlayAsync(() => side.SendAsync(request));
            return ($"{shape}: {error?.Message}; then {await Side.TellAsync(side.GetAsync(address))}", error);
        }
    }

    static HttpRequestMessage Post(HttpRequestMessage request, HttpContent content)
    {
        (request.Method, request.Content) = (HttpMethod.Post, content);
        return request;
    }
}
