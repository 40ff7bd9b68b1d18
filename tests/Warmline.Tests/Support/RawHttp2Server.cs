using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>An HTTP/2 server whose every frame the test decides: for what no well-behaved server sends on request.</summary>
internal sealed class RawHttp2Server : IDisposable
{
    public const byte Data = 0, Headers = 1, Reset = 3, Settings = 4, Ping = 6, GoAway = 7, WindowUpdate = 8;

    readonly TestAuthority _authority;
    readonly X509Certificate2 _certificate;
    readonly RawServer _server = new();
    readonly ConcurrentQueue<Connection> _served = new();

    /// <param name="authority">Who signs its certificate, and is disposed with it; one of its own if null.</param>
    public RawHttp2Server(TestAuthority? authority = null)
    {
        _authority = authority ?? new TestAuthority();
        _certificate = _authority.Issue();
    }

    public Uri Address => new($"https://localhost:{_server.Port}");

    /// <summary>What it says in its SETTINGS: (identifier, value).</summary>
    public (byte Id, int Value)[] Says { get; init; } = [];

    /// <summary>The connections that were accepted, in their order.</summary>
    public IReadOnlyList<Connection> Served => [.. _served];

    public ConnectionPool NewPool(Action<ConnectionPoolOptions>? configure = null, TimeProvider? time = null, LogRecorder? logs = null, INetwork? network = null)
    {
        var options = new ConnectionPoolOptions { SslOptions = _authority.Trust() };
        configure?.Invoke(options);
        return new ConnectionPool(options, logs, time, network);
    }

    /// <summary>.NET's own handler, with HTTP/2 for every request.</summary>
    public HttpClient NewBare() => new(new SocketsHttpHandler { SslOptions = _authority.Trust() })
    {
        DefaultRequestVersion = System.Net.HttpVersion.Version20,
        DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        BaseAddress = Address,
    };

    /// <summary>Takes every connection, acknowledges SETTINGS and, unless told otherwise, PINGs, and gives each other frame to
    /// <paramref name="heard"/>. Ends with the server.</summary>
    public void Serve(Func<Connection, Frame, byte[], Task> heard, bool answersPings = true) => _ = ServeAllAsync(heard, answersPings);

    async Task ServeAllAsync(Func<Connection, Frame, byte[], Task> heard, bool answersPings)
    {
        try
        {
            while (true)
            {
                var connection = await AcceptAsync();
                _ = connection.ServeAsync(heard, answersPings);
            }
        }
        catch (Exception)
        {
            // The test is over.
        }
    }

    /// <summary>The connection that <paramref name="cause"/> makes the client open; accepted meanwhile.</summary>
    public async Task<Connection> AcceptAfterAsync(Action cause)
    {
        var accepting = AcceptAsync();
        cause();
        return await accepting;
    }

    public async Task<Connection> AcceptAsync()
    {
        var stream = await AcceptTlsAsync();
        await stream.ReadExactlyAsync(new byte[24], TestContext.Current.CancellationToken);   // the client's preface
        var connection = new Connection(stream);
        _served.Enqueue(connection);   // before the client can know of it
        await connection.WriteAsync(Settings, 0, 0, [.. Says.SelectMany(static said => (byte[])[0, said.Id, (byte)(said.Value >> 24), (byte)(said.Value >> 16), (byte)(said.Value >> 8), (byte)said.Value])]);
        return connection;
    }

    /// <summary>A client that offers HTTP/1.1 alone is turned away in the handshake.</summary>
    async Task<SslStream> AcceptTlsAsync()
    {
        while (true)
        {
            try
            {
                return await _server.AcceptTlsAsync(_certificate, SslApplicationProtocol.Http2);
            }
            catch (AuthenticationException)
            {
                // The next one may offer HTTP/2.
            }
        }
    }

    public void Dispose()
    {
        _server.Dispose();
        _certificate.Dispose();
        _authority.Dispose();
    }

    internal readonly record struct Frame(byte Type, byte Flags, int Stream)
    {
        public bool EndsStream => Type is Data or Headers && (Flags & 1) != 0;
    }

    internal sealed class Connection(SslStream stream) : IDisposable
    {
        readonly ConcurrentQueue<byte> _heard = new();
        readonly SemaphoreSlim _writing = new(1);
        long _bodyBytes;

        /// <summary>The types of all frames that came so far.</summary>
        public IReadOnlyCollection<byte> Heard => _heard;

        /// <summary>Bytes of request bodies that came so far.</summary>
        public long BodyBytes => Interlocked.Read(ref _bodyBytes);

        /// <summary>The payload of the client's GOAWAY, if it sent one.</summary>
        public byte[]? ClientGoAway { get; private set; }

        /// <summary>Completes when the client's end was read.</summary>
        public TaskCompletionSource Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public int Count(byte type) => _heard.Count(heard => heard == type);

        internal async Task ServeAsync(Func<Connection, Frame, byte[], Task> heard, bool answersPings)
        {
            try
            {
                while (true)
                {
                    var (frame, payload) = await ReadWithPayloadAsync();
                    if (frame is { Type: Settings, Flags: 0 })
                    {
                        await WriteAsync(Settings, 1, 0, []);
                        continue;
                    }

                    if (frame.Flags == 0 || frame.Type is not Ping)
                    {
                        _heard.Enqueue(frame.Type);
                    }

                    ClientGoAway = frame.Type is GoAway ? payload : ClientGoAway;
                    Interlocked.Add(ref _bodyBytes, frame.Type is Data ? payload.Length : 0);
                    if (frame is { Type: Ping, Flags: 0 } && answersPings)
                    {
                        await WriteAsync(Ping, 1, 0, payload);
                    }

                    await heard(this, frame, payload);
                }
            }
            catch (Exception)
            {
                Ended.TrySetResult();   // the client has gone, or the test is over
                stream.Dispose();
            }
        }

        /// <summary>Allows so many bytes more, on the connection and, where it is not 0, on the stream.</summary>
        public async Task CreditAsync(int streamId, int bytes)
        {
            var payload = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(payload, bytes);
            await WriteAsync(WindowUpdate, 0, 0, payload);
            if (streamId != 0)
            {
                await WriteAsync(WindowUpdate, 0, streamId, payload);
            }
        }

        public Task GoAwayAsync(int lastStreamId, int code, string text)
        {
            var payload = new byte[8 + text.Length];
            BinaryPrimitives.WriteInt32BigEndian(payload, lastStreamId);
            BinaryPrimitives.WriteInt32BigEndian(payload.AsSpan(4), code);
            Encoding.ASCII.GetBytes(text, payload.AsSpan(8));
            return WriteAsync(GoAway, 0, 0, payload);
        }

        /// <summary>Ends its own direction in good order, and reads on.</summary>
        public Task HangUpAsync() => stream.ShutdownAsync();

        public Task ResetAsync(int streamId, byte code) => WriteAsync(Reset, 0, streamId, [0, 0, 0, code]);

        /// <summary>A response with a body; the status is one of HPACK's static table.</summary>
        public async Task RespondAsync(int streamId, byte[] headers, string body, bool ended = true)
        {
            await WriteAsync(Headers, 4, streamId, headers);
            await WriteAsync(Data, (byte)(ended ? 1 : 0), streamId, Encoding.ASCII.GetBytes(body));
        }

        /// <summary>Reads on until a request has arrived whole, and answers what HTTP/2 wants answered on the way.</summary>
        public async Task<int> ReadRequestAsync()
        {
            while (true)
            {
                var frame = await ReadAsync();
                if (frame.EndsStream)
                {
                    return frame.Stream;
                }

                if (frame is { Type: Settings, Flags: 0 })
                {
                    await WriteAsync(Settings, 1, 0, []);
                }
            }
        }

        /// <summary>A request's body as far as the first window lets it come.</summary>
        public async Task<(int Stream, string Body)> ReadWindowAsync()
        {
            var (stream, body) = (0, new StringBuilder());
            while (body.Length < 65_535)
            {
                var (frame, payload) = await NextAsync();
                stream = frame.Type is Headers ? frame.Stream : stream;
                body.Append(frame.Type is Data ? Encoding.ASCII.GetString(payload) : "");
            }

            return (stream, body.ToString());
        }

        /// <summary>A request's body, or the rest of it, to its end.</summary>
        public async Task<(int Stream, string Body)> ReadBodyAsync()
        {
            var body = new StringBuilder();
            while (true)
            {
                var (frame, payload) = await NextAsync();
                body.Append(frame.Type is Data ? Encoding.ASCII.GetString(payload) : "");
                if (frame.EndsStream)
                {
                    return (frame.Stream, body.ToString());
                }
            }
        }

        async Task<(Frame Frame, byte[] Payload)> NextAsync()
        {
            var read = await ReadWithPayloadAsync();
            if (read.Frame is { Type: Settings, Flags: 0 })
            {
                await WriteAsync(Settings, 1, 0, []);
            }

            return read;
        }

        /// <summary>200 without a body, or with one that goes on.</summary>
        public Task AnswerAsync(int streamId, bool ended) => WriteAsync(Headers, (byte)(ended ? 5 : 4), streamId, [0x88]);   // :status 200 is entry 8 of the static table

        public Task EndAsync(int streamId) => WriteAsync(Data, 1, streamId, []);

        public Task RefuseAsync(int streamId) => WriteAsync(Reset, 0, streamId, [0, 0, 0, 7]);   // REFUSED_STREAM

        public Task GoAwayAsync(int lastStreamId)
        {
            var payload = new byte[8];
            BinaryPrimitives.WriteInt32BigEndian(payload, lastStreamId);
            return WriteAsync(GoAway, 0, 0, payload);
        }

        public async Task WriteAsync(byte type, byte flags, int streamId, byte[] payload)
        {
            var frame = new byte[9 + payload.Length];
            (frame[1], frame[2], frame[3], frame[4]) = ((byte)(payload.Length >> 8), (byte)payload.Length, type, flags);
            BinaryPrimitives.WriteInt32BigEndian(frame.AsSpan(5), streamId);
            payload.CopyTo(frame, 9);
            await _writing.WaitAsync(TestContext.Current.CancellationToken);
            try
            {
                await stream.WriteAsync(frame, TestContext.Current.CancellationToken);
            }
            finally
            {
                _writing.Release();
            }
        }

        public void Dispose() => stream.Dispose();

        public async Task<Frame> ReadAsync() => (await ReadWithPayloadAsync()).Frame;

        public async Task<(Frame Frame, byte[] Payload)> ReadWithPayloadAsync()
        {
            var header = new byte[9];
            await stream.ReadExactlyAsync(header, TestContext.Current.CancellationToken);
            var payload = new byte[(header[0] << 16) | (header[1] << 8) | header[2]];
            await stream.ReadExactlyAsync(payload, TestContext.Current.CancellationToken);
            return (new Frame(header[3], header[4], BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(5))), payload);
        }
    }
}
