using System.Diagnostics;
using System.Net;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Telemetry;

/// <summary>One span tree for a call and one for a connection, linked; nothing while nobody listens. Each test's pool has a name of its own, as listeners are the process's.</summary>
public sealed class SpanTests
{
    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_call_has_its_span_and_the_connection_another(bool http2)
    {
        var name = $"tree-{http2}";
        using var spans = new SpanRecorder(name);
        await using var rig = await Rig.StartAsync(http2, options => options.Name = name);
        await rig.CallAsync();
        await rig.CallAsync();
        await rig.QuietAsync();
        await Eventually.TrueAsync(() => spans.Named("POST").Count == 2);
        var (first, second) = (spans.Named("POST")[0], spans.Named("POST")[1]);
        var connect = Assert.Single(spans.Named("warmline.connect"));
        Assert.Equal((ActivityKind.Client, ActivityKind.Client, default), (first.Kind, connect.Kind, connect.ParentSpanId));
        Assert.Equal(["warmline.dns", "warmline.tcp", "warmline.tls"], spans.Ended.Where(span => span.ParentSpanId == connect.SpanId && span.TraceId == connect.TraceId).Select(static span => span.OperationName));
        Assert.Equal(["warmline.queue"], spans.Ended.Where(span => span.ParentSpanId == first.SpanId).Select(static span => span.OperationName));
        Assert.Equal("dialing", spans.Named("warmline.queue").Single().GetTagItem("warmline.reason"));
        Assert.DoesNotContain(spans.Ended, span => span.ParentSpanId == second.SpanId);
        Assert.NotEqual(first.TraceId, connect.TraceId);
        Assert.Equal([connect.Context, connect.Context], [first.Links.Single().Context, second.Links.Single().Context]);
        Assert.Equal(7, spans.Ended.Count);   // two calls, one wait, one connection with three phases: none twice

        var port = rig.Mock.BaseAddress.Port;
        Assert.Equal(("POST", "localhost", port, $"https://localhost:{port}/v1/chat/completions", 200, http2 ? "2" : "1.1"),
            (first.GetTagItem("http.request.method"), first.GetTagItem("server.address"), first.GetTagItem("server.port"), first.GetTagItem("url.full"), first.GetTagItem("http.response.status_code"), first.GetTagItem("network.protocol.version")));
        Assert.Equal((false, true), (first.GetTagItem("warmline.reused"), second.GetTagItem("warmline.reused")));
        Assert.Equal((ActivityStatusCode.Unset, null), (first.Status, first.GetTagItem("error.type")));
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_span_lasts_until_the_answer_has_been_read_and_leaves_the_readers_own_activity_alone()
    {
        using var spans = new SpanRecorder("reading");
        await using var rig = await Rig.StartAsync(static options => options.Name = "reading");
        var answer = await rig.SendAsync(Calls.Stream(tokens: 3));
        Assert.Null(Activity.Current);
        using (var reader = new Activity("reader").Start())
        {
            Assert.Empty(spans.Named("POST"));
            await answer.Content.ReadAsStringAsync(Rig.Ct);
            Assert.Same(reader, Activity.Current);
        }

        await rig.QuietAsync();
        await Eventually.TrueAsync(() => spans.Named("POST").Count == 1);
        Assert.Equal("warmline.first_token", Assert.Single(spans.Named("POST")[0].Events).Name);
        answer.Dispose();

        // Left in the middle, it ends within Dispose, in the reader's own context.
        var left = await rig.SendAsync(Calls.Stream());
        using (var reader = new Activity("leaver").Start())
        {
            left.Dispose();
            Assert.Same(reader, Activity.Current);
        }

        await Eventually.TrueAsync(() => spans.Named("POST").Count == 2);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task The_callers_trace_goes_on_over_the_wire_and_the_request_comes_back_as_it_was()
    {
        using var spans = new SpanRecorder("wire");
        string? heard = null;
        await using var rig = await Rig.StartAsync(static options => options.Name = "wire", Hears(value => heard = value));
        using var caller = new Activity("caller") { TraceStateString = "vendor=1" };
        caller.Start();
        var request = Calls.Chat();
        await rig.CallAsync(request);
        caller.Stop();
        await Eventually.TrueAsync(() => spans.Named("POST").Count == 1);
        var span = spans.Named("POST")[0];
        Assert.Equal((caller.TraceId, caller.SpanId), (span.TraceId, span.ParentSpanId));
        Assert.Equal($"00-{span.TraceId}-{span.SpanId}-01", heard);
        Assert.Empty(request.Headers);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Without_a_listener_the_callers_own_context_goes_out_and_without_that_nothing()
    {
        var heard = new List<string?>();
        await using var rig = await Rig.StartAsync(mock: Hears(heard.Add));
        await rig.CallAsync();
        using (var caller = new Activity("caller").Start())
        {
            await rig.CallAsync();
            await rig.CallAsync(Calls.Chat(headers: ("traceparent", "00-11111111111111111111111111111111-2222222222222222-01")));
            Assert.Equal([null, caller.Id, "00-11111111111111111111111111111111-2222222222222222-01"], heard);
        }
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task What_is_not_sampled_makes_no_spans_and_is_carried_on_as_such()
    {
        string? heard = null;
        using var spans = new SpanRecorder("unsampled", ActivitySamplingResult.None);
        await using var rig = await Rig.StartAsync(static options => options.Name = "unsampled", Hears(value => heard = value));
        using var caller = new Activity("caller").Start();
        await rig.CallAsync();
        Assert.Equal(caller.Id, heard);
        Assert.Empty(spans.Ended);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task Failures_are_on_the_span_by_their_kind()
    {
        using var spans = new SpanRecorder("failing");
        await using var rig = await Rig.StartAsync(static options => (options.Name, options.MaxConcurrentRequests, options.Timeouts.Pool) = ("failing", 1, TimeSpan.FromMilliseconds(50)));
        using (await rig.SendAsync(Calls.Chat(headers: ("x-mock-status", "529"))))
        {
        }

        await rig.QuietAsync();
        var gate = new Gate();
        var running = await rig.HoldAsync(1, gate);
        await Assert.ThrowsAsync<PoolTimeoutException>(() => rig.CallAsync());
        gate.Open();
        await rig.DoneAsync(running);
        using (var broken = await rig.SendAsync(Calls.Stream(headers: [("x-mock-fault", "reset"), ("x-mock-fault-after-tokens", "3")])))
        {
            await Assert.ThrowsAnyAsync<Exception>(() => broken.Content.ReadAsStringAsync(Rig.Ct));
        }

        using var nowhere = rig.Pool.CreateClient(new Uri("https://127.0.0.1:1"));
        await Assert.ThrowsAsync<PoolConnectException>(() => nowhere.GetAsync(new Uri("/x?key=secret", UriKind.Relative), Rig.Ct));
        await rig.QuietAsync();
        await Eventually.TrueAsync(() => spans.Named("POST").Count == 4 && spans.Named("GET").Count == 1);
        Assert.Equal(["529", "Warmline.PoolTimeoutException", null], spans.Named("POST").Select(static span => span.GetTagItem("error.type")).Take(3));
        Assert.Equal(ActivityStatusCode.Error, spans.Named("POST")[3].Status);
        Assert.Equal("max_concurrent_requests", spans.Named("warmline.queue").Single(span => span.TraceId == spans.Named("POST")[1].TraceId).GetTagItem("warmline.reason"));
        var failed = spans.Named("GET")[0];
        Assert.Equal(("connection_error", ActivityStatusCode.Error, "https://127.0.0.1:1/x?*"), (failed.GetTagItem("error.type"), failed.Status, failed.GetTagItem("url.full")));
        var connect = spans.Named("warmline.connect")[^1];
        Assert.Equal(("tcp", ActivityStatusCode.Error), (connect.GetTagItem("error.type"), connect.Status));
        Assert.Equal(ActivityStatusCode.Error, spans.Named("warmline.tcp")[^1].Status);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task A_call_that_is_sent_again_is_one_span_with_each_connection_and_one_of_each_duration()
    {
        using var spans = new SpanRecorder("again");
        using var metrics = new MetricsRecorder().Start();
        await using var rig = await Rig.StartAsync(static options => options.Name = "again", meters: metrics.Factory);
        await rig.CallAsync(Calls.Chat(headers: [("x-mock-fault", "refuse"), ("x-mock-fail-first", "6"), ("x-mock-id", "again")]));
        await rig.QuietAsync();
        await Eventually.TrueAsync(() => spans.Named("POST").Count == 1);
        var span = spans.Named("POST")[0];
        Assert.Equal((200, null), (span.GetTagItem("http.response.status_code"), span.GetTagItem("error.type")));
        Assert.InRange(rig.Stats.Faults.RetriedUnprocessed, 1, 3);   // the platform tries several times on one connection before the pool tries another
        Assert.Equal((int)rig.Stats.Faults.RetriedUnprocessed, span.GetTagItem("http.request.resend_count"));
        Assert.Equal(spans.Named("warmline.connect").Select(static connect => connect.SpanId).ToHashSet(), span.Links.Select(static link => link.Context.SpanId).ToHashSet());
        Assert.Equal((1, 1, 1), (metrics.Of("http.client.request.time_in_queue").Count(), metrics.Of("http.client.request.duration").Count(), metrics.Of("warmline.lease.duration").Count()));
    }

    static MockLlmOptions Hears(Action<string?> traceparent) => new()
    {
        OnRequest = request =>
        {
            traceparent(request.Header("traceparent"));
            return null;
        },
    };
}
