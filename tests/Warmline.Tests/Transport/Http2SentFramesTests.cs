using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

public sealed class Http2SentFramesTests
{
    static readonly byte[] Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray();
    static readonly byte[] Ping = Frame(6, 0, 0, [0, 0, 0, 0, 0, 0, 0, 1]), RoundTripPing = Frame(6, 0, 0, [255, 255, 255, 255, 255, 255, 255, 255]), Answer = Frame(6, 1, 0, new byte[8]);

    [Fact]
    public void Any_way_to_cut_the_bytes_gives_the_same_counts()
    {
        byte[] bytes = [.. Preface, .. Frame(4, 0, 0, new byte[6]), .. Frame(1, 4, 1, new byte[30]), .. Frame(0, 1, 1, new byte[1000]), .. Frame(1, 5, 3, new byte[20]), .. Frame(3, 0, 1, new byte[4]), .. Ping, .. Answer];
        for (var piece = 1; piece < 60; piece++)
        {
            var sent = new Http2SentFrames();
            for (var at = 0; at < bytes.Length; at += piece)
            {
                sent.Feed(bytes.AsSpan(at, Math.Min(piece, bytes.Length - at)));
            }

            Assert.Equal((2, 3, 1000, 1, 1, 1), (sent.Requests, sent.LastStreamId, sent.BodyBytes, sent.Resets, sent.Pings, sent.KeepAlives));
        }
    }

    [Fact]
    public void Pings_that_measure_the_round_trip_ask_for_no_sign_of_life()
    {
        var sent = new Http2SentFrames();
        sent.Feed([.. Preface, .. Ping, .. RoundTripPing]);
        Assert.Equal((2, 1), (sent.Pings, sent.KeepAlives));
    }

    [Fact]
    public void Pings_are_taken_out_and_everything_else_stays()
    {
        var sent = new Http2SentFrames();
        byte[] reset = Frame(3, 0, 1, new byte[4]), data = Frame(0, 0, 1, [.. Ping]);
        Assert.Null(sent.WithoutPings(Preface));
        sent.Feed(Preface);
        Assert.Null(sent.WithoutPings([.. reset, .. Answer, .. data]));
        Assert.Equal([], sent.WithoutPings(Ping)!);
        Assert.Equal([.. reset, .. Answer, .. data], sent.WithoutPings([.. reset, .. Ping, .. Answer, .. RoundTripPing, .. data])!);
        sent.Feed(data.AsSpan(0, 12));   // in the middle of a frame whose payload looks like a PING
        Assert.Null(sent.WithoutPings(data.AsSpan(12)));
    }

    static byte[] Frame(byte type, byte flags, byte stream, byte[] payload) =>
        [0, (byte)(payload.Length >> 8), (byte)payload.Length, type, flags, 0, 0, 0, stream, .. payload];
}
