using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using Warmline.Cli.Demo;

namespace Warmline.Cli.Sizing;

/// <summary>One origin of a running pool, or a part of it.</summary>
internal sealed record OriginReading(string Origin, string Partition, bool? IsHttp2, int? StreamLimit, long Requests);

/// <summary>
/// What a running pool says of itself; of its life since it was made, unless <see cref="Since"/> took an earlier reading away.
/// </summary>
internal sealed record PoolReading
{
    public required string Name { get; init; }

    /// <summary>The time that the figures are of.</summary>
    public required TimeSpan Age { get; init; }

    public required long Requests { get; init; }

    public required long Granted { get; init; }

    public required long Reused { get; init; }

    public required int Active { get; init; }

    public required int PeakActive { get; init; }

    public required int PeakConnections { get; init; }

    public required int MaxConnections { get; init; }

    public required int MaxIdleConnections { get; init; }

    public required int? MaxConcurrentRequests { get; init; }

    public required int Queued { get; init; }

    public required IReadOnlyDictionary<string, long> RefusedBy { get; init; }

    /// <summary>The mean wait of those that got a place.</summary>
    public required TimeSpan QueueWait { get; init; }

    public required TimeSpan MaxQueueWait { get; init; }

    /// <summary>The mean time from place to the end of both bodies; null before the first call ended.</summary>
    public required TimeSpan? Lease { get; init; }

    public required TimeSpan? Handshake { get; init; }

    public required IReadOnlyList<OriginReading> Origins { get; init; }

    public long Ended { get; private init; }

    /// <summary>Reads a pool of a stats document.</summary>
    /// <exception cref="FormatException">Something is missing, or not what it should be.</exception>
    public static PoolReading Parse(JsonElement pool)
    {
        var stats = Member(pool, "stats", JsonValueKind.Object);
        var (granted, active) = (Long(stats, "granted"), (int)Long(stats, "active"));
        return new PoolReading
        {
            Name = Member(pool, "name", JsonValueKind.String).GetString()!,
            Age = Seconds(stats, "ageSeconds"),
            Requests = Long(stats, "totalRequests"),
            Granted = granted,
            Ended = Math.Max(0, granted - active),
            Reused = Long(stats, "reusedConnections"),
            Active = active,
            PeakActive = (int)Long(stats, "peakActive"),
            PeakConnections = (int)Long(stats, "peakConnections"),
            MaxConnections = (int)Long(stats, "maxConnections"),
            MaxIdleConnections = (int)Long(stats, "maxIdleConnections"),
            MaxConcurrentRequests = IsNull(stats, "maxConcurrentRequests") ? null : (int)Long(stats, "maxConcurrentRequests"),
            Queued = (int)Long(stats, "queued"),
            RefusedBy = Member(stats, "refusedBy", JsonValueKind.Object).EnumerateObject().ToDictionary(reason => reason.Name, reason => Count(reason.Value, reason.Name)),
            QueueWait = Seconds(stats, "queueWaitSeconds"),
            MaxQueueWait = Seconds(stats, "maxQueueWaitSeconds"),
            Lease = IsNull(stats, "averageLeaseSeconds") ? null : Seconds(stats, "averageLeaseSeconds"),
            Handshake = IsNull(stats, "averageHandshakeSeconds") ? null : Seconds(stats, "averageHandshakeSeconds"),
            Origins = [.. Member(stats, "origins", JsonValueKind.Array).EnumerateArray().Select(Origin)],
        };
    }

    /// <summary>What happened since an earlier reading. Peaks are those of the pool's life: they have no beginning.</summary>
    /// <exception cref="DemoException">It is another pool by now.</exception>
    public PoolReading Since(PoolReading before)
    {
        if (Age <= before.Age || Requests < before.Requests || Granted < before.Granted)
        {
            throw new DemoException($"the pool '{Name}' began anew between the two readings: its application was restarted. Ask again.");
        }

        var (ended, granted) = (Ended - before.Ended, Granted - before.Granted);
        return this with
        {
            Age = Age - before.Age,
            Requests = Requests - before.Requests,
            Granted = granted,
            Ended = ended,
            Reused = Reused - before.Reused,
            RefusedBy = RefusedBy.Select(reason => (reason.Key, Value: reason.Value - before.RefusedBy.GetValueOrDefault(reason.Key))).Where(reason => reason.Value > 0).ToDictionary(reason => reason.Key, reason => reason.Value),
            QueueWait = granted <= 0 ? TimeSpan.Zero : Positive(((QueueWait * Granted) - (before.QueueWait * before.Granted)) / granted),
            Lease = ended <= 0 || Lease is null ? null : Positive(((Lease.Value * Ended) - ((before.Lease ?? TimeSpan.Zero) * before.Ended)) / ended),
            Origins = [.. Origins.Select(origin => origin with { Requests = origin.Requests - (before.Origins.FirstOrDefault(other => other.Origin == origin.Origin && other.Partition == origin.Partition)?.Requests ?? 0) })],
        };
    }

    static OriginReading Origin(JsonElement origin) => new(
        Member(origin, "origin", JsonValueKind.String).GetString()!,
        Member(origin, "partition", JsonValueKind.String).GetString()!,
        IsNull(origin, "httpVersion") ? null : Member(origin, "httpVersion", JsonValueKind.String).GetString()!.StartsWith('2'),
        IsNull(origin, "streamLimit") ? null : (int)Long(origin, "streamLimit"),
        Long(origin, "totalRequests"));

    static TimeSpan Positive(TimeSpan time) => time > TimeSpan.Zero ? time : TimeSpan.Zero;

    static bool IsNull(JsonElement holder, string name) => !holder.TryGetProperty(name, out var value) || value.ValueKind is JsonValueKind.Null;

    static JsonElement Member(JsonElement holder, string name, JsonValueKind kind) =>
        holder.ValueKind is JsonValueKind.Object && holder.TryGetProperty(name, out var value) && value.ValueKind == kind ? value : throw new FormatException($"'{name}' is missing");

    static long Long(JsonElement holder, string name) => Count(Member(holder, name, JsonValueKind.Number), name);

    static long Count(JsonElement value, string name) =>
        value.ValueKind is JsonValueKind.Number && value.TryGetInt64(out var number) && number >= 0 ? number : throw new FormatException($"'{name}' is no count");

    static TimeSpan Seconds(JsonElement holder, string name) => Member(holder, name, JsonValueKind.Number).GetDouble() is >= 0 and < 1e9 and var seconds
        ? TimeSpan.FromSeconds(seconds) : throw new FormatException($"'{name}' is no time");
}

/// <summary>Where a running pool's stats are read.</summary>
internal sealed class PoolSource : IDisposable
{
    const string IsItThere = "Does the application run, and is that its address? It logs 'Now listening on: …'.";

    static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    readonly HttpClient _client;
    readonly Uri _address;
    readonly bool _hasKey;

    public PoolSource(Uri address, string? key, X509Certificate2? authority)
    {
        // No redirect: the key is for this address only.
        var handler = new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = !address.IsLoopback, ConnectTimeout = Limit };
        if (authority is not null)
        {
            handler.SslOptions = RealEndpoint.Trusting(authority);
        }

        (_address, _hasKey, _client) = (address, key is not null, new HttpClient(handler) { Timeout = Limit });
        if (key is not null)
        {
            _client.DefaultRequestHeaders.TryAddWithoutValidation("authorization", "Bearer " + key);
        }
    }

    string Display => _address.GetLeftPart(UriPartial.Path);

    /// <summary>The stats' own address, or the application's, to which the usual path is added.</summary>
    /// <exception cref="FormatException">It is none.</exception>
    public static Uri AddressOf(string text)
    {
        if (!Uri.TryCreate(text, UriKind.Absolute, out var address) || address.Scheme is not ("https" or "http") || address.UserInfo.Length > 0)
        {
            throw new FormatException($"--from is '{(address?.UserInfo.Length > 0 ? "an address with a user name" : text)}', must be an absolute https or http address without user name: for example http://localhost:5000.");
        }

        var path = address.AbsolutePath.TrimEnd('/');
        return path.EndsWith("/stats", StringComparison.Ordinal) ? address : new UriBuilder(address) { Path = path + "/warmline/stats" }.Uri;
    }

    /// <exception cref="DemoException">There are none to be had.</exception>
    public async Task<IReadOnlyList<PoolReading>> ReadAsync(CancellationToken stop)
    {
        try
        {
            using var response = await _client.GetAsync(_address, stop);
            if (response.StatusCode is not HttpStatusCode.OK)
            {
                throw new DemoException($"{Display} answered {(int)response.StatusCode}. " + Remedy(response.StatusCode));
            }

            using var json = JsonDocument.Parse(await response.Content.ReadAsStringAsync(stop));
            if (json.RootElement.ValueKind is not JsonValueKind.Object || !json.RootElement.TryGetProperty("pools", out var pools) || pools.ValueKind is not JsonValueKind.Array)
            {
                throw new FormatException("'pools' is missing");
            }

            return [.. pools.EnumerateArray().Select(PoolReading.Parse)];
        }
        catch (Exception failure) when (failure is JsonException or FormatException)
        {
            throw new DemoException($"{Display} answered, but not with the stats of a pool{(failure is FormatException ? $" ({failure.Message})" : "")}: give --from the address where MapPoolStats is mapped, such as http://localhost:5000/warmline/stats; both sides must be of the same version.");
        }
        catch (HttpRequestException failure) when (failure.InnerException is SocketException { SocketErrorCode: not (SocketError.HostNotFound or SocketError.TryAgain or SocketError.NoData) } socket)
        {
            throw new DemoException($"cannot reach {Display} ({socket.Message.TrimEnd('.')}). {IsItThere}{(_address.IsLoopback ? "" : " May this machine connect without a proxy?")}");
        }
        catch (HttpRequestException failure)
        {
            throw new DemoException($"cannot reach {Display}: {RealEndpoint.Cause(failure, "--from")}");
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new DemoException(string.Create(CultureInfo.InvariantCulture, $"cannot reach {Display}: no answer within {Limit.TotalSeconds:0} s. {IsItThere}"));
        }
    }

    public void Dispose() => _client.Dispose();

    string Remedy(HttpStatusCode status) => status switch
    {
        HttpStatusCode.Forbidden => "It refuses callers of other machines unless told otherwise: run this command on the same machine, or map it with MapPoolStats(o => o.AllowRemote = true) and RequireAuthorization.",
        HttpStatusCode.Unauthorized => _hasKey ? "It does not accept the token of --key-env: check it." : "It wants a login: put a bearer token into an environment variable and name that with --key-env.",
        HttpStatusCode.NotFound => "Nothing is mapped there: add app.MapPoolStats() to the application, or give --from the address where it is mapped.",
        _ => "Is that the address where MapPoolStats is mapped?",
    };
}
