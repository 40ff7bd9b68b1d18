using System.Buffers;
using System.Text;
using Warmline.Tests.Providers;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Leaving a stream after its terminal event keeps the connection, on HTTP/1.1 for the very next call; leaving before it stops the provider.</summary>
public sealed class TailTests
{
    const int Many = 1_000;

    [Theory(Timeout = 2 * Rig.Patience)]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    public async Task Stopping_at_the_terminal_event_a_thousand_times_needs_one_connection(bool http2, bool isAnthropic)
    {
        await using var rig = await Rig.StartAsync(http2);
        var buffer = new byte[64 * 1024];
        for (var call = 0; call < Many; call++)
        {
            var request = Calls.Chat(stream: true);
            request.RequestUri = new Uri(isAnthropic ? "v1/messages" : "v1/chat/completions", UriKind.Relative);
            using var response = await rig.SendAsync(request);
            await using var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
            for (var text = ""; !text.EndsWith(isAnthropic ? "\"message_stop\"}\n\n" : "[DONE]\n\n", StringComparison.Ordinal);)
            {
                text += Encoding.UTF8.GetString(buffer, 0, await body.ReadAsync(buffer, Rig.Ct));   // and no read after that, as SDKs do
            }
        }

        await rig.QuietAsync();
        Assert.Equal((1L, 1L, 0L, Many), (rig.Counters.ConnectionsAccepted, rig.Stats.NewConnections, rig.Counters.AbortedRequests, rig.Stats.TotalRequests));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_tail_that_comes_a_moment_later_is_read_behind_the_callers_back(bool http2)
    {
        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.OpenAiChat);
            await play.UntilAsync(end.Task);
            await play.SayAsync(": bye\n\n");
        });
        var response = await server.SendAsync();
        await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), "[DONE]\n\n");

        response.Dispose();   // returns at once

        Assert.Equal(1, server.Stats.Active);   // the lease waits for the end
        end.SetResult();
        await server.QuietAsync();
        await CallAsync(server);
        Assert.Equal((1, 0, 1L), (server.Connections, server.Aborted, server.Stats.NewConnections));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_tail_that_never_ends_is_given_up_in_time(bool http2)
    {
        var time = new ManualTime();
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.Anthropic);
            await play.ForeverAsync();
        }, time: time);
        await server.WarmUpAsync();
        var response = await server.SendAsync();
        await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), "\"message_stop\"}\n\n");

        response.Dispose();
        time.Advance(TimeSpan.FromMilliseconds(900));
        Assert.Equal((1, 0), (server.Stats.Active, server.Aborted));

        time.Advance(TimeSpan.FromSeconds(1));
        await server.AbortedAsync(1);
        await server.QuietAsync();
        await Eventually.TrueAsync(() => server.Stats.Connections == (http2 ? 1 : 0), () => Rig.Describe(server.Stats));   // a reset there, the connection here
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_tail_that_is_long_is_given_up_before_its_end(bool http2)
    {
        var time = new ManualTime();   // and it stands still: only the bytes count
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.OpenAiChat);
            while (true)
            {
                await play.SayAsync(": " + new string('x', 1_000) + "\n\n");
            }
        }, time: time);
        await server.WarmUpAsync();
        var response = await server.SendAsync();
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        var (read, buffer) = (new StringBuilder(), new byte[1024]);
        while (!read.ToString().Contains("[DONE]\n\n", StringComparison.Ordinal))
        {
            read.Append(Encoding.UTF8.GetString(buffer, 0, await body.ReadAsync(buffer, Rig.Ct)));
        }

        response.Dispose();

        await server.AbortedAsync(1);
        await server.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Leaving_before_the_terminal_event_stops_the_provider_at_once(bool http2)
    {
        var time = new ManualTime();   // so no bound of a tail can end it
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.OpenAiChat.Replace("data: [DONE]\n\n", "", StringComparison.Ordinal));
            await play.ForeverAsync();
        }, time: time);
        await server.WarmUpAsync();
        var response = await server.SendAsync();
        await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), "\"finish_reason\":\"stop\"}]}\n\n");

        response.Dispose();

        Assert.Equal(0, server.Stats.Active);
        await server.AbortedAsync(1);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_error_event_is_counted_once_for_its_stream_and_leaving_there_keeps_the_connection(bool http2)
    {
        await using var server = await SseServer.StartAsync(http2, play => play.SayAsync(SseFixtures.OpenAiFailed));
        for (var call = 1; call <= 3; call++)
        {
            var response = await server.SendAsync();
            await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), "\"status\":\"failed\"}}\n\n", pieces: 20);   // both errors, and not in one read
            response.Dispose();
            await server.QuietAsync();
            Assert.Equal(call, server.Stats.Faults.StreamErrors);
        }

        await CallAsync(server, "event: response.failed");
        Assert.Equal((1, 0), (server.Connections, server.Aborted));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_stream_that_is_disposed_while_it_is_being_read_is_left_alone(bool http2)
    {
        var time = new ManualTime();
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.OpenAiChat);
            await play.ForeverAsync();
        }, time: time);
        await server.WarmUpAsync();
        var response = await server.SendAsync();
        var body = await response.Content.ReadAsStreamAsync(Rig.Ct);
        await SseServer.ReadUntilAsync(body, "[DONE]\n\n");
        var reading = body.ReadAsync(new byte[10], Rig.Ct).AsTask();
        Assert.False(reading.IsCompleted);

        response.Dispose();   // two reads at a time are more than the platform's streams bear

        await Assert.ThrowsAnyAsync<Exception>(() => reading);
        await server.AbortedAsync(1);
        await server.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "text/event-stream", SseFixtures.OpenAiChat, 3)]
    [InlineData(false, "text/event-stream", SseFixtures.OpenAiChat, 3)]
    [InlineData(true, "text/plain", SseFixtures.OpenAiChat, 3)]
    [InlineData(false, "text/plain", "\n\n" + SseFixtures.OpenAiChat, 3)]
    [InlineData(true, "application/x-ndjson", Done, 0)]
    [InlineData(false, "application/x-ndjson", Done, 0)]
    public async Task A_compressed_stream_that_the_pool_decodes_ends_as_any_other(bool http2, string type, string stream, int tokens)
    {
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            play.Response.ContentType = type;
            play.Response.Headers.ContentEncoding = "gzip";
            await using var gzip = new System.IO.Compression.GZipStream(play.Response.Body, System.IO.Compression.CompressionMode.Compress, leaveOpen: true);
            await gzip.WriteAsync(Encoding.UTF8.GetBytes(stream));
            await gzip.FlushAsync();
        }, options => options.AutomaticDecompression = System.Net.DecompressionMethods.GZip);
        for (var call = 0; call < 20; call++)
        {
            using var response = await server.SendAsync();
            await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), stream[^14..]);
            response.Dispose();
            await server.QuietAsync();
            Assert.True(response.TryGetPoolTimings(out var timings) && timings.Tokens == tokens && timings.FirstToken is not null == tokens > 0);
        }

        Assert.Equal((1, 0, 0L), (server.Connections, server.Aborted, server.Stats.Faults.Abandoned));
    }

    /// <summary>The last item, and what is to be read of the answer when the reader leaves.</summary>
    public static TheoryData<bool, string?, string, string?> Ends
    {
        get
        {
            var ends = new TheoryData<bool, string?, string, string?>();
            foreach (var http2 in new[] { true, false })
            {
                ends.Add(http2, "application/x-ndjson", Chat, null);
                ends.Add(http2, "application/x-ndjson", Done, null);
                ends.Add(http2, "text/plain", Chat, null);
                ends.Add(http2, null, Chat, null);
                ends.Add(http2, "application/json", "\uFEFF\n\r\n" + Chat, null);
                ends.Add(http2, "text/event-stream", Chat, "none");
                ends.Add(http2, "text/event-stream", Chat, "identity");
                ends.Add(http2, "text/event-stream", Chat, "");
                ends.Add(http2, "text/event-stream", Done, null);
                ends.Add(http2, "application/stream+json", "{\"event_type\":\"text-generation\",\"is_finished\":false}\n{\"is_finished\":true,\"event_type\":\"stream-end\"}\n", null);
            }

            return ends;
        }
    }

    const string Chat = "data: {\"a\":1}\n\ndata: [DONE]\n\n";
    const string Done = "{\"message\":{\"content\":\"\\\"done\\\":true\"},\"done\":false}\n{\"message\":{},\"done\": true,\"eval\":[1,{\"a\":\"}\"}]}\n";

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(Ends))]
    public async Task An_end_is_known_by_its_shape_whatever_the_answer_is_called(bool http2, string? type, string body, string? encoding)
    {
        var end = new SemaphoreSlim(0);
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            play.Response.ContentType = type;
            if (encoding is not null)
            {
                play.Response.Headers["Content-Encoding"] = encoding;
            }

            await play.SayAsync(body);
            await play.UntilAsync(end.WaitAsync());
        });
        for (var call = 0; call < 5; call++)
        {
            var response = await server.SendAsync();
            await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), body[^20..], pieces: call == 0 ? 4096 : call);
            response.Dispose();
            end.Release();
            await server.QuietAsync();
            Assert.True(response.TryGetPoolTimings(out var timings) && timings.Tokens == (body.Contains("data", StringComparison.Ordinal) ? 1 : 0));
        }

        Assert.Equal((1, 0, 0L), (server.Connections, server.Aborted, server.Stats.Faults.Abandoned));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "application/json", "{\"text\":\"data: [DONE]\\n\\n\",\"a\":{\"done\":true},\"b\":\"\\\"done\\\":true")]
    [InlineData(false, "application/json", "{\"text\":\"data: [DONE]\\n\\n\",\"a\":{\"done\":true},\"b\":\"\\\"done\\\":true")]
    [InlineData(false, "application/x-ndjson", "{\"message\":{\"content\":\"\\\"done\\\":true\"},\"done\":false}\n")]
    [InlineData(true, "application/x-ndjson", "{\"done\":true}\n{\"done\":false}\n")]
    [InlineData(false, "application/x-ndjson", "{\"done\":true,\"a\":1")]
    [InlineData(false, "application/json", "[{\"done\":true}")]
    [InlineData(true, "text/plain", "The text data: [DONE]\n\ndata: [DONE]\n\n")]
    [InlineData(false, "text/plain", " data: [DONE]\n\n")]
    [InlineData(true, "text/plain", "id: 1\nname: x\n\ndata: [DONE]\n\n")]
    [InlineData(false, "text/event-stream", "data: {}\n\n", "none")]
    public async Task What_only_contains_the_text_of_an_end_is_left_at_once(bool http2, string type, string body, string? encoding = null)
    {
        var time = new ManualTime();   // so no bound of a tail can end it
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            play.Response.ContentType = type;
            play.Response.Headers.ContentEncoding = encoding;
            await play.SayAsync(body);
            await play.ForeverAsync();
        }, time: time);
        await server.WarmUpAsync();
        var response = await server.SendAsync();
        await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), body);

        response.Dispose();

        Assert.Equal((0, 1L), (server.Stats.Active, server.Stats.Faults.Abandoned));
        await server.AbortedAsync(1);
    }

    [Theory(Timeout = 2 * Rig.Patience)]
    [InlineData(true, "text/plain", "hello")]
    [InlineData(false, "text/plain", "hello")]
    [InlineData(true, "application/json", "{\"a\":1}")]
    [InlineData(false, "application/json", "{\"a\":1}")]
    [InlineData(false, "application/x-ndjson", "{\"a\":1}\n{\"a\":2}\n")]
    [InlineData(false, "audio/mpeg", "\0\u0001")]
    [InlineData(false, "text/event-stream", "data: 1\n\ndata: 2\n\n")]
    public async Task An_end_that_is_there_already_is_read_whatever_the_answer_is(bool http2, string type, string body)
    {
        await using var server = await SseServer.StartAsync(http2, play =>
        {
            play.Response.ContentType = type;
            play.Response.BodyWriter.Write(Encoding.UTF8.GetBytes(body));   // goes out together with the end
            return Task.CompletedTask;
        });
        for (var call = 0; call < 50; call++)
        {
            var response = await server.SendAsync();
            await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), body);
            response.Dispose();
            await server.QuietAsync();
        }

        Assert.Equal((1, 0, 0L), (server.Connections, server.Aborted, server.Stats.Faults.Abandoned));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Leaving_at_the_terminal_event_is_not_counted_however_late_the_end_is(bool http2)
    {
        var time = new ManualTime();
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.OpenAiChat);
            await play.ForeverAsync();
        }, time: time);
        await server.WarmUpAsync();
        var response = await server.SendAsync();
        await SseServer.ReadUntilAsync(await response.Content.ReadAsStreamAsync(Rig.Ct), "[DONE]\n\n");

        response.Dispose();
        time.Advance(TimeSpan.FromSeconds(2));

        await server.AbortedAsync(1);
        await server.QuietAsync();
        Assert.Equal((0L, 0L, 0L), (server.Stats.Faults.Abandoned, server.Stats.Faults.FailedUnknown, server.Stats.Faults.Stalled));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("none")]
    [InlineData("identity")]
    [InlineData("")]
    [InlineData("utf-8")]
    public async Task Events_are_read_under_an_encoding_that_hides_nothing(string encoding)
    {
        await using var server = await SseServer.StartAsync(http2: false, play =>
        {
            play.Response.Headers["Content-Encoding"] = encoding;
            return play.SayAsync(SseFixtures.OpenAiChat);
        });
        for (var call = 0; call < 3; call++)
        {
            using var response = await server.SendAsync();
            Assert.Equal(4, await response.ReadServerSentEventsAsync(Rig.Ct).CountAsync(Rig.Ct));
            await server.QuietAsync();
        }

        Assert.Equal((1, 0L), (server.Connections, server.Stats.Faults.Abandoned));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, "text/plain", "x")]
    [InlineData(false, "text/plain", "x")]
    [InlineData(true, "application/x-ndjson", "{\"done\":false}\n")]
    [InlineData(false, "application/x-ndjson", "{\"done\":false}\n")]
    [InlineData(false, "application/json", " ")]
    [InlineData(false, "text/event-stream", "data: {}\n\n")]
    public async Task What_comes_faster_than_it_is_read_is_left_all_the_same(bool http2, string type, string piece)
    {
        var time = new ManualTime();   // and it stands still: only the bytes count
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            play.Response.ContentType = type;
            while (true)
            {
                await play.SayAsync(string.Concat(Enumerable.Repeat(piece, 1_000)));
            }
        }, time: time);
        await server.WarmUpAsync();
        for (var call = 1; call <= 20; call++)
        {
            var response = await server.SendAsync();
            await (await response.Content.ReadAsStreamAsync(Rig.Ct)).ReadExactlyAsync(new byte[100], Rig.Ct);
            response.Dispose();
            Assert.Equal(0, server.Stats.Active);
            await server.AbortedAsync(call);
        }

        Assert.Equal(20, server.Stats.Faults.Abandoned);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_terminal_event_that_is_there_and_was_not_read_is_an_end_too(bool http2)
    {
        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var server = await SseServer.StartAsync(http2, async play =>
        {
            await play.SayAsync(SseFixtures.OpenAiChat);
            await play.UntilAsync(end.Task);
        });
        var response = await server.SendAsync();
        await (await response.Content.ReadAsStreamAsync(Rig.Ct)).ReadExactlyAsync(new byte[SseFixtures.OpenAiChat.Length - 14], Rig.Ct);   // up to "data: [DONE]"
        response.Dispose();
        end.SetResult();
        await server.QuietAsync();
        await CallAsync(server);
        Assert.Equal((1, 0, 0L), (server.Connections, server.Aborted, server.Stats.Faults.Abandoned));
    }

    static async Task CallAsync(SseServer server, string expected = "[DONE]")
    {
        using var response = await server.SendAsync();
        Assert.Contains(expected, await response.Content.ReadAsStringAsync(Rig.Ct), StringComparison.Ordinal);
    }
}
