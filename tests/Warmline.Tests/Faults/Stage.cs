using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Faults;

/// <summary>One play of a fault: a server with its scripts, and a caller, through a pool whose clock the stage turns or through .NET's own handler.</summary>
internal sealed class Stage : IAsyncDisposable
{
    public static readonly TimeSpan PoolLimit = TimeSpan.FromSeconds(10), ConnectLimit = TimeSpan.FromSeconds(5);

    static readonly TimeSpan Round = TimeSpan.FromMilliseconds(5), Turn = TimeSpan.FromSeconds(5.5), FirstTurn = TimeSpan.FromSeconds(1), DialTurn = TimeSpan.FromMilliseconds(250);

    /// <summary>Rounds without any movement after which the clock is turned; of .NET's own handler, whose clocks cannot be, after which it counts as hanging: 2 s.</summary>
    const int StillRounds = 8, HangingRounds = 400;

    /// <summary>Rounds after which something that moves all the time counts as hanging: 20 s at least.</summary>
    const int MostRounds = 4_000;

    /// <summary>The longest clock, and some turns more as a clock may begin late.</summary>
    static readonly TimeSpan MostTurned = TimeSpan.FromSeconds(100);

#pragma warning disable RS0030 // That nothing moves can only be seen by giving it time.
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    readonly List<Call> _calls = [];
    readonly HttpClient _client;
    readonly ConnectionPool? _pool;
    readonly SystemNetwork _network = new(new TcpKeepAliveOptions());
    int _connects;

    public Stage(bool isPool, bool http2, Fault fault)
    {
        (IsPool, Http2) = (isPool, http2);
        Server = new FaultServer(http2, Time, fault.OwnNetwork, number => fault.Script?.Invoke(number) ?? (number == 0 ? fault.First : fault.Rest)) { HeardAsync = HeardAsync, PollAsync = () => RoundsAsync(1) };
        Network.Connect = ConnectAsync;
        if (isPool)
        {
            var options = new ConnectionPoolOptions
            {
                SslOptions = FaultServer.Authority.Trust(),
                IdleTimeout = Timeout.InfiniteTimeSpan,
                ConnectionLifetime = Timeout.InfiniteTimeSpan,
                Http2 = { PingDelay = Timeout.InfiniteTimeSpan },   // the platform's own clock, which nobody turns
                Timeouts = { Pool = PoolLimit, Connect = ConnectLimit, Write = TimeSpan.FromSeconds(10), Read = TimeSpan.FromSeconds(30), FirstByte = TimeSpan.FromSeconds(60) },
            };
            fault.Options?.Invoke(options);
            _pool = new ConnectionPool(options, null, Time, Network);
        }

        _client = new HttpClient(_pool?.CreateHandler() ?? Bare(fault.OwnNetwork)) { Timeout = Timeout.InfiniteTimeSpan };
    }

    public bool IsPool { get; }

    public bool Http2 { get; }

    public ManualTime Time { get; } = new();

    public FaultServer Server { get; }

    /// <summary>The way to the server, for faults of DNS and TCP.</summary>
    public FakeNetwork Network { get; } = new();

    public IReadOnlyList<Call> Calls => _calls;

    /// <summary>What else the row saw; told behind the outcomes.</summary>
    public string? Note { get; set; }

    /// <summary>The row failed: what it leaves behind is not looked at.</summary>
    public bool IsBroken { get; set; }

    public PoolStats? Stats => _pool?.GetStats();

    public static CancellationToken Ct => TestContext.Current.CancellationToken;

    /// <summary>Calls that must be answered, and are not told.</summary>
    public async Task PrepareAsync(int calls = 1)
    {
        var all = Enumerable.Range(0, calls).Select(_ => Send(null, isTold: false)).ToArray();
        await EndAsync(all);
        Assert.All(all, call => Assert.True(call.IsWhole, $"The call that should prepare: {call.Outcome} {call.Error}"));
        await Eventually.TrueAsync(() => Stats is null or { Active: 0, Queued: 0 }, Describe);
        await Eventually.TrueAsync(() => !IsPool || !Http2 || Stats!.Origins[0].StreamLimit is not null, Describe);
    }

    public Task CallAsync(CallKind? kind = null) => EndAsync(Send(kind));

    public Task BurstAsync(int calls) => EndAsync([.. Enumerable.Range(0, calls).Select(_ => Send())]);

    /// <summary>Connections before the first call; .NET's own handler has no way to open any.</summary>
    public Task WarmUpAsync(int connections) => _pool?.WarmUpAsync(Server.Address, connections, Ct) ?? Task.CompletedTask;

    /// <summary>
    /// The platform's own clocks cannot be turned: a PING goes out in real time. When it has failed is the pool's to decide, so its clock
    /// is turned beside. The call
    /// has to end, or counts as hanging.
    /// </summary>
    public async Task EndByAsync(string clock, Call call)
    {
        for (var round = 0; !call.Task.IsCompleted && round < HangingRounds; round++)
        {
            Time.Advance(TimeSpan.FromMilliseconds(100));
            await RoundsAsync(1);
        }

        if (!call.Task.IsCompleted)
        {
            await GiveUpAsync([call]);
        }

        call.EndedBy = IsPool ? clock : null;
    }

    /// <summary>Starts a call.</summary>
    public Call Send(CallKind? kind = null, bool isTold = true)
    {
        var call = new Call(_calls.Count, isTold, kind ?? new CallKind());
        _calls.Add(call);
        call.Task = RunAsync(call);
        return call;
    }

    /// <summary>Lets the scripts go on that wait for the row, and waits until they have done it.</summary>
    public async Task CueAsync(string name = "go")
    {
        Server.Cue(name);
        await RoundsAsync(2);
        await PlayedAsync();
    }

    /// <summary>Nothing is sent for a while. What the client can notice in it, it does.</summary>
    public async Task IdleAsync(TimeSpan time)
    {
        await HeardAllAsync();
        for (var (left, step) = (time, time / 10 > FirstTurn ? time / 10 : FirstTurn); left > TimeSpan.Zero; left -= step)
        {
            Time.Advance(left < step ? left : step);
            await RoundsAsync(2);
        }

        for (var round = 0; round < 20 && IsPool && Server.Wires.Any(wire => wire is { State: WireState.Ended, IsLeft: false }); round++)
        {
            await RoundsAsync(1);
        }

        await RoundsAsync(4);
    }

    /// <summary>Every call of the row has ended, or nothing but a clock can end it: then the clock is turned.</summary>
    public async Task EndAsync(params Call[] calls)
    {
        for (int round = 0, still = 0; calls.Any(call => !call.Task.IsCompleted); round++)
        {
            Assert.True(round < MostRounds, $"Moves, but does not end: {Describe()}");
            await RoundsAsync(1);
            still = IsStill(calls) ? still + 1 : 0;
            if (!IsPool && still >= HangingRounds)
            {
                await GiveUpAsync(calls);
            }
            else if (IsPool && still >= StillRounds)
            {
                TurnFor(calls);
                still = 0;
            }
        }
    }

    /// <summary>The row ends calls that would go on.</summary>
    public static async Task LeaveAsync(params Call[] calls)
    {
        foreach (var call in calls)
        {
            call.Stopped = true;
            await call.Cancel.CancelAsync();
        }

        await Task.WhenAll(calls.Select(call => call.Task));
    }

    /// <summary>Whether it happens by itself: the pool is given all the time that a slow machine needs, what may never happen a moment.</summary>
    public async Task<bool> ComesAsync(Task what, int unhurried = 60)
    {
        for (var round = 0; !what.IsCompleted && round < (IsPool ? MostRounds : unhurried); round++)
        {
            await RoundsAsync(1);
        }

        return what.IsCompleted;
    }

    /// <summary>All scripts wait for something or are done.</summary>
    public Task PlayedAsync() => Eventually.TrueAsync(() => Server.Wires.All(wire => wire.State is not WireState.Plays), Describe);

    public async ValueTask DisposeAsync()
    {
        if (_pool is not null)
        {
            await Eventually.TrueAsync(() => IsBroken || Stats is { Active: 0, Queued: 0 }, Describe);   // nothing is left of a call that ended
            var closing = _pool.DisposeAsync().AsTask();
            for (var round = 0; !closing.IsCompleted; round++)
            {
                Assert.True(round < MostRounds, $"The pool does not close: {Describe()}");
                Time.Advance(FirstTurn);   // its farewell to a server that is silent has a clock, too
                await RoundsAsync(1);
            }

            await closing;
        }

        _client.Dispose();
        await Server.DisposeAsync();
    }

    static string Chain(Exception? error) => error is null ? "" : $"{error.GetType().Name} {error.Message}{(error.InnerException is { } inner ? $" <- {Chain(inner)}" : "")}";

    public string Describe() => $"{(IsPool ? "pool" : ".NET's handler")} over {(Http2 ? "HTTP/2" : "HTTP/1.1")}: {string.Join("; ", _calls.Select(call => $"{call.Id}: {(call.Task.IsCompleted ? call.Outcome : "runs")} {Chain(call.Error)}"))}\n"
        + $"log: {string.Join("; ", Server.Ledger.Copies)}\nconnections: {string.Join("; ", Server.Wires.Select(wire => $"{wire.Number} {wire.State}"))}\n{(Stats is null ? "" : Rig.Describe(Stats))}";

    async Task RunAsync(Call call)
    {
        try
        {
            using var request = new HttpRequestMessage(call.Kind.Method, new Uri(Server.Address, string.Create(CultureInfo.InvariantCulture, $"call/{call.Id}")))
            {
                Version = Http2 ? HttpVersion.Version20 : HttpVersion.Version11,
                VersionPolicy = Http2 ? HttpVersionPolicy.RequestVersionOrLower : HttpVersionPolicy.RequestVersionExact,
                Content = call.Kind.Content?.Invoke() ?? (call.Kind.Method == HttpMethod.Post ? Warmline.Tests.Support.Calls.Body(stream: true) : null),
            };
            using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, call.Cancel.Token);
            call.Status = (int)response.StatusCode;
            await using var body = await response.Content.ReadAsStreamAsync(call.Cancel.Token);
            var buffer = new byte[16 * 1024];
            for (int read; (read = await body.ReadAsync(buffer, call.Cancel.Token)) > 0;)
            {
                call.Text += Encoding.Latin1.GetString(buffer, 0, read);
                if (call.Kind.StopAt is { } mark && call.Text.Contains(mark, StringComparison.Ordinal))
                {
                    call.Stopped = true;
                    return;
                }
            }

            call.IsWhole = true;
        }
        catch (Exception) when (call.Stopped || call.Hangs)
        {
            // The test gave it up.
        }
        catch (Exception error)
        {
            call.WasAble = Server.Wires.Any(wire => wire.IsAble);
            call.Error = error;
        }
    }

    /// <summary>Nothing moves: each connection waits or is done, the client has heard all that was said.</summary>
    bool IsStill(Call[] calls) =>
        (!IsPool || Volatile.Read(ref _connects) == Server.Wires.Count)
        && Server.Wires.All(wire => wire.State is not WireState.Plays && (wire.IsHeard || wire.State is WireState.Ended || wire.IsDeaf))
        && calls.Where(call => !call.Task.IsCompleted).All(call => Server.Ledger.Of(call.Id) is not [.., var copy] || (HasHeard(call, copy) && (!IsPool || WaitsForClock(copy))))
        && (!IsPool || Server.Wires.Count(wire => wire is { State: WireState.Ended, IsOpen: false }) <= Stats!.FailedDials);

    /// <summary>What the server ended, refused or broke off is not a matter of clocks: the pool has to see it, and then at most waits before it dials again.</summary>
    bool WaitsForClock(Copy copy) => Stats is { Queued: > 0 } || (!copy.IsOver && Server.Wires.Any(wire => wire.Number == copy.Connection && wire.State is not WireState.Ended));

    static bool HasHeard(Call call, Copy copy) => call.Task.IsCompleted || (copy.SaidHead == call.Status is not null && call.Text.Length >= copy.Said.Length);

    void TurnFor(Call[] calls)
    {
        var running = calls.Where(call => !call.Task.IsCompleted).ToArray();
        var turn = Stats is { Queued: > 0 } ? DialTurn   // in small steps while dials may follow each other
            : running.All(call => call.Turned > TimeSpan.Zero) ? Turn : FirstTurn;
        foreach (var call in running)
        {
            call.Turned += turn;
            Assert.True(call.Turned <= MostTurned, $"No clock ends call {call.Id}: {Describe()}");
        }

        Time.Advance(turn);
    }

    async Task GiveUpAsync(Call[] calls)
    {
        var hanging = calls.Where(call => !call.Task.IsCompleted).ToArray();
        foreach (var call in hanging)
        {
            call.Hangs = true;
            await call.Cancel.CancelAsync();
        }

        await Task.WhenAll(hanging.Select(call => call.Task));
    }

    /// <summary>The caller has what the server said in answer to this.</summary>
    Task HeardAsync(Copy copy) => Eventually.TrueAsync(() => _calls.Single(call => call.Id == copy.Call) is var call && HasHeard(call, copy), Describe);

    Task HeardAllAsync() => Eventually.TrueAsync(() => Server.Wires.All(wire => !wire.IsOpen || wire.IsHeard || wire.State is WireState.Ended || wire.IsDeaf), Describe);

    async Task RoundsAsync(int rounds)
    {
        for (var round = 0; round < rounds; round++)
        {
            await Task.Delay(Round, Clock, Ct);
        }
    }

    async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _connects);
        return await _network.ConnectAsync(endPoint, cancellationToken);
    }

    SocketsHttpHandler Bare(bool ownNetwork)
    {
        var handler = new SocketsHttpHandler { SslOptions = FaultServer.Authority.Trust(), UseProxy = false };
        if (ownNetwork)
        {
            handler.ConnectCallback = async (context, ct) =>
            {
                SocketException? last = null;
                foreach (var address in await Network.ResolveAsync(context.DnsEndPoint.Host, ct))   // one after the other, as the platform does
                {
                    try
                    {
                        return await Network.ConnectAsync(new IPEndPoint(address, context.DnsEndPoint.Port), ct);
                    }
                    catch (SocketException error)
                    {
                        last = error;
                    }
                }

                throw last!;
            };
        }

        return handler;
    }
}
