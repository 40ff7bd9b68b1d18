using System.Globalization;
using System.Text;
using Warmline.Options;
using Warmline.Providers;
using Warmline.Transport;

namespace Warmline.Bench;

/// <summary>What the library itself does for each event, and for each open stream at each tick of its one clock; no network in it.</summary>
sealed class Clocks(TimeProvider time, int streams, int rounds)
{
    const int Events = 200_000;

    public int Run()
    {
        Console.WriteLine($"{rounds} interleaved rounds; medians");
        var ways = new (string Name, byte[] Stream, int Events)[]
        {
            Repeat("OpenAI, 240 bytes an event", """data: {"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-mini","service_tier":"default","choices":[{"index":0,"delta":{"content":" connections"},"logprobs":null,"finish_reason":null}]}""" + "\n\n"),
            Repeat("Anthropic", "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" connections\"}}\n\n"),
            Repeat("OpenAI, 4 KB an event", "data: {\"id\":\"" + new string('x', 4_080) + "\"}\n\n"),
        };
        foreach (var (name, stream, events) in ways)
        {
            var (watched, walked) = (new List<double>(), new List<double>());
            for (var round = 0; round < rounds + 3; round++)
            {
                watched.Add(Watch(stream) / events);
                walked.Add(Walk(stream) / events);
            }

            var ns = Measure.Median(watched.Skip(3));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"  {name,-28} {ns,7:0.0} ns an event, {stream.Length / (double)events / ns,6:0.00} GB/s; only finding the line ends {Measure.Median(walked.Skip(3)),7:0.0} ns"));
        }

        Tick();
        return 0;
    }

    static (string Name, byte[] Stream, int Events) Repeat(string name, string text)
    {
        var events = text.Length > 1_000 ? Events / 20 : Events;
        var one = Encoding.UTF8.GetBytes(text);
        var stream = new byte[one.Length * events];
        for (var i = 0; i < events; i++)
        {
            one.CopyTo(stream, i * one.Length);
        }

        return (name, stream, events);
    }

    /// <summary>In reads of one event and a half, as tokens trickle in.</summary>
    double Watch(byte[] stream)
    {
        var watcher = new SseWatcher();
        var start = time.GetTimestamp();
        for (var at = 0; at < stream.Length; at += 384)
        {
            watcher.Feed(stream.AsSpan(at, Math.Min(384, stream.Length - at)));
        }

        return time.GetElapsedTime(start).TotalNanoseconds;
    }

    double Walk(byte[] stream)
    {
        var (start, ends) = (time.GetTimestamp(), 0);
        for (var rest = stream.AsSpan(); rest.IndexOfAny((byte)'\n', (byte)'\r') is >= 0 and var end; rest = rest[(end + 1)..])
        {
            ends++;
        }

        GC.KeepAlive(ends);
        return time.GetElapsedTime(start).TotalNanoseconds;
    }

    void Tick()
    {
        var byHand = new ByHand(time);
        using var clock = new CoarseClock(byHand, TimeSpan.FromMilliseconds(250));
        var open = new List<RequestClocks>();
        for (var i = 0; i < streams; i++)
        {
            var clocks = new RequestClocks(clock, CallTimeouts.Default);
            clocks.Start(TimeSpan.Zero);
            clocks.WatchContent();
            clocks.BeginRead();
            open.Add(clocks);
        }

        var ticks = new List<double>();
        for (var round = 0; round < 200; round++)
        {
            // What else runs between two ticks has the caches.
            GC.KeepAlive(new byte[8 * 1024 * 1024].Sum(b => b));
            var start = time.GetTimestamp();
            byHand.Fire();
            ticks.Add(time.GetElapsedTime(start).TotalMicroseconds);
        }

        var us = Measure.Median(ticks.Skip(20));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {streams} open streams: {us:0} us a tick, 4 ticks a second: {us * 4 / 1e6 * 100:0.000} % of a core"));
        GC.KeepAlive(open);
    }

    /// <summary>Timers fire when told to.</summary>
    sealed class ByHand(TimeProvider time) : TimeProvider
    {
        TimerCallback? _callback;
        object? _state;

        public override long TimestampFrequency => time.TimestampFrequency;

        public override long GetTimestamp() => time.GetTimestamp();

        public void Fire() => _callback!(_state);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            (_callback, _state) = (callback, state);
            return time.CreateTimer(static _ => { }, null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }
    }
}
