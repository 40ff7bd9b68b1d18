using System.Buffers.Binary;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace Warmline.MockLlm.Tests;

/// <summary>An HTTP/2 client that does what it is told, also what a good one would not do. It opens requests that are never answered.</summary>
sealed class RawHttp2(SslStream tls) : IDisposable
{
    public static async Task<RawHttp2> ConnectAsync(MockLlmServer server)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, server.BaseAddress.Port);
        var tls = new SslStream(new NetworkStream(socket, ownsSocket: true));
        var options = server.CreateClientSslOptions();
        options.TargetHost = "localhost";
        options.ApplicationProtocols = [SslApplicationProtocol.Http2];
        await tls.AuthenticateAsClientAsync(options);
        var client = new RawHttp2(tls);
        await tls.WriteAsync("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8.ToArray());
        await client.SendAsync(4, 0, 0, []);
        while ((await client.ReadAsync()).Type != 4)
        {
        }

        await client.AcknowledgeAsync();
        return client;
    }

    public Task AcknowledgeAsync() => SendAsync(4, 1, 0, []);

    /// <summary>GET /v1/models, to be answered in ten minutes.</summary>
    public Task OpenAsync(int stream)
    {
        var block = new List<byte> { 0x82, 0x87 }; // indexed: :method GET, :scheme https
        Literal(0x04, null, "/v1/models");
        Literal(0x01, null, "localhost");
        Literal(0x00, "x-mock-service-ms", "600000");
        return SendAsync(1, 0x5, stream, [.. block]);

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
            var (type, stream, payload) = await ReadAsync();
            if (type == 3)
            {
                return (stream, BinaryPrimitives.ReadInt32BigEndian(payload));
            }
        }
    }

    async Task<(int Type, int Stream, byte[] Payload)> ReadAsync()
    {
        var header = new byte[9];
        await tls.ReadExactlyAsync(header);
        var payload = new byte[(header[0] << 16) | (header[1] << 8) | header[2]];
        await tls.ReadExactlyAsync(payload);
        return (header[3], BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(5)), payload);
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
