using System.Globalization;
using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Support;

namespace Warmline.Tests.Http;

/// <summary>One connection of a server that says what a behaviour tells it, byte by byte.</summary>
internal sealed class RawHttp1(NetworkStream stream, int number)
{
    readonly byte[] _one = new byte[1];

    /// <summary>0 for the first connection that was accepted.</summary>
    public int Number => number;

    /// <summary>The request's head; empty when the client hung up.</summary>
    public async Task<string> ReadHeadAsync()
    {
        var head = new StringBuilder();
        while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            if (await stream.ReadAsync(_one, Side.Ct) == 0)
            {
                return "";
            }

            head.Append((char)_one[0]);
        }

        return head.ToString();
    }

    public Task SayAsync(string text) => stream.WriteAsync(Encoding.Latin1.GetBytes(text), Side.Ct).AsTask();

    public async Task<string> ReadAsync(int count)
    {
        var bytes = new byte[count];
        await stream.ReadExactlyAsync(bytes, Side.Ct);
        return Encoding.Latin1.GetString(bytes);
    }

    /// <summary>All that comes until the client closes or resets; its length, and whether it ends as a chunked body does.</summary>
    public async Task<(long Length, bool EndsChunked)> ReadToEndAsync()
    {
        var (total, tail, buffer) = (0L, "", new byte[64 * 1024]);
        try
        {
            for (int read; (read = await stream.ReadAsync(buffer, Side.Ct)) > 0; total += read)
            {
                tail = (tail + Encoding.Latin1.GetString(buffer, Math.Max(0, read - 8), Math.Min(8, read)))[^Math.Min(8, tail.Length + Math.Min(8, read))..];
            }
        }
        catch (IOException)
        {
            // A reset is an end, too.
        }

        return (total, tail.EndsWith("0\r\n\r\n", StringComparison.Ordinal));
    }

    /// <summary>Ends the connection hard.</summary>
    public void Reset()
    {
        stream.Socket.LingerState = new LingerOption(true, 0);
        stream.Close();
    }

    public static string Ok(string body, string headers = "") => string.Create(CultureInfo.InvariantCulture, $"HTTP/1.1 200 OK\r\n{headers}Content-Length: {body.Length}\r\n\r\n{body}");
}

/// <summary>Accepts connections and plays each.</summary>
internal sealed class RawHttp1Server : IAsyncDisposable
{
    readonly RawServer _server = new();
    readonly List<Task> _plays = [];
    readonly Task _accepting;

    public RawHttp1Server(Func<RawHttp1, Task> play) => _accepting = AcceptAsync(play);

    public int Port => _server.Port;

    public async ValueTask DisposeAsync()
    {
        _server.Dispose();
        await _accepting;
        await Task.WhenAll(_plays).ContinueWith(static ended => ended.Exception, TaskScheduler.Default);   // a play may end in the client's end
    }

    async Task AcceptAsync(Func<RawHttp1, Task> play)
    {
        try
        {
            for (var number = 0; ; number++)
            {
                _plays.Add(PlayAsync(await _server.AcceptAsync(), number));
            }
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException or OperationCanceledException or InvalidOperationException)
        {
            // The listener was closed.
        }

        async Task PlayAsync(NetworkStream stream, int number)
        {
            await using (stream)
            {
                await play(new RawHttp1(stream, number));
            }
        }
    }
}
