using System.Net;

namespace Warmline.Scheduling;

/// <summary>The phases of a connection. It holds a permit in every phase but the last.</summary>
internal enum ConnectionPhase
{
    /// <summary>Being opened. Next: AwaitingSettings (HTTP/2), Open (HTTP/1.1), Closing (not wanted any more), Closed (failed).</summary>
    Dialing,

    /// <summary>
    /// HTTP/2 before the server's SETTINGS: takes one stream, whose request starts it. Next: Open, Draining, Closing, Closed.
    /// </summary>
    AwaitingSettings,

    /// <summary>Takes streams up to its limit. Next: Draining, Closing, Closed.</summary>
    Open,

    /// <summary>Takes no new stream; the running ones end. Next: Closing, Closed.</summary>
    Draining,

    /// <summary>Asked to close; the permit is still in use. Next: Closed.</summary>
    Closing,

    /// <summary>Closed; the permit is free. Streams that end later are still counted.</summary>
    Closed,
}

/// <summary>One connection as the scheduler knows it.</summary>
internal sealed class ConnectionState(long id, KeyState key) : Timed
{
    /// <summary>
    /// The load of one stream, in upload bytes in flight. A 16 KB upload counts as one more stream, as it fills about one congestion
    /// window.
    /// </summary>
    const long StreamWeight = 16 * 1024;

    public int AvailablePlace = -1;

    public long Id { get; } = id;

    public KeyState Key { get; } = key;

    public ConnectionPhase Phase { get; internal set; }

    public bool IsHttp2 { get; internal set; }

    /// <summary>Its leases.</summary>
    public int Streams { get; internal set; }

    /// <summary>Streams it may carry now: 1 on HTTP/1.1 and before SETTINGS, else the smaller of the server's limit and ours.</summary>
    public int Limit { get; internal set; }

    public TimeSpan DialStartedAt { get; internal set; }

    /// <summary>The current phase of its dial.</summary>
    public DialPhase Step { get; internal set; } = DialPhase.Dns;

    /// <summary>When its dial began or last reached a new phase.</summary>
    public TimeSpan AdvancedAt { get; internal set; }

    /// <summary>When its host name was resolved; Timeouts.Connect runs from then.</summary>
    internal TimeSpan ConnectStartedAt { get; set; }

    /// <summary>How long the TCP connection took, which is about a round trip.</summary>
    internal TimeSpan TcpTook { get; set; }

    /// <summary>Its dial has been silent for too long: others start beside it, and no waiter counts on it.</summary>
    public bool IsSilent { get; internal set; }

    /// <summary>Dials of its key that had fallen silent in a row when this one began.</summary>
    internal int SilentBefore { get; set; }

    /// <summary>Its stalled dial is being cancelled because other connections met the need.</summary>
    internal bool IsGivenUp { get; set; }

    /// <summary>The host has an address that has not failed lately. Set by the shell when it reports a failure.</summary>
    public bool HasOtherAddress { get; set; }

    /// <summary>It gets no request before its SETTINGS: another connection of its key is open, or one failed lately.</summary>
    internal bool IsPrimed { get; set; }

    public TimeSpan OpenedAt { get; internal set; }

    /// <summary>When it became idle; meaningful while it is.</summary>
    public TimeSpan IdleSince { get; internal set; }

    /// <summary>The end of its lifetime.</summary>
    public TimeSpan ExpiresAt { get; internal set; } = TimeSpan.MaxValue;

    /// <summary>The remote address; set by the shell with the slot.</summary>
    public IPAddress? Address { get; set; }

    /// <summary>The local address; set by the shell with the slot.</summary>
    public IPAddress? LocalAddress { get; set; }

    /// <summary>The phase in which its dial failed; set by the shell when it reports the failure.</summary>
    public DialPhase FailedIn { get; set; } = DialPhase.Tcp;

    /// <summary>
    /// How long the server said, with its last answer, that it keeps the connection idle, in seconds; -1 when it did not say. Set by the
    /// shell while it holds the lease.
    /// </summary>
    public int HintSeconds { get; set; } = -1;

    /// <summary>Dialled without offering HTTP/2, as its origin's HTTP/2 is avoided.</summary>
    public bool IsHttp1Only { get; internal set; }

    /// <summary>Its dial found that the server does not speak HTTP/1.1; set by the shell when it reports the failure.</summary>
    public bool LacksHttp1 { get; set; }

    /// <summary>What its end says about the origin's HTTP/2; set by the shell when it reports the end.</summary>
    public Http2Doubt Doubt { get; set; }

    /// <summary>The reason that the peer gave for the end, if any; set by the shell when it reports the end.</summary>
    public Exception? EndCause { get; set; }

    /// <summary>The shell's object for the connection.</summary>
    public object? Slot { get; set; }

    /// <summary>The shell's object for the dial, while it dials.</summary>
    public object? Dial { get; set; }

    /// <summary>The latest sequence number when the dial began: waiters up to it are older than the dial.</summary>
    internal long DialSequence { get; set; }

    /// <summary>The stream limit in the server's SETTINGS.</summary>
    internal int AdvertisedLimit { get; set; } = int.MaxValue;

    internal long UploadBytes { get; set; }

    /// <summary>
    /// A larger number means more recent use. The most recently used idle connection is taken first, so that surplus ones can expire.
    /// </summary>
    internal long LastUse { get; set; }

    /// <summary>Dialled because a call waited, and not used yet: its first call needed a dial of its own.</summary>
    internal bool DialedForWaiter { get; set; }

    /// <summary>Dials of its key that had failed in a row when it opened.</summary>
    internal int FailuresBefore { get; set; }

    /// <summary>Whether any exchange on it has succeeded.</summary>
    internal bool Served { get; set; }

    /// <summary>Draining because its permit is needed elsewhere, or exceeds a lowered limit.</summary>
    internal bool IsReclaimed { get; set; }

    /// <summary>When its successor is dialled, if it is in use then; MaxValue once this was handled.</summary>
    internal TimeSpan ReplaceAt { get; set; } = TimeSpan.MaxValue;

    /// <summary>How long it had been idle before its last use; zero once an exchange has succeeded.</summary>
    internal TimeSpan IdleBefore { get; set; }

    /// <summary>When it was last taken out of idleness.</summary>
    internal TimeSpan UsedSince { get; set; } = TimeSpan.MinValue / 2;

    /// <summary>Idle, kept warm, and close to the server's idle limit: a successor takes its place.</summary>
    internal bool HasSuccessor { get; set; }

    /// <summary>The peer may be gone, so the connection is closed without a goodbye.</summary>
    internal bool IsLost { get; set; }

    /// <summary>
    /// The shell found it closed when a call on it ended, as after <c>Connection: close</c>. Its own report comes later, when the peer
    /// has closed too.
    /// </summary>
    internal bool HasEnded { get; set; }

    /// <summary>When its age has to be checked next.</summary>
    internal TimeSpan LifeDue => ReplaceAt < ExpiresAt ? ReplaceAt : ExpiresAt;

    // Links in the list of idle connections, longest idle first.
    internal ConnectionState? PreviousIdle { get; set; }

    internal ConnectionState? NextIdle { get; set; }

    internal bool IsListedIdle { get; set; }

    /// <summary>Its place in the list of its key's connections.</summary>
    internal int ListPlace { get; set; }

    internal Waiter? FirstLease { get; set; }

    public bool IsUsable => Phase is ConnectionPhase.Open or ConnectionPhase.AwaitingSettings;

    public bool CanTakeStream => IsUsable && Streams < Limit;

    /// <summary>When its SETTINGS have to have arrived.</summary>
    internal TimeSpan SettingsDue { get; set; } = TimeSpan.MaxValue;

    /// <summary>
    /// Idle and usable. A connection whose server allows no stream at present is not idle: its limit may rise, and a new connection would
    /// fare no better.
    /// </summary>
    public bool IsIdle => Phase is ConnectionPhase.Open && Streams == 0 && Limit > 0;

    long Load => Streams * StreamWeight + UploadBytes;

    /// <summary>
    /// RST_STREAM frames after which it takes no more calls. Servers close connections that send 100 or more. Every call that still runs
    /// may be reset as well, so the limit leaves room for all of them.
    /// </summary>
    public int ResetLimit => Math.Min(Key.Origin.ResetLimit, Math.Clamp(92 - Limit, 32, 84));

    /// <summary>RST_STREAM frames after which it gets a successor.</summary>
    public int ResetsBeforeSuccessor => ResetLimit * 3 / 4;

    /// <summary>It has reached <see cref="ResetsBeforeSuccessor"/>.</summary>
    public bool IsWorn { get; internal set; }

    public override string ToString() => $"#{Id} {Key.Key} {(IsHttp2 ? "h2" : "h1")} {Phase} {Streams}/{Limit}";

    internal void AddLease(Waiter waiter)
    {
        waiter.Previous = null;
        waiter.Next = FirstLease;
        if (FirstLease is { } first)
        {
            first.Previous = waiter;
        }

        FirstLease = waiter;
    }

    internal void RemoveLease(Waiter waiter)
    {
        if (waiter.Previous is { } previous)
        {
            previous.Next = waiter.Next;
        }
        else
        {
            FirstLease = waiter.Next;
        }

        if (waiter.Next is { } next)
        {
            next.Previous = waiter.Previous;
        }

        waiter.Previous = waiter.Next = null;
    }

    /// <summary>Least loaded first; among equals the most recently used.</summary>
    internal struct LeastLoadedFirst : IHeapOrder<ConnectionState>
    {
        public static bool Before(ConnectionState left, ConnectionState right)
        {
            long a = left.Load, b = right.Load;
            return a != b ? a < b : left.LastUse > right.LastUse;
        }

        public static ref int Place(ConnectionState item) => ref item.AvailablePlace;
    }
}
