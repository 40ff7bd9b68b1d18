using System.Buffers.Binary;
using Warmline.Transport;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Transport;

public sealed class Http2FrameWatcherTests
{
    const byte Data = 0;
    const byte Headers = 1;
    const byte SettingsType = 4;
    const byte Ping = 6;
    const byte GoAwayType = 7;
    const byte WindowUpdate = 8;

    readonly Http2FrameWatcher _watcher = new();

    [Fact]
    public void The_first_settings_without_a_limit_mean_none()
    {
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings((4, 65535), (5, 16384))));
        Assert.Equal(int.MaxValue, _watcher.MaxConcurrentStreams);
    }

    [Fact]
    public void Empty_first_settings_are_news_and_empty_later_ones_are_not()
    {
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings()));
        Assert.Equal(Http2News.None, _watcher.Feed(Settings()));
    }

    [Fact]
    public void A_later_settings_frame_changes_the_limit_only_when_it_names_it()
    {
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings((1, 4096), (3, 128), (4, 65535))));
        Assert.Equal(128, _watcher.MaxConcurrentStreams);
        Assert.Equal(Http2News.None, _watcher.Feed(Settings((4, 1_000_000))));
        Assert.Equal(128, _watcher.MaxConcurrentStreams);
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings((3, 0))));
        Assert.Equal(0, _watcher.MaxConcurrentStreams);
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings((3, uint.MaxValue))));
        Assert.Equal(int.MaxValue, _watcher.MaxConcurrentStreams);
    }

    [Fact]
    public void An_acknowledgement_is_not_the_first_settings()
    {
        Assert.Equal(Http2News.None, _watcher.Feed(Frame(SettingsType, flags: 1, [])));
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings((3, 7))));
        Assert.Equal(7, _watcher.MaxConcurrentStreams);
    }

    [Fact]
    public void Goaway_tells_the_last_stream_and_the_code_and_its_debug_data_is_skipped()
    {
        byte[] debug = Settings((3, 1));   // looks like a frame, and is none
        Assert.Equal(Http2News.GoAway | Http2News.GoAwayEnd, _watcher.Feed(GoAway(5, 11, debug)));
        Assert.Equal((5, 11u), (_watcher.LastStreamId, _watcher.GoAwayCode));
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings((3, 9))));
        Assert.Equal(9, _watcher.MaxConcurrentStreams);
        Assert.Equal(Http2News.GoAway | Http2News.GoAwayEnd, _watcher.Feed(GoAway(3, 0, [])));
        Assert.Equal(3, _watcher.LastStreamId);
    }

    /// <summary>RFC 9113, sections 6.8 and 6.10: such a GOAWAY is an error, and proves nothing of any stream.</summary>
    [Fact]
    public void Goaway_on_a_stream_or_within_headers_is_none()
    {
        byte[] goAway = GoAway(0, 0, []);
        byte[] onStream = [.. goAway];
        onStream[8] = 1;
        Assert.Equal(Http2News.None, _watcher.Feed(onStream));
        _watcher.Feed(Frame(Headers, 0, [0x88]));   // without END_HEADERS
        Assert.Equal(Http2News.None, _watcher.Feed(goAway));
        Assert.Equal(int.MaxValue, _watcher.LastStreamId);
    }

    [Fact]
    public void Payloads_that_look_like_frames_are_skipped()
    {
        byte[] bait = [.. Settings((3, 1)), .. GoAway(1, 1, [])];
        Assert.Equal(Http2News.None, _watcher.Feed([.. Frame(Data, 0, bait), .. Frame(Headers, 4, bait), .. Frame(Ping, 0, [0, 0, 0, 0, 0, 4, 0, 0])]));
    }

    [Fact]
    public void Frames_that_break_the_protocol_do_not_lose_the_place_in_the_stream()
    {
        byte[] broken = [.. Frame(SettingsType, 0, new byte[7]), .. Frame(GoAwayType, 0, new byte[3]), .. Frame(Data, 0, [])];
        Assert.Equal(Http2News.None, _watcher.Feed(broken));
        Assert.Equal(Http2News.Settings, _watcher.Feed(Settings((3, 42))));
        Assert.Equal(42, _watcher.MaxConcurrentStreams);
    }

    [Fact]
    public void What_the_server_takes_is_read_from_its_start()
    {
        Assert.Equal((65_535, 16_384, 65_535L), (_watcher.InitialWindowSize, _watcher.MaxFrameSize, _watcher.ConnectionWindow));
        byte[] ofAStream = Frame(WindowUpdate, 0, [0, 0, 1, 0]);
        ofAStream[8] = 1;
        foreach (var next in (byte[])[.. Settings((4, 131_072), (5, 32_768)), .. Frame(WindowUpdate, 0, [0, 1, 0, 0]), .. Frame(WindowUpdate, 0, [0x80, 0, 0, 1]), .. ofAStream])
        {
            _watcher.Feed([next]);
        }

        Assert.Equal((131_072, 32_768, 65_535L + 65_536 + 1), (_watcher.InitialWindowSize, _watcher.MaxFrameSize, _watcher.ConnectionWindow));

        // From the first answer on such frames give back what uploads used.
        _watcher.Feed([.. Frame(Headers, 4, []), .. Frame(WindowUpdate, 0, [0, 1, 0, 0]), .. Settings((3, 5))]);
        Assert.Equal((131_072L, 5), (_watcher.ConnectionWindow, _watcher.MaxConcurrentStreams));
    }

    [Fact]
    public void Any_way_to_cut_the_bytes_gives_the_same_news()
    {
        var (seed, rounds) = Seeds.Of(4711, 2000);
        var random = new Random(seed);
        for (int round = 0; round < rounds; round++)
        {
            (byte[] bytes, List<string> expected) = RandomFrames(random);
            var watcher = new Http2FrameWatcher();
            List<string> seen = [];
            for (int at = 0; at < bytes.Length; at++)   // byte by byte, every piece of news shows
            {
                Record(watcher, watcher.Feed(bytes.AsSpan(at, 1)), seen);
            }

            Assert.Equal(expected, seen);
            AssertSameInPieces(bytes, expected, random, seed);
        }
    }

    [Fact]
    public void Reading_along_allocates_nothing()
    {
        byte[] bytes = [.. Settings((3, 100)), .. Frame(Data, 0, new byte[5000]), .. GoAway(1, 0, new byte[9])];
        _watcher.Feed(bytes);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            _watcher.Feed(bytes.AsSpan(0, 13));
            _watcher.Feed(bytes.AsSpan(13));
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    static void AssertSameInPieces(byte[] bytes, List<string> expected, Random random, int seed)
    {
        var watcher = new Http2FrameWatcher();
        var news = Http2News.None;
        for (int at = 0; at < bytes.Length;)
        {
            int length = Math.Min(bytes.Length - at, random.Next(1, random.Next(2) == 0 ? 12 : 3000));
            news |= watcher.Feed(bytes.AsSpan(at, length));
            at += length;
        }

        Assert.True(news.HasFlag(Http2News.Settings) == expected.Exists(e => e.StartsWith('S')), $"seed {seed}");
        Assert.True(news.HasFlag(Http2News.GoAway) == expected.Exists(e => e.StartsWith('G')), $"seed {seed}");
        string? lastLimit = expected.FindLast(e => e.StartsWith('S'));
        string? lastGoAway = expected.FindLast(e => e.StartsWith('G'));
        Assert.Equal(lastLimit ?? $"S {int.MaxValue}", $"S {watcher.MaxConcurrentStreams}");
        Assert.Equal(lastGoAway ?? $"G {int.MaxValue} 0", $"G {watcher.LastStreamId} {watcher.GoAwayCode}");
    }

    static void Record(Http2FrameWatcher watcher, Http2News news, List<string> seen)
    {
        if (news.HasFlag(Http2News.Settings))
        {
            seen.Add($"S {watcher.MaxConcurrentStreams}");
        }
        else if (news.HasFlag(Http2News.GoAway))
        {
            seen.Add($"G {watcher.LastStreamId} {watcher.GoAwayCode}");
        }
    }

    static (byte[] Bytes, List<string> Expected) RandomFrames(Random random)
    {
        List<byte> bytes = [];
        List<string> expected = [];
        int limit = int.MaxValue;
        int lowest = int.MaxValue;   // a later GOAWAY cannot raise it
        bool sawSettings = false;
        for (int i = random.Next(1, 12); i > 0; i--)
        {
            switch (random.Next(5))
            {
                case 0:
                    var settings = new (ushort Id, uint Value)[random.Next(5)];
                    bool names = false;
                    for (int s = 0; s < settings.Length; s++)
                    {
                        settings[s] = ((ushort)random.Next(1, 7), (uint)random.Next());
                        if (settings[s].Id == 3)
                        {
                            names = true;
                            limit = (int)settings[s].Value;
                        }
                    }

                    bytes.AddRange(Settings(settings));
                    if (names || !sawSettings)
                    {
                        expected.Add($"S {limit}");
                    }

                    sawSettings = true;
                    break;
                case 1:
                    int last = random.Next();
                    uint code = (uint)random.Next(14);
                    byte[] debug = new byte[random.Next(40)];
                    random.NextBytes(debug);
                    bytes.AddRange(GoAway(last, code, debug));
                    lowest = Math.Min(lowest, last);
                    expected.Add($"G {lowest} {code}");
                    break;
                case 2:
                    bytes.AddRange(Frame(SettingsType, 1, []));
                    break;
                default:
                    byte[] payload = new byte[random.Next(3) == 0 ? 0 : random.Next(2000)];
                    random.NextBytes(payload);
                    bytes.AddRange(Frame((byte)(random.Next(2) == 0 ? Data : random.Next(8, 200)), (byte)random.Next(256), payload));
                    break;
            }
        }

        return ([.. bytes], expected);
    }

    static byte[] Settings(params (ushort Id, uint Value)[] settings)
    {
        byte[] payload = new byte[settings.Length * 6];
        for (int i = 0; i < settings.Length; i++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(payload.AsSpan(i * 6), settings[i].Id);
            BinaryPrimitives.WriteUInt32BigEndian(payload.AsSpan((i * 6) + 2), settings[i].Value);
        }

        return Frame(SettingsType, 0, payload);
    }

    static byte[] GoAway(int lastStream, uint code, byte[] debug)
    {
        byte[] payload = new byte[8 + debug.Length];
        BinaryPrimitives.WriteInt32BigEndian(payload, lastStream);
        BinaryPrimitives.WriteUInt32BigEndian(payload.AsSpan(4), code);
        debug.CopyTo(payload, 8);
        return Frame(GoAwayType, 0, payload);
    }

    static byte[] Frame(byte type, byte flags, byte[] payload)
    {
        byte[] frame = new byte[9 + payload.Length];
        frame[0] = (byte)(payload.Length >> 16);
        frame[1] = (byte)(payload.Length >> 8);
        frame[2] = (byte)payload.Length;
        frame[3] = type;
        frame[4] = flags;
        payload.CopyTo(frame, 9);
        return frame;
    }
}
