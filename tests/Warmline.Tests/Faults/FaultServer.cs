using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Warmline.Tests.Support;

namespace Warmline.Tests.Faults;

/// <summary>One thing that a server does on a connection.</summary>
internal delegate Task Step(Wire wire);

/// <summary>A server on loopback whose connections play scripts: TLS, HTTP/1.1 or HTTP/2. It keeps the log that proves what ran.</summary>
internal sealed class FaultServer : IAsyncDisposable
{
    public static readonly TestAuthority Authority = new();

    /// <summary>A name that is not the machine's own: those are looked up anew for each dial.</summary>
    public const string OtherName = "provider.test";

    static readonly X509Certificate2 Local = Authority.Issue(), Other = Authority.Issue(OtherName);

    readonly string _name;
    int _refusals;
    readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    readonly CancellationTokenSource _end = new();
    readonly ConcurrentQueue<Task> _running = new();
    readonly ConcurrentQueue<Wire> _wires = new();
    readonly ConcurrentDictionary<string, TaskCompletionSource<bool>> _cues = new();

    public FaultServer(bool http2, ManualTime time, bool otherName, Func<int, IReadOnlyList<Step>> script)
    {
        Time = time;
        Certificate = otherName ? Other : Local;
        _name = otherName ? OtherName : "localhost";
        _listener.Start();
        Run(AcceptAsync(http2, script));
    }

    /// <summary>The clock that its scripts share with the pool.</summary>
    public ManualTime Time { get; }

    public Ledger Ledger { get; } = new();

    public X509Certificate2 Certificate { get; }

    public Uri Address => new($"https://{_name}:{((IPEndPoint)_listener.LocalEndpoint).Port}/");

    public CancellationToken End => _end.Token;

    /// <summary>The connections accepted so far.</summary>
    public IReadOnlyCollection<Wire> Wires => _wires;

    /// <summary>What the first SETTINGS of each connection allow; 100 when null.</summary>
    public int? FirstStreamLimit { get; set; }

    /// <summary>Whether HTTP/2 connections give back at once the credit that request bodies use.</summary>
    public bool GrantsCredit { get; set; } = true;

    /// <summary>Resets after which an HTTP/2 connection is ended with ENHANCE_YOUR_CALM; never when null.</summary>
    public int? MostResets { get; set; }

    /// <summary>Calls that scripts may still refuse, each once; for ever when int.MaxValue.</summary>
    public int Refusals { get => _refusals; set => _refusals = value; }

    public bool TryRefuse(Copy copy) => _refusals == int.MaxValue || (Ledger.Of(copy.Call).Count == 1 && Interlocked.Decrement(ref _refusals) >= 0);

    /// <summary>The client's side of the play: a script may wait for it.</summary>
    public required Func<Copy, Task> HeardAsync { get; init; }

    /// <summary>A short while, for what nothing announces.</summary>
    public required Func<Task> PollAsync { get; init; }

    public void Cue(string name) => CueOf(name).TrySetResult(true);

    public Task<bool> CuedAsync(string name) => CueOf(name).Task;

    public void Run(Task task) => _running.Enqueue(task);

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        _listener.Dispose();
        foreach (var wire in _wires)
        {
            wire.Reset();
        }

        await Task.WhenAll(_running).ContinueWith(static ended => ended.Exception, TaskScheduler.Default);
        foreach (var wire in _wires)
        {
            wire.Dispose();
        }

        _end.Dispose();
    }

    TaskCompletionSource<bool> CueOf(string name) => _cues.GetOrAdd(name, static _ => new(TaskCreationOptions.RunContinuationsAsynchronously));

    async Task AcceptAsync(bool http2, Func<int, IReadOnlyList<Step>> script)
    {
        for (var number = 0; ; number++)
        {
            var socket = await _listener.AcceptSocketAsync(End);
            socket.NoDelay = true;
            Wire wire = http2 ? new Http2Wire(this, socket, number) : new Http1Wire(this, socket, number);
            _wires.Enqueue(wire);
            Run(wire.PlayAsync(script(number)));
        }
    }
}
