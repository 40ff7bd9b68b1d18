using System.Net;
using System.Net.Sockets;

namespace Warmline.Transport;

/// <summary>
/// Resolved host names, kept for <see cref="DnsOptions.CacheTtl"/>. Callers that ask while a lookup runs share it; a lookup belongs to nobody,
/// so a caller that gives up never takes it from the others. A failure reaches whoever waits for it and is not kept.
/// </summary>
internal sealed class DnsCache(INetwork network, DnsOptions options, TimeProvider time)
{
    const int MaxHosts = 1024;   // an application that calls arbitrary hosts must not grow without bound

    readonly Lock _lock = new();
    readonly Dictionary<string, Entry> _entries = new(StringComparer.OrdinalIgnoreCase);
    readonly bool _keep = options.CacheEnabled;
    readonly TimeSpan _ttl = options.CacheTtl;

    /// <summary>The addresses of a host, in the resolver's order; the array is shared and must not be changed. Throws <see cref="SocketException"/>.</summary>
    public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken)
    {
        if (IPAddress.TryParse(host, out IPAddress? literal))
        {
            return new([literal]);
        }

        Entry entry;
        bool isNew = false;
        lock (_lock)
        {
            if (!_entries.TryGetValue(host, out entry!) || HasExpired(entry))
            {
                entry = new Entry();
                _entries[host] = entry;
                isNew = true;
                TrimToSize_NeedsLock(entry);
            }
            else if (entry.Addresses is { } addresses)
            {
                return new(addresses);
            }
        }

        if (isNew)
        {
            Start(host, entry);
        }

        return new(entry.Lookup.Task.WaitAsync(cancellationToken));
    }

    /// <summary>Forgets a host: the next caller asks anew. A lookup that runs still answers those who wait for it, and is not kept.</summary>
    public void Invalidate(string host)
    {
        lock (_lock)
        {
            _entries.Remove(host);
        }
    }

    bool HasExpired(Entry entry) => entry.Addresses is not null && time.GetElapsedTime(entry.ResolvedAt) >= _ttl;

    void Start(string host, Entry entry)
    {
        // The lookup outlives the call that asked first, so it must not carry that call's context.
        using AsyncFlowControl flow = ExecutionContext.SuppressFlow();
        _ = LookUpAsync(host, entry);
    }

    async Task LookUpAsync(string host, Entry entry)
    {
        IPAddress[]? addresses = null;
        Exception? error = null;
        try
        {
            addresses = await network.ResolveAsync(host, CancellationToken.None).ConfigureAwait(false);
            if (addresses.Length == 0)
            {
                throw new SocketException((int)SocketError.NoData);
            }
        }
        catch (Exception e)
        {
            error = e;
        }

        lock (_lock)
        {
            if (error is null && _keep)
            {
                entry.ResolvedAt = time.GetTimestamp();
                entry.Addresses = addresses;
            }
            else if (_entries.TryGetValue(host, out Entry? current) && ReferenceEquals(current, entry))
            {
                _entries.Remove(host);   // only our own: after Invalidate a newer lookup may stand here
            }
        }

        if (error is null)
        {
            entry.Lookup.SetResult(addresses!);
        }
        else
        {
            entry.Lookup.SetException(error);
            _ = entry.Lookup.Task.Exception;   // observed: every caller may have gone
        }
    }

    void TrimToSize_NeedsLock(Entry keep)
    {
        if (_entries.Count <= MaxHosts)
        {
            return;
        }

        string? oldest = null;
        long oldestAt = long.MaxValue;
        foreach ((string host, Entry entry) in _entries)
        {
            // Running lookups stay, or their callers would no longer be joined by others.
            if (!ReferenceEquals(entry, keep) && entry.Addresses is not null && entry.ResolvedAt < oldestAt)
            {
                (oldest, oldestAt) = (host, entry.ResolvedAt);
            }
        }

        if (oldest is not null)
        {
            _entries.Remove(oldest);
        }
    }

    sealed class Entry
    {
        public readonly TaskCompletionSource<IPAddress[]> Lookup = new(TaskCreationOptions.RunContinuationsAsynchronously);
        public IPAddress[]? Addresses;   // null while the lookup runs; guarded by the lock, as is the time
        public long ResolvedAt;
    }
}
