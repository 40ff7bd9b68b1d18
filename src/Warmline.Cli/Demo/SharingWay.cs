using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Http.Headers;

namespace Warmline.Cli.Demo;

/// <summary>
/// One way to share places among lanes or tenants, which are groups here, at a server of its own. HTTP/1.1, so that a place is a connection
/// for everybody.
/// </summary>
internal abstract class SharingWay(SimulatedEndpoint endpoint, int groups, TimeProvider time) : IAsyncDisposable
{
    /// <summary>Tokens of a streamed answer; its time is spread over them.</summary>
    const int StreamTokens = 10;

    static readonly MediaTypeHeaderValue Json = new("application/json");
    static readonly byte[] Streamed = """{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Say hello."}]}"""u8.ToArray();
    static readonly byte[] Whole = """{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say hello."}]}"""u8.ToArray();

    readonly ConcurrentDictionary<string, (int Group, DateTimeOffset Asked, TimeSpan? Queue)> _calls = new(StringComparer.Ordinal);
    readonly int[] _waiting = new int[groups];
    readonly int[] _held = new int[groups];
    int _ids;
    int _failures;

    public int Failures => Volatile.Read(ref _failures);

    public long Sockets => endpoint.Server.GetCounters().PeakConnections;

    /// <summary>Calls of a group that have their answer's headers and not yet its end.</summary>
    public int Held(int group) => Volatile.Read(ref _held[group]);

    /// <summary>Calls of a group whose headers are to come.</summary>
    public int Waiting(int group) => Volatile.Read(ref _waiting[group]);

    /// <summary>.NET's own handler: one client for all, so many connections.</summary>
    public static SharingWay Platform(SimulatedEndpoint endpoint, int groups, int connections, TimeProvider time) =>
        new ByHand(endpoint, groups, [.. Enumerable.Repeat(Handler(new PlainDialer(endpoint, time), connections), 1)], _ => 0, null, null, time);

    /// <summary>
    /// What people make of it: a client for each group with so many connections, and places that all share, if there are.
    /// </summary>
    public static SharingWay PoolPerGroup(SimulatedEndpoint endpoint, IReadOnlyList<int> connections, int? inAll, TimeProvider time)
    {
        var dialer = new PlainDialer(endpoint, time);
        return new ByHand(
            endpoint, connections.Count, [.. connections.Select(each => Handler(dialer, each))], group => group,
            inAll is null ? null : [.. connections.Select(each => new SemaphoreSlim(each))], inAll is { } all ? new SemaphoreSlim(all) : null, time);
    }

    /// <summary>One pool. Each group's client says whose its calls are.</summary>
    public static SharingWay Pool(SimulatedEndpoint endpoint, int connections, Action<ConnectionPoolOptions> configure, IReadOnlyList<PoolRequestOptions> groups, TimeProvider time)
    {
        var options = new ConnectionPoolOptions
        {
            SslOptions = endpoint.CreateSslOptions(), UseProxy = false, MaxConnections = connections, MaxIdleConnections = connections, Http2 = new Http2Options { Mode = Http2Mode.Disabled },
        };
        options.Timeouts.Pool = Timeout.InfiniteTimeSpan;   // a backlog is meant to wait here, as it does in the other ways
        configure(options);
        return new Pooled(endpoint, new ConnectionPool(options, null, time, endpoint.Network), groups, time);
    }

    /// <summary>
    /// Opens the connections that the groups may have, so that no figure holds a handshake: so many calls of each group at once, none of
    /// which ends before all have begun.
    /// </summary>
    public async Task OpenAsync(IReadOnlyList<int> each, TimeSpan roundTrip, CancellationToken stop)
    {
        await Task.WhenAll(each.SelectMany((calls, group) => Enumerable.Range(0, calls).Select(_ => CallAsync(group, TimeSpan.FromMilliseconds(400) + (4 * roundTrip), false, null, stop))));
        _calls.Clear();
        endpoint.Server.ResetCounters();
    }

    /// <summary>One call that keeps its place for so long, and a round trip.</summary>
    public async Task CallAsync(int group, TimeSpan hold, bool stream, Tracker? tracker, CancellationToken stop)
    {
        var id = Interlocked.Increment(ref _ids).ToString(CultureInfo.InvariantCulture);
        var asked = time.GetUtcNow();
        var counts = _waiting;
        Interlocked.Increment(ref counts[group]);
        try
        {
            await EnterAsync(group, stop);
            try
            {
                using var request = CreateRequest(id, hold, stream);
                using var response = await ClientOf(group).SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stop);
                Interlocked.Decrement(ref counts[group]);
                counts = _held;
                Interlocked.Increment(ref counts[group]);
                response.EnsureSuccessStatusCode();
                await response.Content.CopyToAsync(Stream.Null, stop);
                _calls[id] = (group, asked, response.TryGetPoolTimings(out var timings) ? timings.Queue : null);
            }
            finally
            {
                Leave(group);
            }
        }
        catch (Exception error) when (ParallelDemo.IsFailure(error) && !stop.IsCancellationRequested)
        {
            Interlocked.Increment(ref _failures);
        }
        finally
        {
            Interlocked.Decrement(ref counts[group]);
            tracker?.Advance();
        }
    }

    /// <summary>What the callers and the server wrote down.</summary>
    public async Task<ShareLedger> LedgerAsync(TimeSpan roundTrip, CancellationToken stop)
    {
        await endpoint.Server.WaitForAsync(counters => counters.StreamsOpen == 0, stop);
        var calls = from request in endpoint.Server.GetRequests()
                    where request is { MockId: not null, Ended: not null } && _calls.ContainsKey(request.MockId!)
                    let call = _calls[request.MockId!]
                    select new SharedCall(call.Group, call.Asked, request.Started - (roundTrip / 2), request.Ended!.Value + (roundTrip / 2), call.Queue);
        return new ShareLedger([.. calls], _held.Length, roundTrip / 2);
    }

    public virtual async ValueTask DisposeAsync()
    {
        await endpoint.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    protected abstract HttpClient ClientOf(int group);

    protected virtual Task EnterAsync(int group, CancellationToken stop) => Task.CompletedTask;

    protected virtual void Leave(int group)
    {
    }

    static SocketsHttpHandler Handler(PlainDialer dialer, int connections)
    {
        var handler = dialer.CreateHandler();
        handler.MaxConnectionsPerServer = connections;
        return handler;
    }

    HttpRequestMessage CreateRequest(string id, TimeSpan hold, bool stream)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, endpoint.Address) { Content = new ByteArrayContent(stream ? Streamed : Whole) { Headers = { ContentType = Json } } };
        request.Headers.Add("x-mock-id", id);
        if (stream)
        {
            request.Headers.Add("x-mock-tokens", StreamTokens.ToString(CultureInfo.InvariantCulture));
            request.Headers.Add("x-mock-token-gap-ms", Milliseconds(hold / StreamTokens));
        }
        else
        {
            request.Headers.Add("x-mock-body-delay-ms", Milliseconds(hold));   // its headers tell that it has its place
        }

        return request;
    }

    static string Milliseconds(TimeSpan time) => ((int)time.TotalMilliseconds).ToString(CultureInfo.InvariantCulture);

    /// <summary>Clients of the platform, with semaphores in front of them or without.</summary>
    sealed class ByHand(
        SimulatedEndpoint endpoint, int groups, IReadOnlyList<SocketsHttpHandler> handlers, Func<int, int> clientOf, IReadOnlyList<SemaphoreSlim>? each, SemaphoreSlim? all, TimeProvider time)
        : SharingWay(endpoint, groups, time)
    {
        readonly HttpClient[] _clients = [.. handlers.Select(handler => new HttpClient(handler))];

        protected override HttpClient ClientOf(int group) => _clients[clientOf(group)];

        protected override async Task EnterAsync(int group, CancellationToken stop)
        {
            // The tenant's first: who waits for his own limit must not take of what all share.
            await (each?[group].WaitAsync(stop) ?? Task.CompletedTask);
            try
            {
                await (all?.WaitAsync(stop) ?? Task.CompletedTask);
            }
            catch (OperationCanceledException)
            {
                each?[group].Release();
                throw;
            }
        }

        protected override void Leave(int group)
        {
            all?.Release();
            each?[group].Release();
        }

        public override async ValueTask DisposeAsync()
        {
            foreach (var client in _clients)
            {
                client.Dispose();
            }

            foreach (var semaphore in each ?? [])
            {
                semaphore.Dispose();
            }

            all?.Dispose();
            await base.DisposeAsync();
        }
    }

    sealed class Pooled(SimulatedEndpoint endpoint, ConnectionPool pool, IReadOnlyList<PoolRequestOptions> groups, TimeProvider time) : SharingWay(endpoint, groups.Count, time)
    {
        readonly HttpClient[] _clients = [.. groups.Select(options => pool.CreateClient(null, options))];

        protected override HttpClient ClientOf(int group) => _clients[group];

        public override async ValueTask DisposeAsync()
        {
            foreach (var client in _clients)
            {
                client.Dispose();
            }

            await pool.DisposeAsync();
            await base.DisposeAsync();
        }
    }
}
