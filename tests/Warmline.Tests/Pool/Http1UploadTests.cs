using System.Net;
using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>On HTTP/1.1 what the peer's kernel acknowledges is progress, whenever a write returns.</summary>
public sealed class Http1UploadTests : UploadTestBase
{
    public static TheoryData<bool, string> SlowHttp1 => new() { { false, "bytes" }, { true, "bytes" }, { false, "one write" }, { false, "stream" }, { false, "pieces" }, { true, "multipart" } };

    [Theory(Timeout = Rig.Patience)]
    [MemberData(nameof(SlowHttp1))]
    public async Task Over_http1_a_body_that_the_server_takes_slowly_is_sent_whole(bool smallBuffer, string kind)
    {
        using var server = new SlowServer();
        await using var pool = server.NewPool(Time, smallBuffer ? 64 * 1024 : null, options => options.Timeouts.Write = Write);
        using var client = pool.CreateClient();

        var call = client.PostAsync(server.Address, Body(kind, smallBuffer ? 1 : 4), Rig.Ct);
        await server.AcceptAsync();
        while (!call.IsCompleted && !server.HasAll)
        {
            await server.TakeAsync();
            Time.Advance(Step);
        }

        using var response = await call;
        server.Dispose();   // or the pool would wait for its end
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("bytes")]
    [InlineData("pieces")]
    public async Task Over_http1_a_server_that_takes_nothing_ends_the_body_by_the_write_clock(string kind)
    {
        using var server = new SlowServer();
        await using var pool = server.NewPool(Time, 64 * 1024, options => options.Timeouts.Write = Write);
        using var client = pool.CreateClient();

        var call = client.PostAsync(server.Address, Body(kind, megabytes: 16), Rig.Ct);
        await server.AcceptAsync();

        Assert.Equal(StallPhase.Write, (await StallsAsync(call)).Phase);
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task While_the_kernel_still_sends_the_body_the_first_byte_clock_does_not_run_out()
    {
        using var server = new SlowServer();
        await using var pool = server.NewPool(Time, 4 * 1024 * 1024, options => (options.Timeouts.Write, options.Timeouts.FirstByte) = (Write, Write));
        using var client = pool.CreateClient();

        var call = client.PostAsync(server.Address, Body("bytes", megabytes: 1), Rig.Ct);   // into the kernel's buffer at once
        await server.AcceptAsync();
        await Eventually.TrueAsync(() => pool.GetStreams(10) is [{ Phase: StreamPhase.Waiting }]);
        var turned = TimeSpan.Zero;
        while (!call.IsCompleted && !server.HasAll)
        {
            await server.TakeAsync(32 * 1024);
            Time.Advance(Step);
            turned += Step;
        }

        using var response = await call;
        server.Dispose();   // or the pool would wait for its end
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.True(turned > 4 * Write, $"{turned}");
    }

    [Fact(Timeout = Rig.Patience)]
    public async Task When_the_kernel_has_sent_the_body_the_first_byte_clock_runs()
    {
        using var server = new SlowServer();
        await using var pool = server.NewPool(Time, null, options => options.Timeouts.FirstByte = Write);
        using var client = pool.CreateClient();

        var call = client.PostAsync(server.Address, Body("bytes", megabytes: 1), Rig.Ct);
        await server.AcceptAsync();
        while (!server.HasAll)
        {
            await server.TakeAsync(answers: false);
        }

        await Eventually.TrueAsync(() => pool.GetStreams(10) is [{ Phase: StreamPhase.Waiting }]);
        var stalled = await StallsAsync(call);
        Assert.Equal(StallPhase.FirstByte, stalled.Phase);
        Assert.InRange(stalled.Silence, Write, Write + Step + Step);
    }

    /// <summary>A plain HTTP/1.1 server that reads only when the test says so, through a small receive buffer.</summary>
    sealed class SlowServer : IDisposable
    {
        readonly TcpListener _listener = new(IPAddress.Loopback, 0) { Server = { ReceiveBufferSize = 64 * 1024 } };
        const int MaxSegment = 2;   // TCP_MAXSEG of <linux/tcp.h>

        readonly byte[] _buffer = new byte[64 * 1024];
        Socket? _socket;
        long _missing = long.MaxValue;
        bool _hasAnswered;

        /// <summary>Segments as on a real network: with loopback's of 64 KB the small window would open by timers of the kernel
        /// only.</summary>
        public SlowServer()
        {
            _listener.Server.SetRawSocketOption((int)SocketOptionLevel.Tcp, MaxSegment, BitConverter.GetBytes(1448));
            _listener.Start();
        }

        public Uri Address => new($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}/");

        public bool HasAll => _missing == 0;

        public ConnectionPool NewPool(TimeProvider time, int? sendBuffer, Action<ConnectionPoolOptions> configure)
        {
            var options = new ConnectionPoolOptions();
            configure(options);
            return new ConnectionPool(options, null, time, new SendBufferNetwork(sendBuffer));
        }

        public async Task AcceptAsync() => _socket = await _listener.AcceptSocketAsync(Rig.Ct);

        /// <summary>Takes one portion of the request, if one is there; answers when all has come.</summary>
        public async Task TakeAsync(int portion = 64 * 1024, bool answers = true)
        {
            await Eventually.TrueAsync(() => HasAll || _socket!.Available > 0);
            var left = portion;
            while (left > 0 && !HasAll && _socket!.Available > 0)
            {
                var count = await _socket.ReceiveAsync(_buffer.AsMemory(0, Math.Min(left, _buffer.Length)), Rig.Ct);
                left -= count;
                if (_missing == long.MaxValue)
                {
                    var head = Encoding.ASCII.GetString(_buffer, 0, count);
                    var end = head.IndexOf("\r\n\r\n", StringComparison.Ordinal) + 4;
                    var length = head.Split("\r\n").First(line => line.StartsWith("Content-Length: ", StringComparison.Ordinal))["Content-Length: ".Length..];
                    _missing = long.Parse(length) + end;
                }

                _missing -= count;
            }

            if (HasAll && answers && !_hasAnswered)
            {
                _hasAnswered = true;
                await _socket!.SendAsync("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"u8.ToArray(), Rig.Ct);
            }
        }

        public void Dispose()
        {
            _socket?.Dispose();
            _listener.Dispose();
        }
    }

    /// <summary>The machine's network, with a send buffer that the kernel does not grow.</summary>
    sealed class SendBufferNetwork(int? size) : INetwork
    {
        readonly SystemNetwork _system = new(new TcpKeepAliveOptions());

        public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => _system.ResolveAsync(host, cancellationToken);

        public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
        {
            var stream = await _system.ConnectAsync(endPoint, cancellationToken);
            if (size is { } bytes)
            {
                ((NetworkStream)stream).Socket.SendBufferSize = bytes;
            }

            return stream;
        }

        public WireState Look(Stream wire, TimeSpan rested) => _system.Look(wire, rested);

        public SendProgress? Progress(Stream wire) => _system.Progress(wire);
    }
}
