using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Warmline.Cli.Demo;
using Warmline.MockLlm;
using Warmline.Options;
using Warmline.Transport;

namespace Warmline.Cli.Probe;

/// <summary>
/// Measures with the pool's own dialer and slots, step by step:
/// <code>
///   1 cold     a connection, phase by phase, and the first call on it
///   2 warm     further calls on the same connection
///   3 second   another connection and a call: the name is known and the TLS session may be resumed
///   4 idle     waits until the server closes the first connection, or the time is over; then asks it once more
/// </code>
/// </summary>
internal sealed class ProbeRun(ProbeSettings settings, TimeProvider time)
{
    static readonly TimeSpan Tick = TimeSpan.FromSeconds(1);
    static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(200);

    readonly ConnectionKey _key = settings.Key;
    readonly ProbeNetwork _network = new(new SystemNetwork(new TcpKeepAliveOptions()));
    Dialer? _dialer;

    public ProbeResult Result { get; } = new();

    /// <summary>Fills <see cref="Result"/>; a cancelled <paramref name="stop"/> ends it where it is.</summary>
    /// <param name="idleTick">Called while an idle connection is watched, with the time that has passed.</param>
    /// <param name="stop">Ends the probe.</param>
    /// <exception cref="ProbeException">There was no answer.</exception>
    public async Task RunAsync(Action<TimeSpan> idleTick, CancellationToken stop)
    {
        _dialer = new Dialer(_network, new DnsCache(_network, new DnsOptions(), time), CreateSslOptions(), settings.Mode, time, HttpClient.DefaultProxy);
        Owner? first = null;
        try
        {
            (first, Result.Cold) = await ConnectAsync(stop);
            await WarmAsync(first, stop);
            var idleSince = time.GetTimestamp();
            first.Slot!.WatchIdle();
            (var second, Result.Second) = await ConnectAsync(stop);
            second.Slot!.Close();
            if (settings.Idle is { } idle)
            {
                await WatchIdleAsync(first, idleSince, idle, idleTick, stop);
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            Result.Interrupted = true;
        }
        finally
        {
            first?.Slot!.Close();
        }
    }

    /// <summary>Runs the same code against a server of this process first, or the cold call would hold the time to compile it.</summary>
    public static async Task CompileAsync(TimeProvider time, CancellationToken stop)
    {
        await using var server = await MockLlmServer.StartAsync(cancellationToken: stop);
        foreach (var mode in new[] { Http2Mode.Preferred, Http2Mode.Disabled })
        {
            await new ProbeRun(new ProbeSettings
            {
                Address = server.BaseAddress, Method = HttpMethod.Get, Headers = [("user-agent", "x")], Authority = null, Insecure = true, Mode = mode, Count = 1, Idle = null,
                Limit = TimeSpan.FromSeconds(10), Direct = true,
            }, time).RunAsync(_ => { }, stop);
        }
    }

    async Task<(Owner Owner, ProbeConnection Connection)> ConnectAsync(CancellationToken stop)
    {
        DialedConnection dialed;
        _network.Reset();
        try
        {
            dialed = await _dialer!.DialAsync(_key, settings.Limit, stop);
        }
        catch (DialException failure)
        {
            throw new ProbeException(failure.TimedOut ? ProbeExit.Timeout : _key.Proxy is not null && failure.Phase is not DialPhase.Tls ? ProbeExit.Proxy : failure.Phase switch
            {
                DialPhase.Dns => ProbeExit.Dns,
                DialPhase.Tcp => ProbeExit.Tcp,
                _ => ProbeExit.Tls,
            }, failure.Message + (failure.Message.Contains("is not trusted", StringComparison.Ordinal) ? " If it comes from an authority of your own, name that with --ca-file." : ""));
        }

        var handshakeBytes = _network.BytesRead;
        Result.IsHttp2 = dialed.IsHttp2;
        if (dialed.Transport is SslStream tls)
        {
            Result.Tls ??= new ProbeTls(tls.SslProtocol, tls.NegotiatedCipherSuite, tls.NegotiatedApplicationProtocol.Protocol.IsEmpty ? "none" : tls.NegotiatedApplicationProtocol.ToString(),
                tls.RemoteCertificate is { } certificate ? new X509Certificate2(certificate) : null);
        }

        var owner = new Owner();
        owner.Slot = new Slot(dialed, new Http2Options(), time, owner, null);
        try
        {
            var call = await CallAsync(owner.Slot, stop);
            NoteHttp2(owner.Slot);
            return (owner, new ProbeConnection(dialed.Timings, dialed.RemoteEndPoint, handshakeBytes, call));
        }
        catch
        {
            owner.Slot.Close();
            throw;
        }
    }

    async Task WarmAsync(Owner owner, CancellationToken stop)
    {
        for (var i = 0; i < settings.Count && !Result.NotKept; i++)
        {
            try
            {
                Result.Warm.Add(await CallAsync(owner.Slot!, stop));
            }
            catch (ProbeException failure) when (failure.ExitCode == ProbeExit.Http)
            {
                Result.NotKept = true;   // it answered the first call, so this is a server that does not keep connections
            }
        }

        NoteHttp2(owner.Slot!);
    }

    async Task WatchIdleAsync(Owner owner, long started, TimeSpan longest, Action<TimeSpan> tick, CancellationToken stop)
    {
        var slot = owner.Slot!;
        ProbeIdle idle;
        try
        {
            while (!owner.Ended.IsCompleted && time.GetElapsedTime(started) is var waited && waited < longest)
            {
                tick(waited);
                var left = longest - waited;
                await Task.WhenAny(owner.Ended, Task.Delay(left < Tick ? left : Tick, time, stop));
                stop.ThrowIfCancellationRequested();
            }
        }
        finally
        {
            var passed = time.GetElapsedTime(started);
            Result.Idle = idle = new ProbeIdle(passed < longest ? passed : longest, null, null);
        }

        if (owner.Ended.IsCompleted)
        {
            // The frame that says so and the end of the connection come in either order.
            await Task.WhenAny(owner.Closed, Task.Delay(Grace, time, stop));
            Result.Idle = idle with { Ended = slot.Frames is { LastStreamId: < int.MaxValue } ? "goaway" : "closed" };
            return;
        }

        try
        {
            await CallAsync(slot, stop);
            Result.Idle = idle with { Answers = true };
        }
        catch (ProbeException)
        {
            Result.Idle = idle with { Answers = false };
        }
    }

    async Task<ProbeCall> CallAsync(Slot slot, CancellationToken stop)
    {
        using var limit = new CancellationTokenSource(settings.Limit, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, limit.Token);
        using var request = new HttpRequestMessage(settings.Method, settings.Address) { Version = slot.Version, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        foreach (var (name, value) in settings.Headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        if (slot.ProxyLogin is { } login)
        {
            request.Headers.TryAddWithoutValidation("Proxy-Authorization", login);
        }

        var started = time.GetTimestamp();
        try
        {
            using var response = await slot.SendAsync(request, either.Token);
            var firstByte = time.GetElapsedTime(started);
            await using var body = await response.Content.ReadAsStreamAsync(either.Token);
            var buffer = new byte[16 * 1024];
            long bytes = 0;
            while (await body.ReadAsync(buffer, either.Token) is > 0 and var read)
            {
                bytes += read;
            }

            return new ProbeCall(response.StatusCode, firstByte, time.GetElapsedTime(started) - firstByte, bytes);
        }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new ProbeException(ProbeExit.Timeout, $"{_key.Authority} took the connection, but its answer was not there within {settings.Limit.TotalSeconds:0.###} s.");
        }
        catch (Exception failure) when (failure is HttpRequestException or IOException)
        {
            var cause = failure.InnerException is { Message: { Length: > 0 } inner } and not SlotDeadException ? inner : failure.InnerException is SlotDeadException ? "it closed the connection" : failure.Message;
            throw new ProbeException(ProbeExit.Http, $"{_key.Authority} took the connection, but gave no whole answer: {OneLine(cause)}.");
        }
    }

    void NoteHttp2(Slot slot)
    {
        if (slot.Frames is { } said)
        {
            Result.Http2 = new ProbeHttp2(said.MaxConcurrentStreams is < int.MaxValue and var streams ? streams : null, said.InitialWindowSize, said.MaxFrameSize, said.ConnectionWindow);
        }
    }

#pragma warning disable CA5359 // it is what --insecure asks for, and the report says so
    SslClientAuthenticationOptions? CreateSslOptions() =>
        settings.Insecure ? new SslClientAuthenticationOptions { RemoteCertificateValidationCallback = (_, _, _, _) => true }
        : settings.Authority is { } authority ? RealEndpoint.Trusting(authority) : null;
#pragma warning restore

    static string OneLine(string text) => string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)).TrimEnd('.');

    /// <summary>Hears when the connection ends.</summary>
    sealed class Owner : ISlotOwner
    {
        readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
        readonly TaskCompletionSource _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Slot? Slot { get; set; }

        public Task Ended => _ended.Task;

        public Task Closed => _closed.Task;

        void ISlotOwner.SettingsSeen(Slot slot, int maxConcurrentStreams)
        {
        }

        void ISlotOwner.Closing(Slot slot, ConnectionEnd end) => _ended.TrySetResult();

        void ISlotOwner.Closed(Slot slot)
        {
            _ended.TrySetResult();
            _closed.TrySetResult();
        }
    }
}
