using System.Globalization;

namespace Warmline;

/// <summary>
/// How large a pool must be for so many users: <c>PoolSizing.Recommend(100, TimeSpan.FromSeconds(8), TimeSpan.FromSeconds(30))</c> gives 27
/// calls at once, 30 connections, 15 idle.
/// </summary>
public sealed record PoolSizing
{
    /// <summary>A connection's memory in this process: socket, TLS state and buffers, handler, its place in the pool. Measured: 400
    /// connections more with TLS 1.3 over HTTP/1.1 made the process's anonymous memory grow by 41 to 90 KB each, after a full collection,
    /// on Linux; 4 to 50 KB of it in the managed heap. The upper half is taken.</summary>
    const long BytesPerConnection = 80 * 1024;

    const int MostConnections = 65_535;

    PoolSizing()
    {
    }

    /// <summary>Calls that run at the same time on average, rounded up: users × calls × response time ÷ interval.</summary>
    public int ConcurrentCalls { get; private init; }

    /// <summary>For <see cref="ConnectionPoolOptions.MaxConnections"/>: a tenth more than <see cref="ConcurrentCalls"/>, rounded up to the
    /// next multiple of 5, as calls do not come evenly; but never more than all users' calls together. One call for each connection is what
    /// HTTP/1.1 needs; HTTP/2 stays far below it.</summary>
    public int MaxConnections { get; private init; }

    /// <summary>For <see cref="ConnectionPoolOptions.MaxIdleConnections"/>: half of <see cref="MaxConnections"/>, rounded up.</summary>
    public int MaxIdleConnections { get; private init; }

    /// <summary>
    /// Connections that carry as many calls over HTTP/2 with the default options: one for every 8 calls up to 8, and 32 calls on each
    /// beyond.
    /// </summary>
    public int Http2Connections { get; private init; }

    /// <summary>Sockets, and so file descriptors, when every call has a connection of its own: HTTP/1.1.</summary>
    public int DescriptorsHttp1 => MaxConnections;

    /// <summary>Sockets, and so file descriptors, over HTTP/2.</summary>
    public int DescriptorsHttp2 => Http2Connections;

    /// <summary>Bytes of memory for the connections over HTTP/1.1; what the calls themselves hold comes on top.</summary>
    public long MemoryHttp1 => DescriptorsHttp1 * BytesPerConnection;

    /// <summary>Bytes of memory for the connections over HTTP/2; what the calls themselves hold comes on top.</summary>
    public long MemoryHttp2 => DescriptorsHttp2 * BytesPerConnection;

    /// <summary>Recommends a pool's size.</summary>
    /// <param name="users">Users at the same time. Range: 1 and up.</param>
    /// <param name="responseTime">How long a call takes, to the last byte of its answer. Range: above 0, at most a day.</param>
    /// <param name="interval">How often a user asks: from one call's start to the next one's. At most <paramref name="responseTime"/> means
    /// that every user's calls run all the time, as a user has no more than <paramref name="callsPerUser"/> calls in flight. Range: above
    /// 0, at most a day.</param>
    /// <param name="callsPerUser">Calls that one user makes at once. Default 1. Range: 1 and up.</param>
    /// <exception cref="ArgumentOutOfRangeException">A value is out of range, or all together need more than the 65,535 connections that a
    /// pool can have.</exception>
    public static PoolSizing Recommend(int users, TimeSpan responseTime, TimeSpan interval, int callsPerUser = 1)
    {
        Range(users >= 1, nameof(users), users, "1 or more");
        Time(responseTime, nameof(responseTime));
        Time(interval, nameof(interval));
        Range(callsPerUser >= 1, nameof(callsPerUser), callsPerUser, "1 or more");

        var all = (Int128)users * callsPerUser;
        var concurrent = interval <= responseTime ? all : Over(all * responseTime.Ticks, interval.Ticks);
        var roomy = Over(concurrent * 11, 50) * 5;
        var connections = roomy < all ? roomy : all;
        Range(connections <= MostConnections, nameof(users), users, $"few enough for {MostConnections} connections in one pool, and these need {connections}: spread them over several processes");

        var calls = (int)concurrent;
        return new PoolSizing
        {
            ConcurrentCalls = calls,
            MaxConnections = (int)connections,
            MaxIdleConnections = ((int)connections + 1) / 2,
            Http2Connections = Math.Max(Math.Min((calls + 7) / 8, 8), (calls + 31) / 32),
        };
    }

    /// <summary>The line of code that makes such a pool.</summary>
    public string ToCode() => string.Create(CultureInfo.InvariantCulture, $"new ConnectionPoolOptions {{ MaxConnections = {MaxConnections}, MaxIdleConnections = {MaxIdleConnections} }}");

    static Int128 Over(Int128 amount, long divisor) => (amount + divisor - 1) / divisor;

    static void Time(TimeSpan time, string name) => Range(time > TimeSpan.Zero && time <= TimeSpan.FromDays(1), name, time, "above 0 and at most a day");

    static void Range(bool holds, string name, object value, string range)
    {
        if (!holds)
        {
            throw new ArgumentOutOfRangeException(name, value, string.Create(CultureInfo.InvariantCulture, $"{name} is {value}: must be {range}."));
        }
    }
}
