using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading.Channels;

namespace Warmline.Tests.Faults;

/// <summary>What a server's connection is about; <see cref="Stage"/> turns a clock only when nothing moves any more.</summary>
internal enum WireState
{
    /// <summary>It does what its script says.</summary>
    Plays,

    /// <summary>It waits: for a request, or for the row's cue.</summary>
    Waits,

    /// <summary>It will say nothing more.</summary>
    Silent,

    /// <summary>It was ended by the server.</summary>
    Ended,
}

/// <summary>
/// One connection of a <see cref="FaultServer"/>, above TCP: reads requests all the time, as a server's network layer does, and says what the script tells it. What
/// arrived is not yet taken: a request counts as run when the script takes it.
/// </summary>
internal abstract partial class Wire(FaultServer server, Socket socket, int number) : IDisposable
{
    readonly Channel<Copy> _arrived = Channel.CreateUnbounded<Copy>();
    readonly SemaphoreSlim _writing = new(1);
    readonly List<Copy> _held = [];
    SslStream? _tls;

    public FaultServer Server => server;

    /// <summary>0 for the first that was accepted.</summary>
    public int Number => number;

    public WireState State { get; private set; }

    /// <summary>TLS, and on HTTP/2 the SETTINGS, are through.</summary>
    public bool IsOpen { get; private set; }

    /// <summary>It can take a request, as far as the server knows.</summary>
    public bool IsAble => IsOpen && State is not (WireState.Silent or WireState.Ended) && !IsGoing;

    /// <summary>The client has heard all that it was told about the connection.</summary>
    public virtual bool IsHeard => true;

    /// <summary>Nothing more comes from the client.</summary>
    public bool IsLeft { get; private set; }

    /// <summary>GOAWAY was said, or no stream is allowed.</summary>
    public bool IsGoing { get; protected set; }

    /// <summary>Nothing is read any more: a middlebox has forgotten the flow.</summary>
    public bool IsDeaf { get; private set; }

    /// <summary>The request that was taken last.</summary>
    public Copy Current { get; protected set; } = null!;

    /// <summary>Requests that were taken and are not answered yet.</summary>
    public IReadOnlyList<Copy> Held => _held;

    protected Stream Stream => _tls!;

    protected abstract SslApplicationProtocol Protocol { get; }

    public async Task PlayAsync(IReadOnlyList<Step> script)
    {
        try
        {
            foreach (var step in script)
            {
                await step(this);
            }

            while (State is WireState.Plays)
            {
                await Steps.Answer(this);
            }
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or SocketException or ChannelClosedException or OperationCanceledException or System.Security.Authentication.AuthenticationException)
        {
            State = WireState.Ended;   // the client went, or the row is over
        }
    }

    /// <summary>The TLS handshake only.</summary>
    public async Task OpenTlsAsync()
    {
        if (_tls is null)
        {
            _tls = new SslStream(new NetworkStream(socket, ownsSocket: false));
            await _tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificate = server.Certificate, ApplicationProtocols = [Protocol] }, server.End);
        }
    }

    /// <summary>Waits for the client's first bytes. For scripts that read nothing after it.</summary>
    public async Task HelloAsync()
    {
        if (_tls is not null)
        {
            await _tls.ReadExactlyAsync(new byte[1], server.End);   // they may have come with the end of the handshake, and be no longer in the socket
            return;
        }

        while (socket.Available == 0)
        {
            await server.PollAsync();
        }
    }

    public async Task OpenAsync()
    {
        if (!IsOpen)
        {
            await OpenTlsAsync();
            await GreetAsync();
            IsOpen = true;
            server.Run(ReadAllAsync());
        }
    }

    /// <summary>Waits until a request is there, and starts no work on it.</summary>
    public async Task ArriveAsync()
    {
        await OpenAsync();
        await WaitAsync(_arrived.Reader.WaitToReadAsync(server.End).AsTask());
    }

    /// <summary>The next request: its work begins. <paramref name="whole"/>: when its body has come, too.</summary>
    public async Task<Copy> TakeAsync(bool whole = true, bool runs = true)
    {
        await OpenAsync();
        Copy copy;
        do
        {
            copy = await WaitAsync(_arrived.Reader.ReadAsync(server.End).AsTask());
        }
        while (copy.Disowned);

        if (whole)
        {
            await WaitAsync(copy.Whole.ContinueWith(static ended => 0, TaskScheduler.Default));
        }

        copy.Ran = runs;
        _held.Add(copy);
        return Current = copy;
    }

    /// <summary>Waits for a request or something else, and takes nothing.</summary>
    public async Task WaitForRequestOrAsync(Task other)
    {
        State = WireState.Waits;
        await Task.WhenAny(_arrived.Reader.WaitToReadAsync(server.End).AsTask(), other);
        State = WireState.Plays;
    }

    public bool HasRequest => _arrived.Reader.Count > 0;

    /// <summary>The state in which it stands while it waits for the client or the row.</summary>
    public async Task<T> WaitAsync<T>(Task<T> what)
    {
        State = WireState.Waits;
        var result = await what.WaitAsync(server.End);
        State = WireState.Plays;
        return result;
    }

    /// <summary>Whether the row names the answer's type; it is a stream of events otherwise.</summary>
    protected static bool HasType(string headers) => headers.StartsWith("Content-Type:", StringComparison.OrdinalIgnoreCase);

    public abstract Task HeadAsync(Copy copy, int status = 200, long? length = null, string headers = "");

    public abstract Task PartAsync(Copy copy, string text);

    public abstract Task EndAsync(Copy copy);

    public void Answered(Copy copy)
    {
        copy.IsOver = true;
        _held.Remove(copy);
    }

    /// <summary>close_notify and FIN; what comes after is still read.</summary>
    public async Task FinAsync(bool notify = true)
    {
        State = WireState.Ended;
        if (notify && _tls is not null)
        {
            await LockedAsync(() => new ValueTask(_tls.ShutdownAsync()));
        }

        socket.Shutdown(SocketShutdown.Send);
    }

    public void Reset()
    {
        State = WireState.Ended;
        try
        {
            socket.LingerState = new LingerOption(true, 0);
            socket.Close();
        }
        catch (ObjectDisposedException)
        {
            // The client's end was read at the same time, and both ends are over.
        }
    }

    /// <summary>Says nothing more. What arrives is read on, unless a middlebox swallows it.</summary>
    public async Task KeepSilentAsync(bool deaf)
    {
        IsDeaf = deaf;
        State = WireState.Silent;
        await Task.Delay(Timeout.InfiniteTimeSpan, server.Time, server.End);
    }

    public Task RawAsync(byte[] bytes) => _tls is null ? socket.SendAsync(bytes, server.End).AsTask() : LockedAsync(() => _tls.WriteAsync(bytes, server.End));

    public void Dispose()
    {
        Reset();
        _tls?.Dispose();
        _writing.Dispose();
        GC.SuppressFinalize(this);
    }

    protected abstract Task GreetAsync();

    protected abstract Task ReadRequestsAsync();

    protected Copy Arrived(string head, int stream)
    {
        var match = CallPath().Match(head);
        var copy = server.Ledger.Add(new Copy(match.Success ? int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture) : -1, number, stream));
        _arrived.Writer.TryWrite(copy);
        return copy;
    }

    protected Task WriteAsync(string text) => RawAsync(Encoding.Latin1.GetBytes(text));

    async Task ReadAllAsync()
    {
        try
        {
            await ReadRequestsAsync();
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException or OperationCanceledException)
        {
            // The client went in its way, or the row is over.
        }

        IsLeft = true;
        _arrived.Writer.TryComplete();
        foreach (var copy in server.Ledger.Copies.Where(copy => copy.Connection == number))
        {
            copy.NoteLeft();
        }

        State = WireState.Ended;
        socket.Close();   // both ends are over
    }

    async Task LockedAsync(Func<ValueTask> write)
    {
        await _writing.WaitAsync(server.End);
        try
        {
            await write();
        }
        finally
        {
            _writing.Release();
        }
    }

    [GeneratedRegex(@"/call/(\d+)")]
    private static partial Regex CallPath();
}
