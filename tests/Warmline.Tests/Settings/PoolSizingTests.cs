using System.Globalization;
using Xunit;

namespace Warmline.Tests.Settings;

public sealed class PoolSizingTests
{
    [Theory]
    [InlineData(100, 8, 30, 1, 27, 30, 15, 4)]
    [InlineData(50, 8, 8, 2, 100, 100, 50, 8)]     // all at once: no more can come, so no headroom
    [InlineData(50, 8, 1, 2, 100, 100, 50, 8)]     // asking more often than answers come changes nothing
    [InlineData(1, 8, 30, 1, 1, 1, 1, 1)]
    [InlineData(10, 1, 3600, 1, 1, 5, 3, 1)]
    [InlineData(150, 10, 30, 1, 50, 55, 28, 7)]    // an exact tenth more, 55, is rounded no further
    [InlineData(3000, 10, 60, 1, 500, 550, 275, 16)]
    public void Users_and_their_calls_give_the_size(int users, int response, int interval, int calls, int concurrent, int connections, int idle, int http2)
    {
        var size = PoolSizing.Recommend(users, TimeSpan.FromSeconds(response), TimeSpan.FromSeconds(interval), calls);

        Assert.Equal((concurrent, connections, idle, http2), (size.ConcurrentCalls, size.MaxConnections, size.MaxIdleConnections, size.Http2Connections));
        Assert.Equal((connections, http2), (size.DescriptorsHttp1, size.DescriptorsHttp2));
        Assert.Equal(size.MemoryHttp1 / connections, size.MemoryHttp2 / http2);
        Assert.InRange(size.MemoryHttp1 / connections, 16 * 1024, 256 * 1024);
        Assert.Equal(string.Create(CultureInfo.InvariantCulture, $"new ConnectionPoolOptions {{ MaxConnections = {connections}, MaxIdleConnections = {idle} }}"), size.ToCode());
    }

    [Theory]
    [InlineData(0, 8, 30, 1, "users", "users is 0: must be 1 or more.")]
    [InlineData(1, 0, 30, 1, "responseTime", "responseTime is 00:00:00: must be above 0 and at most a day.")]
    [InlineData(1, 8, 86_401, 1, "interval", "interval is 1.00:00:01: must be above 0 and at most a day.")]
    [InlineData(1, 8, 30, 0, "callsPerUser", "callsPerUser is 0: must be 1 or more.")]
    [InlineData(int.MaxValue, 8, 8, int.MaxValue, "users", "needs|65535 connections in one pool|several processes")]
    public void What_is_out_of_range_is_named_with_value_and_range(int users, int response, int interval, int calls, string name, string message)
    {
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => PoolSizing.Recommend(users, TimeSpan.FromSeconds(response), TimeSpan.FromSeconds(interval), calls));

        Assert.Equal(name, error.ParamName);
        Assert.All(message.Split('|').Where(part => part != "needs"), part => Assert.Contains(part, error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void The_recommended_options_are_valid()
    {
        var size = PoolSizing.Recommend(100, TimeSpan.FromSeconds(8), TimeSpan.FromSeconds(30));
        using var pool = new ConnectionPool(new ConnectionPoolOptions { MaxConnections = size.MaxConnections, MaxIdleConnections = size.MaxIdleConnections });
    }
}
