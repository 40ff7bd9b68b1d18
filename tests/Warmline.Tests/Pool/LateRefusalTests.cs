using System.Net;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>A server that asks for HTTP/1.1 when it may have processed calls already: none of these is sent again.</summary>
public sealed class LateRefusalTests
{
    const int Headers = 1;
    const byte EndOfHeaders = 4;

    static readonly byte[] EarlyHints = [0x08, 3, (byte)'1', (byte)'0', (byte)'3'];   // :status by its name in the static table

    static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory(Timeout = Rig.Patience)]
    [InlineData(int.MaxValue, 13)]
    [InlineData(int.MaxValue, 12)]
    [InlineData(3, 13)]
    [InlineData(101, 12)]
    public async Task After_a_GOAWAY_that_includes_the_call(int last, int code)
    {
        var calls = 0;
        await using var server = new TwoProtocolServer();
        server.OnFrame = async (connection, frame) =>
        {
            if (frame.EndsStream && Interlocked.Increment(ref calls) == 1)
            {
                await connection.AnswerAsync(frame.Stream, ended: true);
            }
            else if (frame.EndsStream)
            {
                await connection.GoAwayAsync(last, code, "");
                await connection.HangUpAsync();
            }
        };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();
        using var first = await client.SendAsync(server.Post(), Ct);

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(server.Post(), Ct));

        Assert.Equal((RequestVerdict.Unknown, 0), (error.Verdict, server.Http1Requests.Count));
        using var next = await client.SendAsync(server.Post(), Ct);
        Assert.Equal((HttpStatusCode.OK, HttpVersion.Version11), (next.StatusCode, next.Version));
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task After_an_interim_response(bool byGoAway)
    {
        await using var server = new TwoProtocolServer();
        server.OnFrame = async (connection, frame) =>
        {
            if (frame.EndsStream)
            {
                await connection.WriteAsync(Headers, EndOfHeaders, frame.Stream, EarlyHints);
                await (byGoAway ? connection.GoAwayAsync(frame.Stream, 13, "") : connection.ResetAsync(frame.Stream, 13));
                await connection.HangUpAsync();
            }
        };
        await using var pool = server.NewPool();
        using var client = pool.CreateClient();

        var error = await Assert.ThrowsAsync<PoolRequestException>(() => client.SendAsync(server.Post(), Ct));

        Assert.Equal((RequestVerdict.Unknown, 0), (error.Verdict, server.Http1Requests.Count));
    }
}
