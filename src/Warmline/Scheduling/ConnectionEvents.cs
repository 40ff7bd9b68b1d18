namespace Warmline.Scheduling;

/// <summary>Events of connections: a dial advances, succeeds or fails; SETTINGS arrive; a connection ends.</summary>
internal sealed class ConnectionEvents(
    Agenda agenda, PoolState pool, Lifecycle lifecycle, IdleConnections idling, Hedging hedging, Growth growth, Dials dials,
    WarmGoals warmth, Settlement settlement, Fallback fallback, DialFailures failures, Retirement retirement, Random random)
{
    /// <summary>How long a cold burst may wait for its other dials; a quarter of the first dial's time if that is less.</summary>
    static readonly TimeSpan MaxBurstDelay = TimeSpan.FromMilliseconds(50);

    /// <summary>The dial led to a connection. The shell has set its slot.</summary>
    public void DialSucceeded(ConnectionState connection, bool isHttp2, TimeSpan handshake)
    {
        var key = connection.Key;
        key.SpeaksHttp2 = isHttp2;
        key.Facts.CountDial(handshake);
        pool.Facts.CountDial(handshake);
        connection.IsHttp2 = isHttp2;
        connection.OpenedAt = agenda.Now;
        connection.Step = DialPhase.Http2Settings;
        connection.IsGivenUp = false;   // it succeeded after all
        RecordHandshake(connection);
        hedging.Advanced(connection);
        if (agenda.Now >= key.Origin.ResetLimitUntil)
        {
            key.Origin.ResetLimit = int.MaxValue;
        }

        if (pool.Limits.ConnectionLifetime != Timeout.InfiniteTimeSpan)
        {
            var lifetime = pool.Limits.ConnectionLifetime * (1 - (random.NextDouble() / 10));
            connection.ExpiresAt = agenda.Now + lifetime;
            var (ahead, most) = (lifetime / 10, IdleConnections.MaxReplaceAhead);
            connection.ReplaceAt = connection.ExpiresAt - (ahead < most ? ahead : most);
        }

        if (pool.IsDraining || fallback.IsUnwanted(connection))
        {
            lifecycle.BeginClose(connection);
        }
        else if (isHttp2)
        {
            // A call that uses the connection before its SETTINGS shares its fate.
            connection.IsPrimed = key.Ready > 0 || key.Failures > 0 || connection.SilentBefore > 0;
            connection.SettingsDue = connection.ConnectStartedAt + pool.Limits.ConnectTimeout;
            lifecycle.MoveTo(connection, ConnectionPhase.AwaitingSettings);
            hedging.StartDialTimer(connection);
        }
        else
        {
            hedging.GotThrough(key);
            Opened(connection);
        }

        settlement.Settle(key);
        if (connection is { Phase: ConnectionPhase.AwaitingSettings, Streams: 0 })
        {
            agenda.Add(new SchedulerAction(ActionKind.Prime, connection));
        }

        idling.ListIfIdle(connection);
    }

    /// <summary>The server sent SETTINGS, the first or later ones.</summary>
    public void SettingsSeen(ConnectionState connection, int maxConcurrentStreams)
    {
        var key = connection.Key;
        connection.AdvertisedLimit = maxConcurrentStreams;
        if (key.AdvertisedLimit != maxConcurrentStreams)
        {
            key.AdvertisedLimit = maxConcurrentStreams;
            foreach (var young in key.Connections)
            {
                lifecycle.SetStreamLimit(young);   // it decides whether a connection that awaits its SETTINGS may start with a request
            }
        }

        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            hedging.Advanced(connection);
            hedging.GotThrough(key);
            Opened(connection);
            if (key.Ready == 1)
            {
                var quarter = (agenda.Now - connection.DialStartedAt) / 4;
                key.SpreadUntil = agenda.Now + (quarter < MaxBurstDelay ? quarter : MaxBurstDelay);
            }
        }
        else
        {
            lifecycle.SetStreamLimit(connection);
        }

        settlement.Settle(key);
        idling.ListIfIdle(connection);
    }

    /// <summary>The peer takes no new streams: GOAWAY, FIN or reset.</summary>
    public void ConnectionClosing(ConnectionState connection, ConnectionEnd end)
    {
        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            failures.FailDial(connection, connection.EndCause, isGone: false);
        }
        else
        {
            if (!DialFailures.IsEndOfAnswer(connection, end))
            {
                failures.CheckEarlyDeath(connection, end);
            }

            retirement.LearnFromIdleEnd(connection, idling.IdleTime(connection), end, FlushCause.Loss);
            lifecycle.Drain(connection);
            if (connection.Doubt is Http2Doubt.Refused && Fallback.MayFallBack(connection.Key))
            {
                fallback.TryFallBack(connection, Http2Doubt.Refused);
            }

            settlement.Settle(connection.Key);
        }
    }

    /// <summary>The transport has closed and the permit is free. Ends no lease: each stream ends by itself.</summary>
    public void ConnectionClosed(ConnectionState connection)
    {
        if (connection.Phase is ConnectionPhase.AwaitingSettings)
        {
            failures.FailDial(connection, connection.EndCause, isGone: true);
        }
        else
        {
            if (connection.Phase is ConnectionPhase.Open)
            {
                failures.CheckUnusedDeath(connection);

                // The platform gave it up, mostly after unanswered pings.
                retirement.LearnFromIdleEnd(connection, idling.IdleTime(connection), ConnectionEnd.Lost, FlushCause.Loss);
            }

            lifecycle.MoveTo(connection, ConnectionPhase.Closed);
            settlement.Settle(connection.Key);
            warmth.RestoreWarmth();
        }
    }

    void Opened(ConnectionState connection)
    {
        connection.FailuresBefore = connection.Key.Failures;
        connection.Key.Failures = 0;
        if (connection.FailuresBefore > 0)
        {
            connection.Key.ProbationUntil = agenda.Now + DialFailures.EarlyEndUnused;
        }

        if (connection.IsHttp2)
        {
            connection.Key.Origin.Http2.Opened();
        }

        lifecycle.MoveTo(connection, ConnectionPhase.Open);
        agenda.StartTimer(connection, connection.LifeDue);
    }

    void RecordHandshake(ConnectionState connection)
    {
        var took = agenda.Now - connection.ConnectStartedAt;
        var origin = connection.Key.Origin;
        origin.UsualHandshake = origin.UsualHandshake == TimeSpan.Zero ? took : ((origin.UsualHandshake * 3) + took) / 4;
    }

    /// <summary>The connection must take no further calls. The running ones go on to their end.</summary>
    public void TakeOutOfUse(ConnectionState connection)
    {
        lifecycle.Drain(connection);
        settlement.Settle(connection.Key);
        warmth.RestoreWarmth();
    }

    /// <summary>
    /// The connection approaches the number of resets that servers tolerate. First it gets a successor, unless its key has another
    /// connection. At its limit it drains: calls that may be reset next use another connection, and its long streams end normally.
    /// </summary>
    public void ResetsSent(ConnectionState connection, long resets)
    {
        if (resets >= connection.ResetLimit)
        {
            TakeOutOfUse(connection);
            return;
        }

        var key = connection.Key;
        if (!connection.IsWorn)
        {
            connection.IsWorn = true;
            if (key.Dialing == 0 && !key.Connections.Any(static other => other is { IsUsable: true, IsWorn: false })
                && growth.MayDialAhead(key))
            {
                dials.Dial(key, forWaiter: false);
            }
        }
    }

    /// <summary>A dial has reached its next phase.</summary>
    public void DialAdvanced(ConnectionState connection, DialPhase step) => hedging.DialAdvanced(connection, step);

    public void DialFailed(ConnectionState connection, Exception error) =>
        failures.FailDial(connection, error, isGone: connection.Phase is ConnectionPhase.Dialing);

    /// <summary>
    /// A call that may use HTTP/1.1 failed on HTTP/2. Returns true if it should use HTTP/1.1: then its origin's HTTP/2 connections drain,
    /// and the next dials offer only HTTP/1.1.
    /// </summary>
    public bool DoubtHttp2(ConnectionState connection, Http2Doubt doubt) => fallback.TryFallBack(connection, doubt);
}
