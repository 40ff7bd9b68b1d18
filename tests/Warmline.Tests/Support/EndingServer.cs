using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>An HTTP/1.1 server that answers every request and whose connections the test ends as it likes.</summary>
internal sealed class EndingServer : IAsyncDisposable
{
    readonly RawServer _server = new();
    readonly X509Certificate2? _certificate;
    readonly Lock _lock = new();
    readonly List<Connection> _connections = [];
    readonly List<Task> _plays = [];
    readonly Task _accepting;

    public EndingServer(X509Certificate2? certificate = null)
    {
        _certificate = certificate;
        _accepting = AcceptAsync();
    }

    public Uri Address => new($"{(_certificate is null ? "http" : "https")}://localhost:{_server.Port}");

    /// <summary>Header lines of every answer, each with its line end.</summary>
    public string Headers { get; set; } = "";

    /// <summary>An answer waits for this.</summary>
    public Task Gate { get; set; } = Task.CompletedTask;

    /// <summary>What follows each answer.</summary>
    public Action<Connection> AfterAnswer { get; set; } = _ => { };

    /// <summary>In the order in which they were accepted.</summary>
    public IReadOnlyList<Connection> Connections
    {
        get
        {
            lock (_lock)
            {
                return [.. _connections];
            }
        }
    }

    public int Open => Connections.Count(connection => !connection.HasEnded);

    public Task ConnectedAsync(int count) => Eventually.TrueAsync(() => Connections.Count == count, () => $"{Connections.Count} connections instead of {count}");

    public Task OpenAsync(int count) => Eventually.TrueAsync(() => Open == count, () => $"{Open} of {Connections.Count} connections open instead of {count}");

    public async ValueTask DisposeAsync()
    {
        _server.Dispose();
        await _accepting;
        foreach (var connection in Connections)
        {
            connection.Reset();
        }

        await Task.WhenAll(_plays);
    }

    async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var connection = new Connection(await _server.AcceptAsync());
                lock (_lock)
                {
                    _connections.Add(connection);
                    _plays.Add(Task.Run(() => PlayAsync(connection)));
                }
            }
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException or OperationCanceledException or InvalidOperationException)
        {
            // The listener was closed.
        }
    }

    async Task PlayAsync(Connection connection)
    {
        try
        {
            await connection.SecureAsync(_certificate);
            while (await connection.ReadRequestAsync())
            {
                await Gate;
                await connection.AnswerAsync(Headers);
                AfterAnswer(connection);
            }
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or SocketException)
        {
            // An end like any other.
        }
        finally
        {
            connection.HasEnded = true;
            connection.Close();   // a client that ends in good order waits for it
        }
    }

    internal sealed class Connection(NetworkStream wire)
    {
        readonly byte[] _buffer = new byte[4096];
        Stream _stream = wire;
        volatile bool _hasEnded;
        volatile int _requests;

        /// <summary>Whether either side has ended it.</summary>
        public bool HasEnded
        {
            get => _hasEnded;
            set => _hasEnded = value;
        }

        /// <summary>Requests that were read.</summary>
        public int Requests => _requests;

        /// <summary>Ends it in good order; what the client says later is not read.</summary>
        public void End()
        {
            if (_stream is SslStream tls)
            {
                tls.ShutdownAsync().GetAwaiter().GetResult();
            }

            wire.Socket.Shutdown(SocketShutdown.Send);
        }

        public void Close() => wire.Dispose();

        public void Reset()
        {
            try
            {
                wire.Socket.LingerState = new LingerOption(true, 0);
                wire.Socket.Close(0);   // a plain Dispose would say FIN first, to wake the read that is under way
            }
            catch (Exception error) when (error is ObjectDisposedException or SocketException)
            {
                // It ended before.
            }
        }

        public async Task SecureAsync(X509Certificate2? certificate)
        {
            if (certificate is not null)
            {
                var tls = new SslStream(wire);
                await tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificate = certificate });
                _stream = tls;
            }
        }

        public async Task<bool> ReadRequestAsync()
        {
            var text = "";
            while (true)
            {
                var count = await _stream.ReadAsync(_buffer);
                if (count == 0)
                {
                    return false;
                }

                text += Encoding.Latin1.GetString(_buffer, 0, count);
                var end = text.IndexOf("\r\n\r\n", StringComparison.Ordinal);
                if (end >= 0 && text.Length >= end + 4 + Length(text))
                {
                    _requests++;
                    return true;
                }
            }
        }

        public Task AnswerAsync(string headers) => _stream.WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\nok")).AsTask();

        static int Length(string head)
        {
            const string Name = "Content-Length: ";
            var at = head.IndexOf(Name, StringComparison.Ordinal);
            return at < 0 ? 0 : int.Parse(head.AsSpan(at + Name.Length, head.IndexOf('\r', at) - at - Name.Length), CultureInfo.InvariantCulture);
        }
    }
}
