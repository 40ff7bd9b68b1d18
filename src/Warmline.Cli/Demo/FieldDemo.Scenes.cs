using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.MockLlm;

namespace Warmline.Cli.Demo;

internal sealed partial class FieldDemo
{
    const int ManyCalls = 10;
    const int UploadBytes = 24_000_000;
    const int ReadBytesPerSecond = 6_000_000;
    const int TokensBefore = 5;
    const string IdHeader = "x-mock-id";
    const string ReadRateHeader = "x-mock-read-bytes-per-second";

    /// <summary>Resolvers ask again after 5 s when a packet was lost.</summary>
    static readonly TimeSpan SlowLookup = TimeSpan.FromSeconds(5.1);

    /// <summary>The pool's clocks for the demo, in place of 10 s and 600 s.</summary>
    static readonly TimeSpan WriteSilence = TimeSpan.FromSeconds(1), ContentSilence = TimeSpan.FromSeconds(2);

    static readonly TimeSpan PingInterval = TimeSpan.FromMilliseconds(300);

    /// <summary>How long the demo waits for a call that nothing ends.</summary>
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    /// <summary>Longer than any clock that is shown.</summary>
    static readonly TimeSpan Long = TimeSpan.FromSeconds(20);

    static readonly byte[] Whole = """{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say hello."}]}"""u8.ToArray();
    static readonly byte[] Streamed = """{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Say hello."}]}"""u8.ToArray();

    async Task<ParallelSection> DeadAddressAsync(Tracker tracker, CancellationToken stop)
    {
        await using var stage = await FieldStage.StartAsync("dead-address", stop, new MockLlmOptions { OnConnection = _ => new() { Act = MockConnectionAct.Silent } }, new MockLlmOptions());
        var seen = await InBothAsync(stage, (_, side) => TwoCallsAsync(stage, side, tracker, stop));
        return new ParallelSection(
            "1. A dead address",
            [
                "A name has two addresses. The server at the first one accepts the connection, but never answers the TLS handshake. The server at the second one works.",
                $"For .NET's handler an address works once it is connected. It waits until its ConnectTimeout of {Seconds(FieldSide.ConnectTimeout)} ends the call, and the next call meets the same address. Warmline tries the second address after 500 ms, while the first may still answer, and remembers which one worked.",
            ],
            TwoCalls("deadAddress", seen),
            Said(".NET", seen[1].First.Error),
            seen[0].First.IsAnswered && seen[0].Next.IsAnswered);
    }

    async Task<ParallelSection> SlowNameAsync(Tracker tracker, CancellationToken stop)
    {
        await using var stage = await FieldStage.StartAsync("slow-name", stop, new MockLlmOptions());
        var seen = await InBothAsync(stage, (_, side) => TwoCallsAsync(stage, side, tracker, stop), firstLookup: SlowLookup);
        return new ParallelSection(
            "2. A slow name",
            [
                $"The first packet to the name server is lost. The system asks again after 5 s, so the first lookup takes {Seconds(SlowLookup)}.",
                $"Both may take {Seconds(FieldSide.ConnectTimeout)} to open a connection. .NET's handler ends the call at that time. Warmline keeps the call waiting, because the lookup may still end well. It ends such a call only after 15 s (`Timeouts.Pool`).",
            ],
            TwoCalls("slowName", seen),
            Said(".NET", seen[1].First.Error),
            seen[0].First.IsAnswered && seen[0].Next.IsAnswered);
    }

    async Task<ParallelSection> Http11Async(Tracker tracker, CancellationToken stop)
    {
        await using var stage = await FieldStage.StartAsync("http11", stop, new MockLlmOptions());
        var seen = await InBothAsync(stage, async (isPool, side) =>
        {
            var (calls, started) = (new List<FieldCall>(), Time.GetTimestamp());
            for (var i = 0; i < ManyCalls; i++)
            {
                var request = stage.CreateRequest(Whole, (IdHeader, $"{isPool}-{i}"), ("x-mock-fault", "downgrade"));
                (request.Version, request.VersionPolicy) = (HttpVersion.Version20, HttpVersionPolicy.RequestVersionOrLower);
                calls.Add(await CallAsync(side, request, null, Long, tracker, stop));
            }

            var refused = stage.Servers[0].GetRequests().Count(request => request.Protocol == "HTTP/2" && request.MockId!.StartsWith($"{isPool}-", StringComparison.Ordinal));
            return (Calls: calls, Refused: refused, Took: Time.GetElapsedTime(started), side.Connections);
        });
        return new ParallelSection(
            "3. HTTP/1.1 required",
            [
                "A server offers HTTP/2, but refuses every request over it with the error HTTP_1_1_REQUIRED. Over HTTP/1.1 it answers.",
                $"{ManyCalls} calls, one after another, ask for HTTP/2 and allow HTTP/1.1. Warmline sends the first one again over HTTP/1.1, and the others over HTTP/1.1 at once. .NET's handler hands the error to each caller.",
            ],
            [
                Figure("http11Answered", $"answered, of {ManyCalls}", seen.Select(way => way.Calls.Count(call => call.IsAnswered))),
                Figure("http11Refused", "refused by the server", seen.Select(way => way.Refused)),
                Figure("http11Took", "all took", seen.Select(way => way.Took)),
                Figure("http11Connections", "connections", seen.Select(way => way.Connections)),
            ],
            Said(".NET", seen[1].Calls[0].Error),
            seen[0].Calls.All(call => call.IsAnswered) && seen[0].Refused == 1);
    }

    async Task<ParallelSection> SlowUploadAsync(Tracker tracker, CancellationToken stop)
    {
        byte[] prompt = [.. """{"model":"gpt-4o-mini","messages":[{"role":"user","content":" """u8, .. Enumerable.Repeat((byte)'A', UploadBytes), .. "\"}]}"u8];
        await using var stage = await FieldStage.StartAsync("slow-upload", stop, new MockLlmOptions { Protocols = HttpProtocols.Http1 });
        var seen = await InBothAsync(
            stage,
            async (_, side) =>
            {
                var slow = CallAsync(side, stage.CreateRequest(prompt, (ReadRateHeader, $"{ReadBytesPerSecond}")), null, Long, tracker, stop);
                var stalled = CallAsync(side, stage.CreateRequest(prompt, (ReadRateHeader, "0")), null, Patience, tracker, stop);
                return (Slow: await slow, Stalled: await stalled, side.Connections);
            },
            pool => pool.Timeouts.Write = WriteSilence);
        return new ParallelSection(
            "4. A slow upload",
            [
                $"Two calls upload {Megabytes(UploadBytes)} each. The server reads the first at {Megabytes(ReadBytesPerSecond)} a second. It never reads the second.",
                $"Warmline ends an upload when no byte has moved for {Seconds(WriteSilence)} (`Timeouts.Write`, by default 10 s). As long as bytes move, it may take any time. .NET's handler has no such limit.",
            ],
            [
                Figure("slowUpload", "slow upload", seen.Select(way => way.Slow.Outcome)),
                Figure("slowUploadTook", "  after", seen.Select(way => way.Slow.Took)),
                Figure("stalledUpload", "stalled upload", seen.Select(way => Noticed(way.Stalled))),
                Figure("stalledUploadTook", "  after", seen.Select(way => way.Stalled.Took)),
                Figure("uploadConnections", "connections", seen.Select(way => way.Connections)),
            ],
            Said("Warmline", seen[0].Stalled.Error),
            seen[0].Slow.IsAnswered && seen[0].Stalled.Error is not null);
    }

    async Task<ParallelSection> OddTypeAsync(Tracker tracker, CancellationToken stop)
    {
        var odd = new Dictionary<string, string> { ["Content-Type"] = "application/octet-stream", ["Content-Encoding"] = "none" };
        await using var stage = await FieldStage.StartAsync("odd-type", stop, new MockLlmOptions
        {
            Protocols = HttpProtocols.Http1,
            OnRequest = request => request.MockId is null
                ? new() { Headers = odd, TokenGap = TimeSpan.FromMilliseconds(5) }
                : new() { Headers = odd, Fault = MockFault.Silence, FaultAfterTokens = TokensBefore, PingInterval = PingInterval },
        });
        var seen = await InBothAsync(
            stage,
            async (_, side) =>
            {
                var (calls, firstToken) = (new List<FieldCall>(), (TimeSpan?)null);
                for (var i = 0; i < ManyCalls; i++)
                {
                    calls.Add(await CallAsync(
                        side, stage.CreateRequest(Streamed),
                        async (response, either) =>
                        {
                            await ToTheLastEventAsync(response, either);
                            firstToken = response.TryGetPoolTimings(out var timings) ? timings.FirstToken : null;
                        },
                        Long, tracker, stop));
                }

                var connections = side.Connections;
                return (Calls: calls, Connections: connections, FirstToken: firstToken, Stalled: await CallAsync(side, stage.CreateRequest(Streamed, (IdHeader, "stalls")), null, Patience, tracker, stop));
            },
            pool => pool.Timeouts.Content = ContentSilence);
        return new ParallelSection(
            "5. An odd content type",
            [
                "A server sends its stream of events as `application/octet-stream`, with the encoding `none`. Some gateways do that.",
                $"{ManyCalls} readers, one after another, leave at the last event, as SDKs do. In one more stream only pings come after {TokensBefore} tokens. Warmline knows a stream by its bytes, so it still counts tokens and ends a stream that brings only pings for {Seconds(ContentSilence)} (`Timeouts.Content`, by default 600 s).",
            ],
            [
                Figure("oddTypeAnswered", $"read to the last event, of {ManyCalls}", seen.Select(way => way.Calls.Count(call => call.IsAnswered))),
                Figure("oddTypeConnections", "connections", seen.Select(way => way.Connections)),
                Figure("oddTypeFirstToken", "first token, last call", seen.Select(way => way.FirstToken), "not measured"),
                Figure("oddTypeStalled", "only pings", seen.Select(way => Noticed(way.Stalled))),
                Figure("oddTypeStalledTook", "  after", seen.Select(way => way.Stalled.Took)),
            ],
            Said("Warmline", seen[0].Stalled.Error),
            seen[0].Calls.All(call => call.IsAnswered) && seen[0].Connections <= ManyCalls / 2 && seen[0].FirstToken is not null && seen[0].Stalled.Error is not null);
    }

    async Task<(FieldCall First, FieldCall Next, int Connections)> TwoCallsAsync(FieldStage stage, FieldSide side, Tracker tracker, CancellationToken stop)
    {
        var first = await CallAsync(side, stage.CreateRequest(Whole), null, Long, tracker, stop);
        var next = await CallAsync(side, stage.CreateRequest(Whole), null, Long, tracker, stop);
        return (first, next, side.Connections);
    }

    static IReadOnlyList<ParallelFigure> TwoCalls(string key, (FieldCall First, FieldCall Next, int Connections)[] seen) =>
    [
        Figure(key + "First", "first call", seen.Select(way => way.First.Outcome)),
        Figure(key + "FirstTook", "  after", seen.Select(way => way.First.Took)),
        Figure(key + "Next", "next call", seen.Select(way => way.Next.Outcome)),
        Figure(key + "NextTook", "  after", seen.Select(way => way.Next.Took)),
        Figure(key + "Connections", "connections", seen.Select(way => way.Connections)),
    ];

    /// <summary>Of a call that should fail.</summary>
    static string Noticed(FieldCall call) => call.Error is null ? call.Outcome : "ended";

    static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.##} s");

    static string Megabytes(int bytes) => $"{bytes / 1_000_000} MB";
}
