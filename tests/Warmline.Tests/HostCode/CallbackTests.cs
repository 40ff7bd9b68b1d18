using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.HostCode;

/// <summary>Code of the host's that the pool calls may throw: proxies, certificates, listeners, contents, BeforeSend. It costs what it was
/// asked for; no lease, no permit, no dial, and it never keeps a pool from ending.</summary>
public sealed class CallbackTests
{
    static readonly AsyncLocal<bool> IsOurs = new();

    [Theory(Timeout = Rig.Patience)]
    [InlineData("GetProxy", true)]
    [InlineData("GetProxy", false)]
    [InlineData("IsBypassed", true)]
    [InlineData("IsBypassed", false)]
    public async Task A_proxy_object_that_throws_means_no_proxy_as_with_the_bare_handler(string what, bool isPool)
    {
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var proxy = new Proxy(what);
        var logs = new LogRecorder();
        await using var pool = new ConnectionPool(Rig.Options(mock, options =>
        {
            options.Proxy = proxy;
            options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 1 };
        }), logs);
        using var bare = new SocketsHttpHandler { Proxy = proxy, SslOptions = mock.CreateClientSslOptions() };
        using var client = isPool ? pool.CreateClient(mock.BaseAddress) : new HttpClient(bare) { BaseAddress = mock.BaseAddress };

        for (var i = 0; i < 3; i++)
        {
            using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        }

        Assert.Equal(1, await pool.WarmUpAsync(mock.BaseAddress, 1, Rig.Ct));
        var told = logs.Entries.Where(static entry => entry.Message.Contains("Proxy threw", StringComparison.Ordinal) || entry.Message.Contains("This warning is logged only once", StringComparison.Ordinal)).ToArray();
        Assert.Single(told);
        Assert.DoesNotContain("s3cret", told[0].Message, StringComparison.Ordinal);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("Credentials", true)]
    [InlineData("Credentials", false)]
    [InlineData("GetCredential", true)]
    [InlineData("GetCredential", false)]
    public async Task Credentials_that_throw_are_none(string what, bool isPool)
    {
        // The platform asks for Credentials when its handler starts, and fails there; a login only when the proxy wants one.
        await using var tinyproxy = await Tinyproxy.StartAsync();
        await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
        var proxy = new Proxy(what, tinyproxy.Address);
        await using var pool = new ConnectionPool(Rig.Options(mock, options => options.Proxy = proxy));
        using var bare = new SocketsHttpHandler { Proxy = proxy, SslOptions = mock.CreateClientSslOptions() };
        using var client = isPool ? pool.CreateClient(mock.BaseAddress) : new HttpClient(bare) { BaseAddress = mock.BaseAddress };

        if (!isPool && what == "Credentials")
        {
            await Assert.ThrowsAnyAsync<Exception>(() => client.SendAsync(Calls.Chat(), Rig.Ct));
            return;
        }

        using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_certificate_callback_that_throws_fails_the_dial_and_no_later_one(bool ofServer, bool http2)
    {
        var throws = true;
        var network = new CountedNetwork();
        await using var rig = await Rig.StartAsync(options =>
        {
            options.MaxConnections = 1;
            options.Http2.Mode = http2 ? Http2Mode.Preferred : Http2Mode.Disabled;
            options.SslOptions!.RemoteCertificateValidationCallback = ofServer ? (_, _, _, _) => throws ? throw Fault() : true : null;
            options.SslOptions.LocalCertificateSelectionCallback = ofServer ? null : (_, _, _, _, _) => throws ? throw Fault() : null!;
        }, network: network);

        for (var i = 0; i < 2; i++)
        {
            var error = await Assert.ThrowsAsync<PoolConnectException>(() => rig.CallAsync());
            Assert.Equal((DialPhase.Tls, RequestVerdict.NotSent), (error.Phase, error.Verdict));
            await rig.StatsAsync(static stats => stats is { Connections: 0, Active: 0, Queued: 0 });
        }

        Assert.Equal(0, network.Open);
        throws = false;
        await rig.CallAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("publish")]
    [InlineData("measure")]
    [InlineData("factory")]
    public async Task Metrics_that_throw_cost_themselves(string what)
    {
        using var meters = new Meters(throws: what == "factory");
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Meter.Scope == meters)
            {
                if (what == "publish")
                {
                    throw Fault();
                }

                self.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<double>((_, _, _, _) => throw Fault());
        listener.SetMeasurementEventCallback<long>((_, _, _, _) => throw Fault());
        listener.Start();
        await using var rig = await Rig.StartAsync(static options => options.MaxConnections = 1, meters: meters);

        for (var i = 0; i < 3; i++)
        {
            await rig.CallAsync();
            rig.Pool.Reconnect();
        }

        Assert.ThrowsAny<Exception>(() => what == "measure" ? Collect(listener) : throw Fault());
        await rig.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("sample", true)]
    [InlineData("start", true)]
    [InlineData("stop", false)]
    [InlineData("current", true)]
    public async Task Spans_that_throw_cost_themselves(string what, bool http2)
    {
        using var listener = new ActivityListener
        {
            ShouldListenTo = static source => source.Name == "Warmline",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) =>
                what == "sample" && IsOurs.Value ? throw Fault()
                : IsOurs.Value ? ActivitySamplingResult.AllData : ActivitySamplingResult.None,
            ActivityStarted = activity => Throw(what == "start" && IsOurs.Value),
            ActivityStopped = activity => Throw(what == "stop" && IsOurs.Value),
        };
        ActivitySource.AddActivityListener(listener);
        EventHandler<ActivityChangedEventArgs> changed = (_, _) => Throw(what == "current" && IsOurs.Value);
        Activity.CurrentChanged += changed;
        try
        {
            await using var rig = await Rig.StartAsync(http2, static options => options.MaxConnections = 1);
            IsOurs.Value = true;
            for (var i = 0; i < 3; i++)
            {
                await rig.CallAsync();
            }

            await rig.DoneAsync([.. Enumerable.Range(0, 40).Select(_ => rig.CallAsync())]);
            await rig.QuietAsync();
        }
        finally
        {
            IsOurs.Value = false;
            Activity.CurrentChanged -= changed;
        }
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("at once", true)]
    [InlineData("at once", false)]
    [InlineData("later", true)]
    [InlineData("later", false)]
    [InlineData("length", true)]
    [InlineData("length", false)]
    public async Task A_content_that_throws_costs_no_place(string what, bool http2)
    {
        await using var rig = await Rig.StartAsync(http2, static options => options.MaxConnections = 1);

        for (var i = 0; i < 3; i++)
        {
            using var request = Calls.Chat();
            request.Content = new Content(what);
            await Assert.ThrowsAnyAsync<Exception>(() => rig.SendAsync(request));
            await rig.QuietAsync();
        }

        await rig.CallAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("clock", true)]
    [InlineData("clock", false)]
    [InlineData("caller", true)]
    [InlineData("caller", false)]
    [InlineData("drain", true)]
    [InlineData("dispose", false)]
    public async Task What_a_content_registers_with_its_token_may_throw(string end, bool http2)
    {
        // The clock that ends the call is a timer of the pool's: what is thrown there would end the process.
        var time = ManualTime.Early;
        await using var rig = await Rig.StartAsync(http2, options =>
            (options.Timeouts.Total, options.Http2.PingDelay) = (TimeSpan.FromSeconds(5), Timeout.InfiniteTimeSpan), time: time);
        using var caller = new CancellationTokenSource();
        using var request = Calls.Chat();
        var content = new Content("token");
        request.Content = content;
        var call = rig.SendAsync(request, caller.Token);
        await content.Began.Task.WaitAsync(Rig.Ct);

        switch (end)
        {
            case "clock":
                time.Advance(TimeSpan.FromSeconds(6));
                break;
            case "caller":
                await caller.CancelAsync();
                break;
            case "drain":
                await rig.Pool.DrainAsync(TimeSpan.Zero, Rig.Ct);
                break;
            default:
                await rig.Pool.DisposeAsync();
                break;
        }

        await Assert.ThrowsAnyAsync<Exception>(() => call);
        await rig.QuietAsync();
    }

    [Theory(Timeout = Rig.Patience)]
    [InlineData("at once")]
    [InlineData("later")]
    [InlineData("token")]
    public async Task BeforeSend_that_throws_costs_no_place(string what)
    {
        var time = ManualTime.Early;
        var began = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var throws = true;
        await using var rig = await Rig.StartAsync(options =>
        {
            (options.MaxConnections, options.Timeouts.Total) = (1, TimeSpan.FromSeconds(5));
            options.BeforeSend = (_, token) => !throws ? default : what == "at once" ? throw Fault() : LaterAsync(token);
        }, time: time);
        await rig.Pool.WarmUpAsync(rig.Mock.BaseAddress, 1, Rig.Ct);

        for (var i = 0; i < 2; i++)
        {
            var call = rig.CallAsync();
            if (what == "token")
            {
                await began.Task;
                time.Advance(TimeSpan.FromSeconds(6));
            }

            await Assert.ThrowsAnyAsync<Exception>(() => call);
            await rig.QuietAsync();
            began = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        throws = false;
        await rig.CallAsync();

        async ValueTask LaterAsync(CancellationToken token)
        {
            await Task.Yield();
            if (what == "later")
            {
                throw Fault();
            }

            token.UnsafeRegister(static _ => throw Fault(), null);
            var never = new TaskCompletionSource();
            began.TrySetResult();
            await never.Task.WaitAsync(token);
        }
    }

    [Fact(Timeout = 2 * Rig.Patience)]
    public async Task Listeners_that_throw_when_they_are_asked_first_cost_no_call_of_the_process() =>
        Assert.Equal("OK OK OK", await ChildProcess.RunAsync(typeof(Child)));

    static bool Collect(MeterListener listener)
    {
        listener.RecordObservableInstruments();
        return true;
    }

    static void Throw(bool isDue)
    {
        if (isDue)
        {
            throw Fault();
        }
    }

    static InvalidOperationException Fault() => new("A fault of the host's own: s3cret");

    /// <summary>What is asked once in a process: whether anybody wants the spans, and the instruments of pools without a factory.</summary>
    public sealed class Child
    {
        [Fact(Timeout = Rig.Patience)]
        public async Task Plays()
        {
            ChildProcess.SkipUnlessChild();
            using var spans = new ActivityListener { ShouldListenTo = static source => source.Name == "Warmline" ? throw Fault() : false };
            ActivitySource.AddActivityListener(spans);
            using var meters = new MeterListener();
            meters.InstrumentPublished = static (instrument, _) => Throw(instrument.Meter.Name == "Warmline");
            meters.Start();
            var told = new List<string>();
            for (var i = 0; i < 3; i++)
            {
                await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
                await using var pool = new ConnectionPool(Rig.Options(mock));
                using var client = pool.CreateClient(mock.BaseAddress);
                using var response = await client.SendAsync(Calls.Chat(), Rig.Ct);
                told.Add($"{response.StatusCode}");
            }

            ChildProcess.Tell(string.Join(' ', told));
        }
    }

    sealed class Proxy(string throwsIn, Uri? address = null) : IWebProxy, ICredentials
    {
        public ICredentials? Credentials
        {
            get => throwsIn == "Credentials" ? throw Fault() : this;
            set => throw new NotSupportedException();
        }

        public Uri? GetProxy(Uri destination) => throwsIn == "GetProxy" ? throw Fault() : address;

        public bool IsBypassed(Uri host) => throwsIn == "IsBypassed" ? throw Fault() : false;

        public NetworkCredential? GetCredential(Uri uri, string authType) => throwsIn == "GetCredential" ? throw Fault() : null;
    }

    sealed class Meters(bool throws) : IMeterFactory
    {
        Meter? _meter;

        public Meter Create(MeterOptions options)
        {
            options.Scope = this;
            return throws ? throw Fault() : _meter ??= new Meter(options);
        }

        public void Dispose() => _meter?.Dispose();
    }

    sealed class Content(string what) : HttpContent
    {
        public TaskCompletionSource Began { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) =>
            SerializeToStreamAsync(stream, context, CancellationToken.None);

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken) =>
            what == "at once" ? throw Fault() : LaterAsync(stream, cancellationToken);

        protected override bool TryComputeLength(out long length)
        {
            length = 1_000_000;
            return what == "length" ? throw Fault() : true;
        }

        async Task LaterAsync(Stream stream, CancellationToken cancellationToken)
        {
            await stream.WriteAsync(new byte[1000], cancellationToken);
            await stream.FlushAsync(cancellationToken);
            if (what == "later")
            {
                throw Fault();
            }

            cancellationToken.UnsafeRegister(static _ => throw Fault(), null);
            Began.TrySetResult();
            await new TaskCompletionSource().Task.WaitAsync(cancellationToken);
        }
    }
}
