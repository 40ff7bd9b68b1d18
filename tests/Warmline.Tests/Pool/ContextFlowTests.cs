using System.Collections.Concurrent;
using System.Net;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>
/// What one caller keeps in an <see cref="AsyncLocal{T}"/> (a tenant, a trace, a user) is seen by that caller's own code alone: not by a dial, a timer, or whoever goes on because
/// that caller made room.
/// </summary>
public sealed class ContextFlowTests
{
    static readonly AsyncLocal<string?> Local = new();

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_callers_context_stays_with_its_caller(bool http2)
    {
        var seen = new ConcurrentDictionary<string, string>();
        void Note(string where)
        {
            if (Local.Value is { } value)
            {
                seen.TryAdd(where, value);
            }
        }

        var visits = new ConcurrentDictionary<string, int>();
        void Visit(string where)
        {
            visits.AddOrUpdate(where, 1, static (_, count) => count + 1);
            Note(where);
        }

#pragma warning disable RS0030 // A test of what timers carry needs timers that fire.
        var time = new WatchedTime(TimeProvider.System, () => Visit("timer"));
#pragma warning restore RS0030
        var mock = new Warmline.MockLlm.MockLlmOptions();
        mock.Protocols = http2 ? mock.Protocols : Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1;
        await using (var rig = await Rig.StartAsync(
            options =>
            {
                (options.MaxConnections, options.MaxConcurrentRequests) = (2, 3);
                options.Timeouts.Read = TimeSpan.FromSeconds(30);
                options.SslOptions!.RemoteCertificateValidationCallback = (_, _, _, errors) =>
                {
                    Visit("certificate");
                    return errors is System.Net.Security.SslPolicyErrors.None;
                };
            },
            mock,
            time: time,
            network: new WatchedNetwork(new SystemNetwork(new TcpKeepAliveOptions()), Visit)))
        {
            // 1 Many callers through few places: most go on because another one ended. Each finds its own context, and its own content is written in it.
            await Task.WhenAll(Enumerable.Range(0, 40).Select(i => Task.Run(
                async () =>
                {
                    Local.Value = $"caller {i}";
                    using var request = Calls.Chat();
                    var content = new OwnContent(() => Local.Value);
                    request.Content = content;
                    using var response = await rig.SendAsync(request);
                    Assert.Equal($"caller {i}", Local.Value);
                    await response.Content.ReadAsStringAsync(Rig.Ct);
                    Assert.Equal(($"caller {i}", $"caller {i}"), (Local.Value, content.Seen));
                },
                Rig.Ct)));

            // 2 What the pool does when nobody calls: replaced and warmed connections.
            Local.Value = "operator";
            rig.Pool.Reconnect();
            await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);
            await rig.CallAsync();
            await Eventually.TrueAsync(() => visits.ContainsKey("timer"));
            Local.Value = null;
        }

        foreach (var where in new[] { "resolve", "connect", "certificate", "timer", "write", "close" })
        {
            Assert.True(visits.GetValueOrDefault(where) > 0, $"never came to: {where}");
        }

        // A request is written, and a connection closed, in the flow of whoever does it, at that moment and no longer.
        Assert.DoesNotContain(seen, entry => entry.Key is not ("write" or "read" or "close"));
    }

    /// <summary>Content of the caller's own, which may look at the caller's context.</summary>
    sealed class OwnContent(Func<string?> look) : HttpContent
    {
        public string? Seen { get; private set; }

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            Seen = look();
            await stream.WriteAsync(await Calls.Body().ReadAsByteArrayAsync());
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    sealed class WatchedTime(TimeProvider inner, Action fired) : TimeProvider
    {
        public override long TimestampFrequency => inner.TimestampFrequency;

        public override long GetTimestamp() => inner.GetTimestamp();

        public override DateTimeOffset GetUtcNow() => inner.GetUtcNow();

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => inner.CreateTimer(
            value =>
            {
                fired();
                callback(value);
            },
            state, dueTime, period);
    }

    sealed class WatchedNetwork(INetwork inner, Action<string> visit) : INetwork
    {
        public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken)
        {
            visit("resolve");
            return inner.ResolveAsync(host, cancellationToken);
        }

        public async ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken)
        {
            visit("connect");
            return new WatchedStream(await inner.ConnectAsync(endPoint, cancellationToken), visit);
        }
    }

    sealed class WatchedStream(Stream inner, Action<string> visit) : PassingStream(inner)
    {
        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var count = await base.ReadAsync(buffer, cancellationToken);
            visit("read");
            return count;
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            visit("write");
            return base.WriteAsync(buffer, cancellationToken);
        }

        public override void Write(byte[] buffer, int offset, int count)
        {
            visit("write");
            base.Write(buffer, offset, count);
        }

        protected override void Dispose(bool disposing)
        {
            visit("close");
            base.Dispose(disposing);
        }
    }
}
