using System.Collections.Concurrent;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Warmline.Tests.Support;

/// <summary>An HTTP proxy that a test scripts by request heads. It keeps each head, and passes tunnels on to one target.</summary>
internal sealed class ScriptedProxy : IAsyncDisposable
{
    public const string Open = "HTTP/1.1 200 OK\r\n\r\n";
    public const string Forbidden = "HTTP/1.1 403 Filtered\r\nContent-Length: 0\r\n\r\n";
    public const string Forwarded = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforwarded";

    readonly RawServer _server = new();
    readonly ConcurrentQueue<string> _heads = new();
    readonly List<Task> _plays = [];
    readonly Func<string, string> _answer;
    readonly int _target;
    readonly X509Certificate2? _certificate;
    readonly Task _accepting;
    int _accepted;

    /// <param name="answer">What to say to a head; empty ends the connection. <see cref="Open"/> to a CONNECT opens a tunnel.</param>
    /// <param name="target">The port that tunnels lead to, whatever was asked for.</param>
    /// <param name="certificate">The proxy's own, if it is spoken to over TLS.</param>
    public ScriptedProxy(Func<string, string> answer, int target = 0, X509Certificate2? certificate = null)
    {
        _answer = answer;
        _target = target;
        _certificate = certificate;
        _accepting = AcceptAsync();
    }

    public int Port => _server.Port;

    public Uri Address => new($"{(_certificate is null ? "http" : "https")}://localhost:{Port}");

    public IReadOnlyList<string> Heads => [.. _heads];

    /// <summary>Connections so far.</summary>
    public int Accepted => Volatile.Read(ref _accepted);

    /// <summary>The value of a header in a head; null without it.</summary>
    public static string? Header(string head, string name) =>
        head.Split("\r\n").FirstOrDefault(line => line.StartsWith(name + ": ", StringComparison.OrdinalIgnoreCase))?[(name.Length + 2)..];

    public async ValueTask DisposeAsync()
    {
        _server.Dispose();
        await _accepting;
        await Task.WhenAll(_plays).ContinueWith(static ended => ended.Exception, TaskScheduler.Default);
    }

    async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var stream = await _server.AcceptAsync();
                Interlocked.Increment(ref _accepted);
                _plays.Add(PlayAsync(stream));
            }
        }
        catch (Exception error) when (error is SocketException or OperationCanceledException or InvalidOperationException)
        {
            // The listener was closed.
        }
    }

    async Task PlayAsync(NetworkStream socket)
    {
        await using var plain = socket;
        Stream stream = plain;
        if (_certificate is not null)
        {
            var secured = new SslStream(plain);
            await secured.AuthenticateAsServerAsync(_certificate);
            stream = secured;
        }

        var one = new byte[1];
        while (true)
        {
            var head = new StringBuilder();
            while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
            {
                if (await stream.ReadAsync(one) == 0)
                {
                    return;
                }

                head.Append((char)one[0]);
            }

            var asked = head.ToString();
            _heads.Enqueue(asked);
            if (Header(asked, "Content-Length") is { } length)
            {
                await stream.ReadExactlyAsync(new byte[int.Parse(length, provider: null)]);
            }
            else if (Header(asked, "Transfer-Encoding") is not null)
            {
                await ReadChunksAsync(stream);
            }

            var answer = _answer(asked);
            if (answer.Length == 0)
            {
                return;
            }

            await stream.WriteAsync(Encoding.Latin1.GetBytes(answer));
            if (answer == Open)
            {
                await TunnelAsync(stream);
                return;
            }

            if (Header(answer, "Connection") == "close")
            {
                return;
            }
        }
    }

    static async Task ReadChunksAsync(Stream stream)
    {
        var tail = "";
        var one = new byte[1];
        while (!tail.EndsWith("0\r\n\r\n", StringComparison.Ordinal))
        {
            await stream.ReadExactlyAsync(one);
            tail = (tail + (char)one[0])[^Math.Min(8, tail.Length + 1)..];
        }
    }

    async Task TunnelAsync(Stream near)
    {
        using var client = new TcpClient { NoDelay = true };
        await client.ConnectAsync("127.0.0.1", _target);
        await using var far = client.GetStream();
        await Task.WhenAny(near.CopyToAsync(far), far.CopyToAsync(near));
    }
}
