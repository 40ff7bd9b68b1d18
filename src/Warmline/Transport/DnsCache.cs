using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Warmline.Transport;

/// <summary>
/// Resolved host names. An answer is fresh for <see cref="DnsOptions.CacheTtl"/>; for <see cref="DnsOptions.MaxStale"/> after that it is
/// given out at once while one lookup runs in the background; a failure is remembered for <see cref="DnsOptions.FailureTtl"/>. Callers that
/// ask while a lookup runs share it; a lookup belongs to nobody, so a caller that gives up never takes it from the others. Also remembers
/// which addresses did not work, and begins each dial at another one.
/// </summary>
internal sealed class DnsCache(INetwork network, DnsOptions options, TimeProvider time)
{
    const int MaxHosts = 1024;   // an application that calls arbitrary hosts must not grow without bound

    /// <summary>How long an address that failed is tried last: about what a server takes to come back.</summary>
    static readonly TimeSpan AvoidTime = TimeSpan.FromMinutes(1);

    readonly Lock _lock = new();
    readonly Dictionary<string, Entry> _entries = new(StringComparer.OrdinalIgnoreCase);

    /// <summary>A lookup was answered: the host and all addresses of this answer and the one before. Many servers tell a few of their
    /// addresses each time, another few the next: an address has vanished when two answers in a row lack it. Called from a lookup's thread,
    /// under no lock; never when nothing is kept.</summary>
    public Action<string, IPAddress[]>? Answered { get; set; }

    /// <summary>The addresses of a host in the order in which a dial should try them. Throws <see cref="SocketException"/>.</summary>
    public async ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken)
    {
        if (LiteralOf(host) is { } literal)
        {
            return [literal];
        }

        Entry entry;
        TaskCompletionSource<IPAddress[]> lookup;
        var isNew = false;
        lock (_lock)
        {
            if (!_entries.TryGetValue(host, out entry!))
            {
                entry = new Entry();
                _entries[host] = entry;
                TrimToSize_NeedsLock(entry);
            }

            var age = entry.Addresses is null ? TimeSpan.MaxValue : time.GetElapsedTime(entry.ResolvedAt);
            if (age < options.CacheTtl)
            {
                return InOrder_NeedsLock(entry, entry.Addresses!);
            }

            var mayServe = entry.Addresses is not null && age - options.CacheTtl < options.MaxStale;
            if (entry.Lookup is null && !RemembersFailure(entry))
            {
                isNew = true;
                entry.Lookup = new(TaskCreationOptions.RunContinuationsAsynchronously);
            }
            else if (entry.Lookup is null && !mayServe)
            {
                throw Remembered(entry);
            }

            lookup = entry.Lookup!;
            if (mayServe)
            {
                var stale = InOrder_NeedsLock(entry, entry.Addresses!);
                if (isNew)
                {
                    ThreadPool.UnsafeQueueUserWorkItem(static look =>
                        _ = look.Cache.LookUpAsync(look.Host, look.Entry, look.Lookup), (Cache: this, Host: host, Entry: entry,
                        Lookup: lookup), preferLocal: false);
                }

                return stale;
            }
        }

        if (isNew)
        {
            // The lookup outlives the call that asked first, so it must not carry that call's context.
            using AsyncFlowControl flow = ExecutionContext.SuppressFlow();
            _ = LookUpAsync(host, entry, lookup);
        }

        var addresses = await lookup.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        lock (_lock)
        {
            return InOrder_NeedsLock(entry, addresses);
        }
    }

    /// <summary>How a race for a connection went: the addresses in the order of their attempts, and the one that won, if any.</summary>
    public void Note(string host, IReadOnlyList<IPEndPoint> tried, IPAddress? winner)
    {
        lock (_lock)
        {
            if (!_entries.TryGetValue(host, out var entry))
            {
                return;
            }

            foreach (var endPoint in tried)
            {
                if (!endPoint.Address.Equals(winner))   // TCP alone proves nothing: see Trust
                {
                    entry.Avoid[endPoint.Address] = time.GetTimestamp();
                }
            }

            if (winner is null)
            {
                return;
            }

            // The other family came through first: the whole leading one would cost every dial the head start that it gets.
            if (tried[0].AddressFamily != winner.AddressFamily)
            {
                foreach (var address in (entry.Addresses ?? []).Where(address => address.AddressFamily == tried[0].AddressFamily))
                {
                    entry.Avoid[address] = time.GetTimestamp();
                }
            }
        }
    }

    /// <summary>
    /// These addresses failed, or stood still, in whatever phase: they are tried last for a while, and first those of the other family.
    /// </summary>
    public void Distrust(string host, IReadOnlyList<IPAddress> addresses)
    {
        lock (_lock)
        {
            if (addresses.Count == 0 || !_entries.TryGetValue(host, out var entry))
            {
                return;
            }

            foreach (var address in addresses)
            {
                entry.Avoid[address] = time.GetTimestamp();
            }

            (entry.Doubted, entry.DoubtedAt) = (addresses[0].AddressFamily, time.GetTimestamp());
        }
    }

    /// <summary>An address led to a usable connection.</summary>
    public void Trust(string host, IPAddress? address)
    {
        lock (_lock)
        {
            if (address is not null && _entries.TryGetValue(host, out var entry))
            {
                entry.Avoid.Remove(address);
                entry.Doubted = entry.Doubted == address.AddressFamily ? null : entry.Doubted;
            }
        }
    }

    /// <summary>Whether the host has an address that did not fail lately.</summary>
    public bool HasTrusted(string host)
    {
        lock (_lock)
        {
            return _entries.TryGetValue(host, out var entry) && entry.Seen is { } addresses
                && Array.Exists(addresses, address => !IsAvoided_NeedsLock(entry, address));
        }
    }

    /// <summary>
    /// Forgets a host, or all: the next caller asks anew. A lookup that runs still answers those who wait for it, and is not kept.
    /// </summary>
    public void Invalidate(string? host)
    {
        lock (_lock)
        {
            if (host is null)
            {
                _entries.Clear();
            }
            else
            {
                _entries.Remove(host);
            }
        }
    }

    /// <summary>
    /// Looks up again those of the hosts whose answer is no longer fresh; the rest of the time until the next of them is due.
    /// </summary>
    public TimeSpan Refresh(IEnumerable<string> hosts)
    {
        var next = options.CacheTtl;
        if (!options.CacheEnabled)
        {
            return Timeout.InfiniteTimeSpan;
        }

        foreach (var host in hosts)
        {
            Entry? entry;
            TaskCompletionSource<IPAddress[]>? lookup = null;
            lock (_lock)
            {
                if (!_entries.TryGetValue(host, out entry) || entry.Addresses is null)
                {
                    continue;
                }

                var left = options.CacheTtl - time.GetElapsedTime(entry.ResolvedAt);
                if (left > TimeSpan.Zero)
                {
                    next = left < next ? left : next;
                }
                else if (entry.Lookup is null && !RemembersFailure(entry))
                {
                    lookup = entry.Lookup = new(TaskCreationOptions.RunContinuationsAsynchronously);
                }
            }

            if (lookup is not null)
            {
                _ = LookUpAsync(host, entry, lookup);
            }
        }

        return next;
    }

    /// <summary>An address is not looked up; in a URL's spelling IPv6 stands in brackets.</summary>
    static IPAddress? LiteralOf(string host) =>
        IPAddress.TryParse(host.StartsWith('[') && host.EndsWith(']') ? host.AsSpan(1, host.Length - 2) : host, out var literal)
            ? literal : null;

    /// <summary>
    /// The machine's own name is answered by the machine itself: nothing is gained by keeping that, and it may be changed by hand at any
    /// time.
    /// </summary>
    bool IsKept(string host) => options.CacheEnabled && !host.Equals("localhost", StringComparison.OrdinalIgnoreCase)
        && !host.EndsWith(".localhost", StringComparison.OrdinalIgnoreCase);

    bool RemembersFailure(Entry entry) => entry.Failure is not null && time.GetElapsedTime(entry.FailedAt) < options.FailureTtl;

    SocketException Remembered(Entry entry) => new(
        (int)((entry.Failure as SocketException)?.SocketErrorCode ?? SocketError.HostNotFound),
        string.Create(CultureInfo.InvariantCulture, $"{entry.Failure!.Message.TrimEnd('.')}; the lookup failed {time.GetElapsedTime(entry.FailedAt).TotalSeconds:0.###} s ago and is tried again after {options.FailureTtl.TotalSeconds:0.###} s (Dns.FailureTtl)"));

    /// <summary>
    /// Begins each time at another address of a family, keeps the resolver's order of families, and puts last what did not work.
    /// </summary>
    IPAddress[] InOrder_NeedsLock(Entry entry, IPAddress[] addresses)
    {
        if (addresses.Length < 2)
        {
            return addresses;
        }

        var turn = entry.Turn++;
        var ordered = new List<IPAddress>(addresses.Length);
        foreach (var family in addresses.GroupBy(address => address.AddressFamily))
        {
            var members = family.ToArray();
            ordered.AddRange(Enumerable.Range(0, members.Length).Select(i => members[(int)((turn + (uint)i) % (uint)members.Length)]));
        }

        var doubted = time.GetElapsedTime(entry.DoubtedAt) < AvoidTime ? entry.Doubted : null;
        // Stable.
        return [.. ordered.OrderBy(address => IsAvoided_NeedsLock(entry, address) ? 2 : address.AddressFamily == doubted ? 1 : 0)];
    }

    bool IsAvoided_NeedsLock(Entry entry, IPAddress address) =>
        entry.Avoid.TryGetValue(address, out var failedAt) && time.GetElapsedTime(failedAt) < AvoidTime;

    async Task LookUpAsync(string host, Entry entry, TaskCompletionSource<IPAddress[]> lookup)
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

        var isKept = IsKept(host);
        IPAddress[]? before = null;
        lock (_lock)
        {
            // After Invalidate a newer one may stand here.
            isKept &= _entries.TryGetValue(host, out var current) && ReferenceEquals(current, entry);
            entry.Lookup = null;
            entry.Seen = addresses ?? entry.Seen;
            entry.Failure = isKept ? error : null;
            entry.FailedAt = time.GetTimestamp();
            if (error is null && isKept)
            {
                entry.ResolvedAt = entry.FailedAt;
                before = entry.Addresses;
                entry.Addresses = addresses;
                foreach (var gone in entry.Avoid.Keys.Except(addresses!).ToArray())
                {
                    entry.Avoid.Remove(gone);
                }
            }
        }

        if (error is null)
        {
            lookup.SetResult(addresses!);
            if (isKept)
            {
                Answered?.Invoke(host, before is null ? addresses! : [.. addresses!.Union(before)]);
            }
        }
        else
        {
            lookup.SetException(error);
            _ = lookup.Task.Exception;   // observed: every caller may have gone
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
            if (!ReferenceEquals(entry, keep) && entry.Lookup is null && Math.Max(entry.ResolvedAt, entry.FailedAt) < oldestAt)
            {
                (oldest, oldestAt) = (host, Math.Max(entry.ResolvedAt, entry.FailedAt));
            }
        }

        if (oldest is not null)
        {
            _entries.Remove(oldest);
        }
    }

    /// <summary>All of it belongs to the lock.</summary>
    sealed class Entry
    {
        public TaskCompletionSource<IPAddress[]>? Lookup;
        public IPAddress[]? Addresses;   // the last answer, if answers are kept
        public IPAddress[]? Seen;        // the last answer
        public long ResolvedAt;
        public Exception? Failure;       // of the last lookup
        public long FailedAt;
        public uint Turn;
        public readonly Dictionary<IPAddress, long> Avoid = [];
        public AddressFamily? Doubted;   // that of the address that failed last, if none of it worked since
        public long DoubtedAt;
    }
}
