using System.Net;
using System.Net.Sockets;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

public sealed class DnsCacheTests
{
    static readonly IPAddress First = IPAddress.Parse("192.0.2.1");
    static readonly IPAddress Second = IPAddress.Parse("192.0.2.2");

    readonly ManualTime _time = new();
    readonly FakeNetwork _network = new() { Resolve = (_, _) => new([First]) };
    readonly CancellationToken _ct = TestContext.Current.CancellationToken;

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_answer_is_kept_for_its_time_and_no_longer()
    {
        DnsCache cache = NewCache(ttl: TimeSpan.FromSeconds(300));
        await cache.ResolveAsync("a.test", _ct);

        _time.Advance(TimeSpan.FromSeconds(299));
        Assert.Equal([First], await cache.ResolveAsync("A.TEST", _ct));
        Assert.Single(_network.Resolved);

        _time.Advance(TimeSpan.FromSeconds(1) + TimeSpan.FromHours(1));
        _network.Resolve = (_, _) => new([Second]);
        Assert.Equal([Second], await cache.ResolveAsync("a.test", _ct));
        Assert.Equal(2, _network.Resolved.Count);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Without_a_cache_every_call_asks()
    {
        var cache = new DnsCache(_network, new DnsOptions { CacheEnabled = false }, _time);
        await cache.ResolveAsync("a.test", _ct);
        await cache.ResolveAsync("a.test", _ct);
        Assert.Equal(2, _network.Resolved.Count);
    }

    [Theory(Timeout = TestLimit.Milliseconds)]
    [InlineData("192.0.2.7")]
    [InlineData("2001:db8::7")]
    [InlineData("[2001:db8::7]")]
    public async Task An_address_is_not_looked_up(string address)
    {
        Assert.Equal([IPAddress.Parse(address)], await NewCache().ResolveAsync(address, _ct));
        Assert.Empty(_network.Resolved);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Callers_share_a_lookup_and_one_who_gives_up_does_not_end_it()
    {
        var answer = new TaskCompletionSource<IPAddress[]>();
        CancellationToken seen = default;
        _network.Resolve = (_, token) =>
        {
            seen = token;
            return new(answer.Task);
        };
        DnsCache cache = NewCache();
        using var impatient = new CancellationTokenSource();
        Task<IPAddress[]> first = cache.ResolveAsync("a.test", impatient.Token).AsTask();
        Task<IPAddress[]> second = cache.ResolveAsync("a.test", _ct).AsTask();

        await impatient.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        Assert.False(seen.CanBeCanceled);
        Assert.False(second.IsCompleted);

        answer.SetResult([First]);
        Assert.Equal([First], await second);
        Assert.Single(_network.Resolved);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_failure_reaches_all_who_wait_and_is_remembered_for_a_moment()
    {
        var answer = new TaskCompletionSource<IPAddress[]>();
        _network.Resolve = (_, _) => new(answer.Task);
        DnsCache cache = NewCache();
        Task<IPAddress[]> first = cache.ResolveAsync("a.test", _ct).AsTask();
        Task<IPAddress[]> second = cache.ResolveAsync("a.test", _ct).AsTask();
        answer.SetException(new SocketException((int)SocketError.HostNotFound));
        await Assert.ThrowsAsync<SocketException>(() => first);
        await Assert.ThrowsAsync<SocketException>(() => second);

        _time.Advance(TimeSpan.FromMilliseconds(999));
        var remembered = await Assert.ThrowsAsync<SocketException>(async () => await cache.ResolveAsync("a.test", _ct));
        Assert.Equal(SocketError.HostNotFound, remembered.SocketErrorCode);
        Assert.Contains("failed 0.999 s ago and is tried again after 1 s (Dns.FailureTtl)", remembered.Message);
        Assert.Single(_network.Resolved);

        _time.Advance(TimeSpan.FromMilliseconds(1));
        _network.Resolve = (_, _) => new([First]);
        Assert.Equal([First], await cache.ResolveAsync("a.test", _ct));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_empty_answer_is_a_failure()
    {
        _network.Resolve = (_, _) => new([]);
        SocketException error = await Assert.ThrowsAsync<SocketException>(async () => await NewCache().ResolveAsync("a.test", _ct));
        Assert.Equal(SocketError.NoData, error.SocketErrorCode);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Invalidate_makes_the_next_caller_ask_and_keeps_a_running_answer_out_of_the_cache()
    {
        var old = new TaskCompletionSource<IPAddress[]>();
        _network.Resolve = (_, _) => new(old.Task);
        DnsCache cache = NewCache();
        Task<IPAddress[]> waiting = cache.ResolveAsync("a.test", _ct).AsTask();

        cache.Invalidate("a.test");
        _network.Resolve = (_, _) => new([Second]);
        Assert.Equal([Second], await cache.ResolveAsync("a.test", _ct));

        old.SetResult([First]);
        Assert.Equal([First], await waiting);
        Assert.Equal([Second], await cache.ResolveAsync("a.test", _ct));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_failed_lookup_that_was_invalidated_leaves_its_successor_alone()
    {
        var old = new TaskCompletionSource<IPAddress[]>();
        _network.Resolve = (_, _) => new(old.Task);
        DnsCache cache = NewCache();
        Task<IPAddress[]> waiting = cache.ResolveAsync("a.test", _ct).AsTask();
        cache.Invalidate("a.test");
        _network.Resolve = (_, _) => new([Second]);
        await cache.ResolveAsync("a.test", _ct);

        old.SetException(new SocketException((int)SocketError.TryAgain));
        await Assert.ThrowsAsync<SocketException>(() => waiting);
        Assert.Equal([Second], await cache.ResolveAsync("a.test", _ct));
        Assert.Equal(2, _network.Resolved.Count);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task The_number_of_hosts_is_bounded_and_the_oldest_answer_goes_first()
    {
        DnsCache cache = NewCache(ttl: TimeSpan.FromDays(1));
        for (int i = 0; i <= 1024; i++)
        {
            await cache.ResolveAsync($"host{i}.test", _ct);
            _time.Advance(TimeSpan.FromSeconds(1));
        }

        await cache.ResolveAsync("host1.test", _ct);
        Assert.Equal(1025, _network.Resolved.Count);
        await cache.ResolveAsync("host0.test", _ct);
        Assert.Equal(1026, _network.Resolved.Count);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_lookup_does_not_carry_the_context_of_the_call_that_asked_first()
    {
        var local = new AsyncLocal<string?> { Value = "the first call's" };
        string? seen = "not asked";
        _network.Resolve = async (_, _) =>
        {
            await Task.Yield();
            seen = local.Value;
            return [First];
        };
        await NewCache().ResolveAsync("a.test", _ct);
        Assert.Null(seen);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_answer_past_its_time_is_given_out_at_once_while_one_lookup_runs()
    {
        DnsCache cache = NewCache();
        await cache.ResolveAsync("a.test", _ct);
        var answer = new TaskCompletionSource<IPAddress[]>();
        _network.Resolve = (_, _) => new(answer.Task);
        _time.Advance(TimeSpan.FromSeconds(301));

        Assert.Equal([First], await cache.ResolveAsync("a.test", _ct));
        Assert.Equal([First], await cache.ResolveAsync("a.test", _ct));
        await Eventually.TrueAsync(() => _network.Resolved.Count == 2);
        answer.SetResult([Second]);
        await Eventually.TrueAsync(() => cache.ResolveAsync("a.test", _ct).AsTask().Result[0].Equals(Second));
        Assert.Equal(2, _network.Resolved.Count);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task When_the_refresh_fails_the_old_answer_goes_on_up_to_its_bound()
    {
        DnsCache cache = NewCache();
        await cache.ResolveAsync("a.test", _ct);
        _network.Resolve = (_, _) => ValueTask.FromException<IPAddress[]>(new SocketException((int)SocketError.TryAgain));
        _time.Advance(TimeSpan.FromSeconds(301));
        Assert.Equal([First], await cache.ResolveAsync("a.test", _ct));
        await Eventually.TrueAsync(() => _network.Resolved.Count == 2);

        // Not in one step: the failure may be written down only after the clock was turned.
        long at = _time.GetTimestamp();
        await Eventually.TrueAsync(() =>
        {
            _time.Advance(TimeSpan.FromSeconds(2));
            _ = cache.ResolveAsync("a.test", _ct).AsTask();
            return _network.Resolved.Count > 2;
        });
        _time.Advance(TimeSpan.FromSeconds(3598) - _time.GetElapsedTime(at));
        Assert.Equal([First], await cache.ResolveAsync("a.test", _ct));
        _time.Advance(TimeSpan.FromSeconds(1));
        await Assert.ThrowsAsync<SocketException>(async () => await cache.ResolveAsync("a.test", _ct));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Localhost_is_asked_for_every_time()
    {
        DnsCache cache = NewCache();
        await cache.ResolveAsync("localhost", _ct);
        await cache.ResolveAsync("api.localhost", _ct);
        await cache.ResolveAsync("localhost", _ct);
        Assert.Equal(3, _network.Resolved.Count);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Each_dial_begins_at_the_next_address_of_the_leading_family()
    {
        IPAddress six = IPAddress.Parse("2001:db8::1"), seven = IPAddress.Parse("2001:db8::2");
        _network.Resolve = (_, _) => new([six, seven, First, Second]);
        DnsCache cache = NewCache();
        Assert.Equal([six, seven, First, Second], await cache.ResolveAsync("a.test", _ct));
        Assert.Equal([seven, six, Second, First], await cache.ResolveAsync("a.test", _ct));
        Assert.Equal([six, seven, First, Second], await cache.ResolveAsync("a.test", _ct));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task An_address_that_failed_goes_last_for_a_minute()
    {
        _network.Resolve = (_, _) => new([First, Second]);
        DnsCache cache = NewCache();
        await cache.ResolveAsync("a.test", _ct);
        cache.Note("a.test", [new(First, 443), new(Second, 443)], Second);
        Assert.Equal([Second, First], await cache.ResolveAsync("a.test", _ct));
        Assert.Equal([Second, First], await cache.ResolveAsync("a.test", _ct));
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal([Second, First], await cache.ResolveAsync("a.test", _ct));
        Assert.Equal([First, Second], await cache.ResolveAsync("a.test", _ct));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_family_that_lost_the_race_is_not_led_with_again()
    {
        IPAddress six = IPAddress.Parse("2001:db8::1"), seven = IPAddress.Parse("2001:db8::2");
        _network.Resolve = (_, _) => new([six, seven, First]);
        DnsCache cache = NewCache();
        await cache.ResolveAsync("a.test", _ct);
        cache.Note("a.test", [new(six, 443), new(First, 443)], First);
        Assert.Equal(First, (await cache.ResolveAsync("a.test", _ct))[0]);
    }

    DnsCache NewCache(TimeSpan? ttl = null) => new(_network, new DnsOptions { CacheTtl = ttl ?? TimeSpan.FromSeconds(300) }, _time);
}
