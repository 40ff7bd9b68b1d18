using System.Collections.Concurrent;
using System.Globalization;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Warmline.MockLlm;

/// <summary>The way of a request through the server, in numbered steps.</summary>
internal sealed class RequestPipeline(MockLlmOptions options, CounterBoard board, DelayScheduler scheduler, TimeProvider time)
{
    const int PaddingLine = 1000;

    readonly ConcurrentDictionary<string, int> _attempts = new(StringComparer.Ordinal);
    readonly RateWindow _rate = new(options.RateLimit);

    public void Reset() => _attempts.Clear();

    public async Task HandleAsync(HttpContext http)
    {
        var connection = http.Features.Get<MockConnection>()!;
        var mockId = http.Request.Headers["x-mock-id"].FirstOrDefault();
        var attempt = mockId is null ? 1 : _attempts.AddOrUpdate(mockId, 1, static (_, count) => count + 1);

        // 1 admit: a connection that a script has ended, or a stream above a GOAWAY, gets its request noted and nothing else
        var admitted = connection.Faults.TryBegin(http.Features.Get<IHttp2StreamIdFeature>()?.StreamId, out var number);
        var entry = board.RequestStarted(connection, http.Request, mockId, attempt, number, admitted);
        using var aborted = CancellationTokenSource.CreateLinkedTokenSource(http.RequestAborted, connection.Broken.Token);
        if (!admitted)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, time, aborted.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            return;
        }

        var closeAfter = connection.Plan.CloseAfterRequests;
        try
        {
            // 2 decide: options, then the request's own headers, then the script
            var reply = options.OnRequest?.Invoke(new MockRequest(entry.Sequence, connection.Id, number, attempt, http.Request));
            var plan = ReplyPlan.Resolve(options, http.Request.Headers, reply, attempt, HttpProtocol.IsHttp2(http.Request.Protocol));
            using var exchange = new Exchange(http, entry, plan, board, scheduler, time.GetUtcNow(), aborted.Token);

            // 3 read the body, unless the script answers, or fails, before
            var hasBody = HttpMethods.IsPost(entry.Method);
            var wellFormed = !hasBody || plan.BeforeBody || plan.LeavesUnprocessed || await exchange.ReadBodyAsync().ConfigureAwait(false);
            if (await exchange.FailAsync().ConfigureAwait(false))
            {
                return;
            }

            // 4 count it, as providers do when they have read a request; what is above the limit is refused at once, the rest takes its
            // time
            if (hasBody && _rate.Take(time.GetUtcNow(), exchange.PromptTokens + plan.Tokens) is var (wait, isTokens))
            {
                exchange.Refuse(wait, isTokens);
            }
            else
            {
                await exchange.ServeAsync().ConfigureAwait(false);
            }

            // 5 answer
            plan = exchange.Plan;
            var isAnthropic = AnthropicApi.IsClient(http.Request);
            var overloaded = !exchange.Streams && plan.Fault is MockFault.ErrorEvent or MockFault.Failed;
            var status = overloaded ? (isAnthropic ? 529 : 503) : plan.Status != 200 ? plan.Status : !IsAuthorized(http.Request) ? 401 : !wellFormed ? 400 : 200;
            await AnswerAsync(exchange, isAnthropic, status).ConfigureAwait(false);
        }
        catch (Exception error) when (error is OperationCanceledException or IOException or BadHttpRequestException)
        {
            var byClient = connection.End != MockConnectionEnd.Server;
            board.RequestEnded(entry, http.Response.HasStarted ? http.Response.StatusCode : 0, completed: false, byClient);
            if (!connection.Faults.IsClosed)
            {
                http.Abort();
            }
        }
        finally
        {
            // A script that throws must not leave an open stream behind.
            board.RequestEnded(entry, StatusCodes.Status500InternalServerError, completed: false, abortedByClient: false);
            connection.Faults.Ended();
            if (entry.Connection.ServedOne() == closeAfter || connection.CloseAfterAnswer)
            {
                http.Features.Get<IConnectionLifetimeNotificationFeature>()?.RequestClose();
            }
        }
    }

    async Task AnswerAsync(Exchange exchange, bool isAnthropic, int status)
    {
        var response = exchange.Http.Response;
        response.StatusCode = status;
        var rate = _rate.Read(time.GetUtcNow());
        if (status == StatusCodes.Status429TooManyRequests && exchange.Plan is { IsRefused: false, RetryAfter: { } reset })
        {
            rate = new RateWindow.Reading(0, 0, reset, reset);
        }

        if (isAnthropic)
        {
            AnthropicApi.WriteHeaders(exchange, _rate, rate, time.GetUtcNow());
        }
        else
        {
            OpenAiApi.WriteHeaders(exchange, _rate, rate);
        }

        // By the clock that the resets are told by: Kestrel has its own.
        response.Headers.Date = time.GetUtcNow().ToString("R", CultureInfo.InvariantCulture);
        WriteRetryHeaders(response.Headers, exchange, isAnthropic);
        var answer = status < 400 ? Route(exchange, isAnthropic) : null;
        foreach (var (name, value) in exchange.Plan.Headers ?? new Dictionary<string, string>())
        {
            response.Headers[name] = value;
        }

        for (var (left, i) = (exchange.Plan.HeaderPadding, 1); left > 0; left -= PaddingLine, i++)
        {
            response.Headers[$"x-mock-padding-{i}"] = new string('x', Math.Min(left, PaddingLine));
        }

        if (answer is null)
        {
            if (status < 400)
            {
                response.StatusCode = status = StatusCodes.Status404NotFound;
            }

            answer = x => isAnthropic ? AnthropicApi.ErrorAsync(x, status, x.Plan.ErrorMessage) : OpenAiApi.ErrorAsync(x, status, x.Plan.ErrorMessage);
        }

        await answer(exchange).ConfigureAwait(false);
    }

    static void WriteRetryHeaders(IHeaderDictionary headers, Exchange exchange, bool isAnthropic)
    {
        var plan = exchange.Plan;
        if (plan.RetryAfter is { } after)
        {
            var forms = plan.RetryAfterForms != MockRetryAfterForms.Default ? plan.RetryAfterForms
                : MockRetryAfterForms.Seconds | (isAnthropic ? MockRetryAfterForms.Default : MockRetryAfterForms.Milliseconds);
            if (forms.HasFlag(MockRetryAfterForms.HttpDate))
            {
                // Whole seconds, never too early.
                headers.RetryAfter = (exchange.Now + after).AddTicks(TimeSpan.TicksPerSecond - 1).ToString("R", CultureInfo.InvariantCulture);
            }
            else if (forms.HasFlag(MockRetryAfterForms.Seconds))
            {
                headers.RetryAfter = after.TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture);
            }

            if (forms.HasFlag(MockRetryAfterForms.Milliseconds))
            {
                headers["retry-after-ms"] = after.TotalMilliseconds.ToString("0.###", CultureInfo.InvariantCulture);
            }
        }

        if (plan.ShouldRetry is { } should)
        {
            headers["x-should-retry"] = should ? "true" : "false";
        }
    }

    static Func<Exchange, Task>? Route(Exchange exchange, bool isAnthropic)
    {
        const string Models = "/v1/models/";
        var (method, path) = (exchange.Entry.Method, exchange.Entry.Path);
        return (method, path) switch
        {
            ("POST", "/v1/chat/completions") => OpenAiApi.ChatAsync,
            ("POST", "/v1/responses") => OpenAiApi.ResponsesAsync,
            ("POST", "/v1/embeddings") => OpenAiApi.EmbeddingsAsync,
            ("POST", "/v1/messages") => AnthropicApi.MessagesAsync,
            ("POST", "/v1/messages/count_tokens") => AnthropicApi.CountTokensAsync,
            ("GET", "/v1/models") => isAnthropic ? AnthropicApi.ModelsAsync : OpenAiApi.ModelsAsync,
            ("GET", _) when path.StartsWith(Models, StringComparison.Ordinal) =>
                isAnthropic ? x => AnthropicApi.ModelAsync(x, path[Models.Length..]) : x => OpenAiApi.ModelAsync(x, path[Models.Length..]),
            _ => null,
        };
    }

    bool IsAuthorized(HttpRequest request) =>
        options.RequiredApiKey is not { } key || request.Headers["x-api-key"] == key || request.Headers.Authorization == "Bearer " + key;
}
