using System.Buffers.Binary;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace Warmline.MockLlm.Tests;

readonly record struct RawFrame(int Type, int Flags, int Stream, byte[] Payload)
{
    public const int Data = 0, Headers = 1, Reset = 3, Ping = 6, GoAway = 7;

    public bool EndStream => Type is Data or Headers && (Flags & 1) != 0;

    /// <summary>The last stream of a GOAWAY, the code of a RST_STREAM.</summary>
    public int Number => BinaryPrimitives.ReadInt32BigEndian(Payload);
}

/// <summary>How the server's side of a connection ended.</summary>
public enum RawEnd
{
    Fin,
    Reset,
}

/// <summary>An HTTP/2 client that does what it is told, also what a good one would not do.</summary>
sealed class RawHttp2(SslStream tls) : IDisposable
{
    public static async Task<RawHttp2> ConnectAsync(MockLlmServer server)
    {
        var tls = await TlsAsync(server, SslApplicationProtocol.Http2);
        var client = new RawHttp2(tls);
        await tls.WriteAsync("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray());
        await client.SendAsync(4, 0, 0, []);
        while ((await client.ReadAsync()).Type != 4)
        {
        }

        await client.AcknowledgeAsync();
        return client;
    }

    public static async Task<SslStream> TlsAsync(MockLlmServer server, SslApplicationProtocol protocol)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, server.BaseAddress.Port);
        var tls = new SslStream(new NetworkStream(socket, ownsSocket: true));
        var options = server.CreateClientSslOptions();
        options.TargetHost = "localhost";
        options.ApplicationProtocols = [protocol];
        await tls.AuthenticateAsClientAsync(options);
        return tls;
    }

    public Task AcknowledgeAsync() => SendAsync(4, 1, 0, []);

    /// <summary>GET /v1/models, to be answered in ten minutes.</summary>
    public Task OpenAsync(int stream) => RequestAsync(stream, 0x82, "/v1/models", 0x5, ("x-mock-service-ms", "600000"));

    /// <summary>A streamed chat completion.</summary>
    public async Task PostAsync(int stream, params (string Name, string Value)[] headers)
    {
        await RequestAsync(stream, 0x83, "/v1/chat/completions", 0x4, headers);
        await SendAsync(RawFrame.Data, 1, stream, """{"model":"m","stream":true,"messages":[]}"""u8.ToArray());
    }

    Task RequestAsync(int stream, byte method, string path, byte flags, params (string Name, string Value)[] headers)
    {
        var block = new List<byte> { method, 0x87 }; // indexed: :method, :scheme https
        Literal(0x04, null, path);
        Literal(0x01, null, "localhost");
        foreach (var (name, value) in headers)
        {
            Literal(0x00, name, value);
        }

        return SendAsync(1, flags, stream, [.. block]);

        void Literal(byte index, string? name, string value)
        {
            block.Add(index);
            foreach (var text in name is null ? [value] : new[] { name, value })
            {
                block.Add((byte)text.Length);
                block.AddRange(Encoding.ASCII.GetBytes(text));
            }
        }
    }

    public Task PingAsync() => SendAsync(RawFrame.Ping, 0, 0, new byte[8]);

    /// <summary>The frames up to the one that is asked for, that one too; without the bookkeeping of flow control and SETTINGS.</summary>
    public async Task<List<RawFrame>> UntilAsync(Func<RawFrame, bool> last)
    {
        var frames = new List<RawFrame>();
        do
        {
            var frame = await ReadAsync();
            if (frame.Type is not 4 and not 8)
            {
                frames.Add(frame);
            }
        }
        while (frames.Count == 0 || !last(frames[^1]));
        return frames;
    }

    public async Task<(List<RawFrame> Frames, RawEnd End)> ToEndAsync()
    {
        var frames = new List<RawFrame>();
        try
        {
            while (true)
            {
                frames.Add((await UntilAsync(_ => true))[0]);
            }
        }
        catch (EndOfStreamException)
        {
            return (frames, RawEnd.Fin);
        }
        catch (IOException)
        {
            return (frames, RawEnd.Reset);
        }
    }

    public async Task ResetAsync(params int[] streams)
    {
        foreach (var stream in streams)
        {
            await SendAsync(3, 0, stream, [0, 0, 0, 8]);
        }
    }

    public async Task<(int Stream, int Code)> NextResetAsync()
    {
        while (true)
        {
            var frame = await ReadAsync();
            if (frame.Type == RawFrame.Reset)
            {
                return (frame.Stream, frame.Number);
            }
        }
    }

    async Task<RawFrame> ReadAsync()
    {
        var header = new byte[9];
        await tls.ReadExactlyAsync(header);
        var payload = new byte[(header[0] << 16) | (header[1] << 8) | header[2]];
        await tls.ReadExactlyAsync(payload);
        return new RawFrame(header[3], header[4], BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(5)), payload);
    }

    public void Dispose() => tls.Dispose();

    async Task SendAsync(byte type, byte flags, int stream, byte[] payload)
    {
        var frame = new byte[9 + payload.Length];
        frame[1] = (byte)(payload.Length >> 8);
        frame[2] = (byte)payload.Length;
        frame[3] = type;
        frame[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), stream);
        payload.CopyTo(frame, 9);
        await tls.WriteAsync(frame);
    }
}
