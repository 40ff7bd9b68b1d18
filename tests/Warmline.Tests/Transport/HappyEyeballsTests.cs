using System.Net;
using System.Net.Sockets;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>The race for a TCP connection, as a list of events on a stepped clock.</summary>
public sealed class HappyEyeballsTests
{
    static readonly IPAddress V6a = IPAddress.Parse("2001:db8::a");
    static readonly IPAddress V6b = IPAddress.Parse("2001:db8::b");
    static readonly IPAddress V4a = IPAddress.Parse("192.0.2.10");
    static readonly IPAddress V4b = IPAddress.Parse("192.0.2.11");

    readonly ManualTime _time = new();
    readonly List<string> _events = [];
    readonly Dictionary<IPAddress, Attempt> _attempts = [];
    readonly CancellationToken _ct = TestContext.Current.CancellationToken;

    [Fact]
    public void Families_take_turns_from_the_first_address_on()
    {
        Assert.Equal([V6a, V4a, V6b, V4b], HappyEyeballs.Interleave([V6a, V6b, V4a, V4b]));
        Assert.Equal([V4a, V6a, V4b], HappyEyeballs.Interleave([V4a, V4b, V6a]));
        Assert.Equal([V4a, V4b], HappyEyeballs.Interleave([V4a, V4b]));
        Assert.Equal([V6a, V4a, V4b], HappyEyeballs.Interleave([V6a, V4a, V4b]));
        Assert.Empty(HappyEyeballs.Interleave([]));
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_silent_first_address_loses_to_the_second_after_the_attempt_delay()
    {
        HappyEyeballs race = NewRace();
        Task<Stream> connecting = race.ConnectAsync([V6a, V4a], 443, _ct);
        await Step(249);
        Assert.Equal(["0 try V6a"], _events);
        await Step(1);
        await _attempts[V4a].Started.Task.WaitAsync(_ct);
        Assert.Equal(["0 try V6a", "250 try V4a"], _events);

        var stream = new FakeStream();
        _attempts[V4a].Result.SetResult(stream);
        Assert.Same(stream, await connecting);
        await _attempts[V6a].Cancelled.Task.WaitAsync(_ct);
        Assert.Equal(V4a, race.EndPoint!.Address);
        Assert.Equal(["0 try V6a", "250 try V4a", "250 cancel V6a"], _events);
        Assert.False(stream.IsDisposed);
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_refused_address_gives_way_at_once_and_the_delay_begins_anew()
    {
        Task<Stream> connecting = NewRace().ConnectAsync([V6a, V4a, V6b], 443, _ct);
        await Step(100);
        await Fail(V6a, SocketError.ConnectionRefused, next: V4a);
        await Step(249);
        Assert.Equal(["0 try V6a", "100 try V4a"], _events);
        await Step(1);
        await _attempts[V6b].Started.Task.WaitAsync(_ct);
        Assert.Equal(["0 try V6a", "100 try V4a", "350 try V6b"], _events);
        _attempts[V6b].Result.SetResult(new FakeStream());
        await connecting;
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_first_address_that_answers_late_still_wins()
    {
        HappyEyeballs race = NewRace();
        Task<Stream> connecting = race.ConnectAsync([V6a, V4a], 443, _ct);
        await Step(250);
        await _attempts[V4a].Started.Task.WaitAsync(_ct);
        var stream = new FakeStream();
        _attempts[V6a].Result.SetResult(stream);
        Assert.Same(stream, await connecting);
        Assert.Equal(V6a, race.EndPoint!.Address);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task A_connection_that_succeeds_after_the_winner_is_closed()
    {
        Task<Stream> connecting = NewRace(heedsCancel: false).ConnectAsync([V6a, V4a], 443, _ct);
        await Step(250);
        await _attempts[V4a].Started.Task.WaitAsync(_ct);
        _attempts[V4a].Result.SetResult(new FakeStream());
        await connecting;

        var late = new FakeStream();
        _attempts[V6a].Result.SetResult(late);
        await late.Disposed.WaitAsync(_ct);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task Cancelling_ends_the_race_even_when_an_attempt_does_not_heed_it_and_closes_what_still_succeeds()
    {
        using var cancel = new CancellationTokenSource();
        Task<Stream> connecting = NewRace(heedsCancel: false).ConnectAsync([V6a, V4a], 443, cancel.Token);
        await _attempts[V6a].Started.Task.WaitAsync(_ct);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connecting);

        var late = new FakeStream();
        _attempts[V6a].Result.SetResult(late);
        await late.Disposed.WaitAsync(_ct);
        Assert.Equal(["0 try V6a"], _events);
        Assert.Equal(0, _time.ArmedTimers);
    }

    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task When_all_fail_a_machine_that_answered_is_named_rather_than_our_lack_of_a_route()
    {
        HappyEyeballs race = NewRace();
        Task<Stream> connecting = race.ConnectAsync([V6a, V4a, V6b], 443, _ct);
        await Fail(V6a, SocketError.NetworkUnreachable, next: V4a);
        await Fail(V4a, SocketError.ConnectionRefused, next: V6b);
        await Fail(V6b, SocketError.ConnectionRefused, next: null);
        SocketException error = await Assert.ThrowsAsync<SocketException>(() => connecting);
        Assert.Equal(SocketError.ConnectionRefused, error.SocketErrorCode);
        Assert.Equal(V4a, race.EndPoint!.Address);
        Assert.Equal([V6a, V4a, V6b], race.Tried.Select(endPoint => endPoint.Address));
    }

    async Task Fail(IPAddress address, SocketError error, IPAddress? next)
    {
        await _attempts[address].Started.Task.WaitAsync(_ct);
        _attempts[address].Result.SetException(new SocketException((int)error));
        if (next is not null)
        {
            await _attempts[next].Started.Task.WaitAsync(_ct);
        }
    }

    async Task Step(int milliseconds)
    {
        await _time.WaitForTimersAsync(1).WaitAsync(_ct);   // the race waits for its delay
        _time.Advance(TimeSpan.FromMilliseconds(milliseconds));
    }

    HappyEyeballs NewRace(bool heedsCancel = true)
    {
        foreach (IPAddress address in (IPAddress[])[V6a, V6b, V4a, V4b])
        {
            _attempts[address] = new Attempt();
        }

        return new(
            (endPoint, token) =>
            {
                Attempt attempt = _attempts[endPoint.Address];
                Record($"try {Name(endPoint.Address)}");
                if (heedsCancel)
                {
                    token.Register(() =>
                    {
                        if (attempt.Result.TrySetCanceled(token))
                        {
                            Record($"cancel {Name(endPoint.Address)}");
                        }

                        attempt.Cancelled.TrySetResult();
                    });
                }

                attempt.Started.TrySetResult();
                return new(attempt.Result.Task);
            },
            _time);
    }

    void Record(string what)
    {
        lock (_events)
        {
            _events.Add($"{TimeSpan.FromTicks(_time.GetTimestamp()).TotalMilliseconds} {what}");
        }
    }

    static string Name(IPAddress address) => address.Equals(V6a) ? nameof(V6a) : address.Equals(V6b) ? nameof(V6b) : address.Equals(V4a) ? nameof(V4a) : nameof(V4b);

    sealed class Attempt
    {
        public TaskCompletionSource<Stream> Result { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource Started { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public TaskCompletionSource Cancelled { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
