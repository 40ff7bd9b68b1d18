using System.Globalization;
using System.Net;
using System.Net.Security;

namespace Warmline.Options;

/// <summary>The options, checked and frozen.</summary>
internal sealed partial record PoolSettings
{
    public const string DefaultName = "default";

    /// <summary>Null where the options name none: the default one for a new pool, and for one that runs no change.</summary>
    public required string? Name { get; init; }

    public required bool Enabled { get; init; }

    public required int MaxConnections { get; init; }

    public required int MaxConnectionsPerHost { get; init; }

    public required int MaxConcurrentRequests { get; init; }

    public required int MaxIdleConnections { get; init; }

    public required TimeSpan IdleTimeout { get; init; }

    public required TimeSpan ConnectionLifetime { get; init; }

    public required int MaxQueueLength { get; init; }

    public required int RetryBudget { get; init; }

    public required TimeSpan? LeakThreshold { get; init; }

    public required Http2Mode Http2Mode { get; init; }

    public required int TargetStreams { get; init; }

    public required int SpreadConnections { get; init; }

    public required int MaxStreamsPerConnection { get; init; }

    /// <summary>Pings only; the rest stands above. A copy, as the next two: the caller's objects may change.</summary>
    public required Http2Options Http2 { get; init; }

    public required CallTimeouts Timeouts { get; init; }

    public required TimeSpan ConnectTimeout { get; init; }

    public required DnsOptions Dns { get; init; }

    public required TcpKeepAliveOptions TcpKeepAlive { get; init; }

    public required SslClientAuthenticationOptions? SslOptions { get; init; }

    /// <summary>Whom to ask for the proxy of a call; null when none is to be used.</summary>
    public required IWebProxy? Proxy { get; init; }

    public required bool AllowAutoRedirect { get; init; }

    public required DecompressionMethods AutomaticDecompression { get; init; }

    public required TimeSpan? StatsLogInterval { get; init; }

    public required Func<HttpRequestMessage, CancellationToken, ValueTask>? BeforeSend { get; init; }

    /// <summary>Lanes and tenants.</summary>
    public required SharingSettings Sharing { get; init; }

    /// <summary>Whether requests are paced to origins of which <see cref="Providers"/> says nothing else.</summary>
    public required bool Pacing { get; init; }

    /// <summary>What the options say of single origins, by <see cref="ConnectionKey.Origin"/>.</summary>
    public required ProviderChoices Providers { get; init; }

    /// <summary>Connections to hold ready, by key.</summary>
    public required IReadOnlyDictionary<ConnectionKey, int> WarmConnections { get; init; }

    /// <summary>The options that <paramref name="other"/> would change and that are fixed for a pool's life.</summary>
    public IReadOnlyList<string> FixedIn(PoolSettings other)
    {
        var differ = new List<string>();
        Same(other.Name is null || Name == other.Name, "Name");
        Same(Http2Mode == other.Http2Mode, "Http2.Mode");
        Same(Http2.PingDelay == other.Http2.PingDelay, "Http2.PingDelay");
        Same(Http2.PingTimeout == other.Http2.PingTimeout, "Http2.PingTimeout");
        Same(Dns.CacheEnabled == other.Dns.CacheEnabled, "Dns.CacheEnabled");
        Same(Dns.CacheTtl == other.Dns.CacheTtl, "Dns.CacheTtl");
        Same(Dns.MaxStale == other.Dns.MaxStale, "Dns.MaxStale");
        Same(Dns.FailureTtl == other.Dns.FailureTtl, "Dns.FailureTtl");
        Same(TcpKeepAlive.Idle == other.TcpKeepAlive.Idle, "TcpKeepAlive.Idle");
        Same(TcpKeepAlive.Interval == other.TcpKeepAlive.Interval, "TcpKeepAlive.Interval");
        Same(TcpKeepAlive.Count == other.TcpKeepAlive.Count, "TcpKeepAlive.Count");
        Same(AllowAutoRedirect == other.AllowAutoRedirect, "AllowAutoRedirect");
        Same(AutomaticDecompression == other.AutomaticDecompression, "AutomaticDecompression");
        Same(ReferenceEquals(SslOptions, other.SslOptions), "SslOptions");
        Same(ReferenceEquals(Proxy, other.Proxy), "Proxy");
        Same(StatsLogInterval == other.StatsLogInterval, "StatsLogInterval");
        Same(Sharing.Isolation == other.Sharing.Isolation, "Tenants.Isolation");
        return differ;

        void Same(bool same, string name)
        {
            if (!same)
            {
                differ.Add(name);
            }
        }
    }

    /// <summary>Whether there is nothing to do to become <paramref name="other"/>.</summary>
    public bool IsSameAs(PoolSettings other) => FixedIn(other).Count == 0 && WarmConnections.Count == other.WarmConnections.Count && !WarmConnections.Except(other.WarmConnections).Any()
        && this == other with { Name = Name, WarmConnections = WarmConnections, Http2 = Http2, Dns = Dns, TcpKeepAlive = TcpKeepAlive };

    /// <summary>Checks all options; every problem is reported, with name, value and range.</summary>
    public static PoolSettings? Freeze(ConnectionPoolOptions options, List<string> problems)
    {
        problems.AddRange(options.ConfigurationProblems);
        var check = new Check(problems);
        check.That(options.Name is null || IsName(options.Name), "Name", $"'{options.Name}'", "must be 1 to 64 characters, none of them a control character, or left unset");
        check.Range("MaxConnections", options.MaxConnections, 1, 65_535);
        check.Range("MaxConnectionsPerHost", options.MaxConnectionsPerHost, 1, 65_535);
        check.Range("MaxConcurrentRequests", options.MaxConcurrentRequests, 1, int.MaxValue);
        check.Range("MaxIdleConnections", options.MaxIdleConnections, 0, Check.Operand(options.MaxConnections, 1), "MaxConnections");
        check.Range("MaxQueueLength", options.MaxQueueLength, 1, int.MaxValue);
        check.Range("RetryBudget", options.RetryBudget, 0, int.MaxValue);
        check.Time("IdleTimeout", options.IdleTimeout);
        check.Time("ConnectionLifetime", options.ConnectionLifetime);
        if (check.Present("Http2", options.Http2))
        {
            check.Member("Http2.Mode", options.Http2.Mode);
            check.Range("Http2.MaxStreamsPerConnection", options.Http2.MaxStreamsPerConnection, 1, 1_000);
            check.Range("Http2.TargetStreams", options.Http2.TargetStreams, 1, Check.Operand(options.Http2.MaxStreamsPerConnection, 1), "Http2.MaxStreamsPerConnection");
            check.Range("Http2.SpreadConnections", options.Http2.SpreadConnections, 1, 1_024);
            check.Time("Http2.PingDelay", options.Http2.PingDelay, TimeSpan.FromSeconds(1));
            check.Time("Http2.PingTimeout", options.Http2.PingTimeout, TimeSpan.FromSeconds(1));
        }

        if (check.Present("Timeouts", options.Timeouts))
        {
            check.Timeouts("Timeouts", options.Timeouts);
        }

        if (check.Present("Dns", options.Dns) && options.Dns.CacheEnabled)
        {
            check.Time("Dns.CacheTtl", options.Dns.CacheTtl, infinite: false);
            check.That(options.Dns.MaxStale >= TimeSpan.Zero && options.Dns.MaxStale.TotalDays <= 24, "Dns.MaxStale", options.Dns.MaxStale, "must be 0 to 24 days");
            check.That(options.Dns.FailureTtl >= TimeSpan.Zero && options.Dns.FailureTtl <= TimeSpan.FromMinutes(5), "Dns.FailureTtl", options.Dns.FailureTtl, "must be 0 to 5 minutes");
        }

        if (check.Present("TcpKeepAlive", options.TcpKeepAlive))
        {
            check.WholeSeconds("TcpKeepAlive.Idle", options.TcpKeepAlive.Idle);
            check.WholeSeconds("TcpKeepAlive.Interval", options.TcpKeepAlive.Interval);
            check.Range("TcpKeepAlive.Count", options.TcpKeepAlive.Count, 1, 127);
        }

        if (options.SslOptions is { } ssl)
        {
            check.That(string.IsNullOrEmpty(ssl.TargetHost), "SslOptions.TargetHost", ssl.TargetHost, "must be left unset: the pool sets it for each connection");
            check.That(ssl.ApplicationProtocols is null or { Count: 0 }, "SslOptions.ApplicationProtocols", "a list", "must be left unset: use Http2.Mode");
        }

        check.That(options.UseProxy || options.Proxy is null, "Proxy", "set", "must be left unset while UseProxy is false");
        if (options.Proxy is WebProxy { Address: { } address } && new ProxyAddress(address) is { IsSupported: false } unsupported)
        {
            check.That(false, "Proxy.Address", unsupported, "must be an http or https address: other kinds of proxy are not supported");
        }

        const DecompressionMethods Known = DecompressionMethods.GZip | DecompressionMethods.Deflate | DecompressionMethods.Brotli;
        check.That((options.AutomaticDecompression & ~Known) is DecompressionMethods.None || options.AutomaticDecompression is DecompressionMethods.All, "AutomaticDecompression", options.AutomaticDecompression,
            "must be made of GZip, Deflate and Brotli, or All");
        if (options.StatsLogInterval is { } interval)
        {
            check.Time("StatsLogInterval", interval, TimeSpan.FromSeconds(1), infinite: false);
        }

        if (options.LeakThreshold is { } threshold)
        {
            check.Time("LeakThreshold", threshold, TimeSpan.FromSeconds(1), infinite: false);
        }

        check.Lanes(options);
        if (check.Present("Tenants", options.Tenants))
        {
            check.Tenants(options.Tenants);
        }

        var maxIdle = Check.Operand(options.MaxIdleConnections ?? (options.MaxConnections < 1 ? -1 : (options.MaxConnections + 1) / 2), 0);
        var proxy = options.UseProxy ? options.Proxy ?? HttpClient.DefaultProxy : null;
        var warm = check.Hosts(options, maxIdle, proxy);
        if (problems.Count > 0)
        {
            return null;
        }

        var timeouts = CallTimeouts.Default.With(options.Timeouts);
        return new PoolSettings
        {
            Name = options.Name,
            Enabled = options.Enabled,
            MaxConnections = options.MaxConnections,
            MaxConnectionsPerHost = options.MaxConnectionsPerHost ?? int.MaxValue,
            MaxConcurrentRequests = options.MaxConcurrentRequests ?? int.MaxValue,
            MaxIdleConnections = maxIdle,
            IdleTimeout = options.IdleTimeout,
            ConnectionLifetime = options.ConnectionLifetime,
            MaxQueueLength = options.MaxQueueLength,
            RetryBudget = options.RetryBudget,
            LeakThreshold = options.LeakThreshold,
            Http2Mode = options.Http2.Mode,
            TargetStreams = options.Http2.TargetStreams,
            SpreadConnections = options.Http2.SpreadConnections,
            MaxStreamsPerConnection = options.Http2.MaxStreamsPerConnection,
            Http2 = new Http2Options { PingDelay = options.Http2.PingDelay, PingTimeout = options.Http2.PingTimeout },
            Timeouts = timeouts,
            ConnectTimeout = options.Timeouts.Connect ?? TimeSpan.FromSeconds(5),
            Dns = new DnsOptions { CacheEnabled = options.Dns.CacheEnabled, CacheTtl = options.Dns.CacheTtl, MaxStale = options.Dns.MaxStale, FailureTtl = options.Dns.FailureTtl },
            TcpKeepAlive = new TcpKeepAliveOptions { Idle = options.TcpKeepAlive.Idle, Interval = options.TcpKeepAlive.Interval, Count = options.TcpKeepAlive.Count },
            SslOptions = options.SslOptions,
            Proxy = proxy,
            AllowAutoRedirect = options.AllowAutoRedirect,
            AutomaticDecompression = options.AutomaticDecompression,
            StatsLogInterval = options.StatsLogInterval,
            BeforeSend = options.BeforeSend,
            Sharing = SharingOf(options, timeouts),
            Pacing = options.Pacing,
            Providers = ProvidersOf(options),
            WarmConnections = options.Enabled ? warm : [],   // a pool that is switched off holds nothing ready
        };
    }

    public static bool IsName(string name) => name.Length is >= 1 and <= 64 && !name.Any(char.IsControl);

    static SharingSettings SharingOf(ConnectionPoolOptions options, CallTimeouts timeouts)
    {
        var tenants = options.Tenants;
        var each = new TenantLimits(1, tenants.MaxConcurrentRequests ?? int.MaxValue, tenants.MaxConnections ?? int.MaxValue, tenants.MaxQueueLength ?? int.MaxValue);
        return new SharingSettings
        {
            Lanes = options.EffectiveLanes.ToDictionary(lane => lane.Key, lane => new LaneSettings(lane.Key, lane.Value.Reserve, lane.Value.Ceiling ?? int.MaxValue, lane.Value.MaxQueueLength ?? int.MaxValue,
                timeouts.With(lane.Value.Timeouts, $"Lanes[\"{lane.Key}\"].")), StringComparer.Ordinal),
            Isolation = tenants.Isolation,
            EachTenant = each,
            Named = tenants.Named.ToDictionary(tenant => tenant.Key, tenant => new TenantLimits(tenant.Value.Weight, tenant.Value.MaxConcurrentRequests ?? each.MaxConcurrentRequests,
                tenant.Value.MaxConnections ?? each.MaxConnections, tenant.Value.MaxQueueLength ?? each.MaxQueueLength), StringComparer.Ordinal),
            MaxKnownTenants = tenants.MaxKnown,
        };
    }

    static ProviderChoices ProvidersOf(ConnectionPoolOptions options)
    {
        var choices = new Dictionary<string, (ProviderProfile? Profile, bool? Pacing)>(StringComparer.OrdinalIgnoreCase);
        foreach (var (name, host) in options.Hosts)
        {
            if (host is { Profile: not null } or { Pacing: not null } && OriginOf(name) is { } origin)
            {
                choices[KeyOf(origin, Http2Mode.Preferred).Origin] = (host.Profile, host.Pacing);
            }
        }

        return new ProviderChoices(choices);
    }

    /// <summary>The address that a name in <see cref="ConnectionPoolOptions.Hosts"/> means; null when it is none.</summary>
    static Uri? OriginOf(string name) =>
        Uri.TryCreate(name.Contains("://", StringComparison.Ordinal) ? name : "https://" + name, UriKind.Absolute, out var origin)
            && (origin.Scheme == Uri.UriSchemeHttps || origin.Scheme == Uri.UriSchemeHttp) ? origin : null;

    /// <summary>Checks the options of one call or client.</summary>
    public static void CheckRequest(string? lane, string? tenant, int? priority, TimeSpan? maxQueueTime, PoolTimeouts? timeouts, List<string> problems)
    {
        var check = new Check(problems);
        check.That(lane is null or { Length: > 0 }, "Lane", "empty", "must be the name of one of the pool's lanes, or left unset");
        check.That(tenant is null or { Length: > 0 and <= 128 }, "Tenant", $"{tenant?.Length} characters long", "must be 1 to 128 characters, or left unset");
        check.That(priority is null or (>= -10 and <= 10), "Priority", priority, "must be -10 to 10");
        if (maxQueueTime is { } time)
        {
            check.Time("MaxQueueTime", time);
        }

        if (timeouts is not null)
        {
            check.Timeouts("Timeouts", timeouts);
            check.That(timeouts.Connect is null, "Timeouts.Connect", timeouts.Connect, "must be left unset here: a dial serves whoever comes, so it is the pool's alone");
        }
    }

    readonly struct Check(List<string> problems)
    {
        public void That(bool holds, string name, object? value, string rule)
        {
            if (!holds)
            {
                problems.Add(string.Create(CultureInfo.InvariantCulture, $"{name} is {value}: {rule}."));
            }
        }

        /// <summary>A limit that is another option's value; none where that is out of range itself, which is told already.</summary>
        public static int Operand(int value, int min) => value < min ? int.MaxValue : value;

        public bool Present(string name, object? value)
        {
            That(value is not null, name, "null", "must be an object; leave it as it is for the defaults");
            return value is not null;
        }

        public void Range(string name, int? value, int min, int max, string? maxName = null)
        {
            var top = max == int.MaxValue ? "" : maxName is null ? $" to {max}" : $" to {maxName} ({max})";
            That(value is null || (value >= min && value <= max), name, value, max == int.MaxValue ? $"must be {min} or more" : $"must be {min}{top}");
        }

        public void Time(string name, TimeSpan value, TimeSpan min = default, bool infinite = true) =>
            That(value > TimeSpan.Zero && value >= min && value.TotalDays <= 24 || (infinite && value == Timeout.InfiniteTimeSpan), name, value,
                (min > TimeSpan.Zero ? $"must be {min} to 24 days" : "must be above 0 and at most 24 days") + (infinite ? ", or Timeout.InfiniteTimeSpan for never" : ""));

        public void WholeSeconds(string name, TimeSpan value) =>
            That(value >= TimeSpan.FromSeconds(1) && value <= TimeSpan.FromHours(9) && value.Ticks % TimeSpan.TicksPerSecond == 0, name, value, "must be whole seconds, 1 s to 9 h");

        public void Member(string name, Http2Mode value) => That(Enum.IsDefined(value), name, value, "must be Preferred, Disabled or Required");

        public void Timeouts(string name, PoolTimeouts timeouts)
        {
            foreach (var (clock, value) in new[]
            {
                ("Pool", timeouts.Pool), ("Connect", timeouts.Connect), ("Write", timeouts.Write), ("FirstByte", timeouts.FirstByte), ("Read", timeouts.Read), ("Content", timeouts.Content), ("Total", timeouts.Total),
            })
            {
                if (value is { } time)
                {
                    Time($"{name}.{clock}", time);
                }
            }
        }

        public void Lanes(ConnectionPoolOptions options)
        {
            That(options.Lanes.Count <= 32, "Lanes", $"{options.Lanes.Count} lanes", "must be at most 32");
            long reserved = 0;
            foreach (var (name, lane) in options.Lanes)
            {
                var path = $"Lanes[\"{name}\"]";
                That(name.Length is > 0 and <= 64, path, $"a name of {name.Length} characters", "must have 1 to 64");
                if (!Present(path, lane))
                {
                    continue;
                }

                Range($"{path}.Ceiling", lane.Ceiling, 0, int.MaxValue);
                Range($"{path}.Reserve", lane.Reserve, 0, lane.Ceiling is >= 0 and var most ? most : int.MaxValue, $"{path}.Ceiling");
                Range($"{path}.MaxQueueLength", lane.MaxQueueLength, 1, int.MaxValue);
                reserved += lane.Reserve;
                if (Present($"{path}.Timeouts", lane.Timeouts))
                {
                    Timeouts($"{path}.Timeouts", lane.Timeouts);
                    That(lane.Timeouts.Connect is null, $"{path}.Timeouts.Connect", lane.Timeouts.Connect, "must be left unset here: a dial serves whoever comes, so it is the pool's alone");
                }
            }

            That(options.MaxConcurrentRequests is not (>= 1 and var all) || reserved < all, "The sum of Lanes[…].Reserve", reserved, $"must be below MaxConcurrentRequests ({options.MaxConcurrentRequests}), or calls in no lane could never go");
        }

        public void Tenants(TenantsOptions tenants)
        {
            That(Enum.IsDefined(tenants.Isolation), "Tenants.Isolation", tenants.Isolation, "must be Leases or Connections");
            Range("Tenants.MaxKnown", tenants.MaxKnown, 1, int.MaxValue);
            Tenant("Tenants", tenants.MaxConcurrentRequests, tenants.MaxConnections, tenants.MaxQueueLength, tenants.Isolation);
            foreach (var (name, tenant) in tenants.Named)
            {
                var path = $"Tenants.Named[\"{name}\"]";
                That(name.Length is > 0 and <= 128, path, $"a name of {name.Length} characters", "must have 1 to 128");
                if (Present(path, tenant))
                {
                    Range($"{path}.Weight", tenant.Weight, 1, 1_000);
                    Tenant(path, tenant.MaxConcurrentRequests, tenant.MaxConnections, tenant.MaxQueueLength, tenants.Isolation);
                }
            }
        }

        void Tenant(string path, int? maxConcurrentRequests, int? maxConnections, int? maxQueueLength, TenantIsolation isolation)
        {
            Range($"{path}.MaxConcurrentRequests", maxConcurrentRequests, 0, int.MaxValue);
            Range($"{path}.MaxConnections", maxConnections, 1, 65_535);
            Range($"{path}.MaxQueueLength", maxQueueLength, 1, int.MaxValue);
            That(maxConnections is null || isolation is TenantIsolation.Connections, $"{path}.MaxConnections", maxConnections, "must be left unset while Tenants.Isolation is Leases: connections are shared then; set Isolation to Connections, or MaxConcurrentRequests");
        }

        public Dictionary<ConnectionKey, int> Hosts(ConnectionPoolOptions options, int maxIdle, IWebProxy? proxy)
        {
            var warm = new Dictionary<ConnectionKey, int>();
            foreach (var (name, host) in options.Hosts)
            {
                if (OriginOf(name) is not { } origin)
                {
                    That(false, $"Hosts[\"{name}\"]", "not an origin", "must be like https://api.openai.com or api.openai.com");
                    continue;
                }

                Range($"Hosts[\"{name}\"].WarmConnections", host?.WarmConnections ?? 0, 0, maxIdle, "MaxIdleConnections");
                var key = KeyOf(origin, options.Http2?.Mode ?? Http2Mode.Preferred, proxy);
                warm.Remove(key);   // the same origin written in another way: the later one counts
                if (host is { WarmConnections: > 0 })
                {
                    warm[key] = host.WarmConnections;
                }
            }

            var sum = warm.Values.Sum(static count => (long)count);
            That(sum <= maxIdle, "The sum of Hosts[…].WarmConnections", sum, $"must be at most MaxIdleConnections ({maxIdle}), or they would close each other");
            return warm;
        }
    }
}

/// <summary>The clocks of a call, none of them unset; infinite is <see cref="Timeout.InfiniteTimeSpan"/>.</summary>
internal sealed record CallTimeouts(TimeSpan Pool, TimeSpan Write, TimeSpan FirstByte, TimeSpan Read, TimeSpan Content, TimeSpan Total)
{
    public static CallTimeouts Default { get; } = new(TimeSpan.FromSeconds(15), TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(600), TimeSpan.FromSeconds(120), TimeSpan.FromSeconds(600), Timeout.InfiniteTimeSpan);

    /// <summary>What the user calls the limit that <see cref="Pool"/> holds.</summary>
    public string PoolClock { get; init; } = "Timeouts.Pool";

    /// <summary>Whether the wait for a place ends with the whole call's time, before its own.</summary>
    public bool TotalEndsWait => Total > TimeSpan.Zero && (Pool < TimeSpan.Zero || Total < Pool);

    /// <summary>The clocks of an exchange; the wait for a place has another.</summary>
    public IEnumerable<TimeSpan> Watched => [Write, FirstByte, Read, Content, Total];

    /// <param name="nearer">Those that win where they are set.</param>
    /// <param name="where">What the user calls them, beyond <c>Timeouts</c>.</param>
    public CallTimeouts With(PoolTimeouts? nearer, string where = "") => nearer is null ? this : new(
        nearer.Pool ?? Pool, nearer.Write ?? Write, nearer.FirstByte ?? FirstByte, nearer.Read ?? Read, nearer.Content ?? Content, nearer.Total ?? Total)
    {
        PoolClock = nearer.Pool is null ? PoolClock : where + "Timeouts.Pool",
    };
}
