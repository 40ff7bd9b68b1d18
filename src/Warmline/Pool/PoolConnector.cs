using System.Diagnostics;
using System.Net;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline.Pool;

/// <summary>
/// Opens connections when the scheduler says so and brings it the news of them: dialled, failed, SETTINGS, closing, closed.
/// </summary>
internal sealed class PoolConnector(PoolEngine pool, Dialer dialer, DnsCache names, Http2Options http2) : ISlotOwner, IDisposable
{
    const uint EnhanceYourCalm = 11;

    /// <summary>PINGs without an answer in between that a server may take for abuse: gRPC's servers do at the third.</summary>
    const int ManyPings = 2;

    readonly CancellationTokenSource _stop = new();
    readonly Http2Options _withoutPings = new() { PingDelay = Timeout.InfiniteTimeSpan };

    TimeSpan ConnectTimeout => pool.Settings.ConnectTimeout;

    public void BeginDial(ConnectionState connection) =>
        Background.Queue((connector: this, connection), static dial =>
            _ = dial.connector.DialAsync(dial.connection, dial.connector.ConnectTimeout));

    /// <summary>Starts an HTTP/2 connection that no request starts.</summary>
    public void BeginPrime(ConnectionState connection) =>
        Background.Queue((connector: this, connection), static prime => _ = prime.connector.PrimeAsync(prime.connection));

    async Task DialAsync(ConnectionState connection, TimeSpan connectTimeout)
    {
        var key = connection.Key.Key;
        DialedConnection? dialed = null;
        Slot? slot = null;
        var isTold = false;
        using var dial = new DialUnderWay(
            step => pool.Core.Play((connection, step), static (scheduler, at, now, actions) =>
                scheduler.DialAdvanced(at.connection, at.step, now, actions)), _stop.Token);
        connection.Dial = dial;
        try
        {
            (dialed, var span) = await TracedDialAsync(connection.IsHttp1Only ? key.WithoutHttp2() : key, connectTimeout, dial)
                .ConfigureAwait(false);
            SetDialed(connection, dialed);
            var isPinged = !pool.Providers.PingsAreUnwelcome(connection.Key);
            slot = new Slot(dialed, isPinged ? http2 : _withoutPings, pool.Time, this, connection) { Span = span };
            if (!isPinged)
            {
                slot.WithholdPings();   // those that measure the round trip, too
            }

            connection.Slot = slot;
            var protocol = dialed.IsHttp2 ? "h2" : "http/1.1";
            LogMessages.Opened(pool.Logger, connection.Id, key.Origin, protocol, dialed.Timings.Total.TotalMilliseconds);
            pool.Advice.CheckManyPools(key.Origin);
            pool.Figures.RecordDial(connection, dialed.Timings);
            pool.Core.Play((connection, dialed.IsHttp2, dialed.Timings.Total), static (scheduler, done, now, actions) =>
                scheduler.DialSucceeded(done.connection, done.IsHttp2, done.Total, now, actions));
            isTold = true;
            if (!dialed.IsHttp2)
            {
                names.Trust(key.DialedHost, connection.Address);
                pool.Advice.CheckHttp1(connection.Key);
                if (connection.LastUse == 0)   // read without the lock: a call watches its own connection
                {
                    slot.WatchIdle(0);   // at once: an early end must not count as one of an idle connection
                }

                pool.Network.WatchIdle();
            }
        }
        catch (Exception error) when (!isTold)
        {
            Discard(slot, dialed);
            Fail(connection, error);
        }
        catch (Exception error)   // the scheduler has it, and it works
        {
            LogMessages.InternalFault(pool.Logger, error);
        }
        finally
        {
            connection.Dial = null;
        }
    }

    /// <summary>A dial that fails closes what it had opened.</summary>
    static void Discard(Slot? slot, DialedConnection? dialed)
    {
        try
        {
            slot?.Drop();
            dialed?.Dispose();
        }
        catch (Exception)
        {
            // The dial's own error is the one to be told.
        }
    }

    /// <summary>Has the addresses at which it failed, or stands still, tried last for a while.</summary>
    public void Distrust(ConnectionState connection)
    {
        IEnumerable<IPAddress> addresses = (connection.Dial as DialUnderWay)?.Addresses
            ?? (connection.Address is { } address ? [address] : []);
        names.Distrust(connection.Key.Key.DialedHost, [.. addresses]);
    }

    public static void GiveUp(ConnectionState connection) => (connection.Dial as DialUnderWay)?.GiveUp();

    async Task PrimeAsync(ConnectionState connection)
    {
        try
        {
            await ((Slot)connection.Slot!).PrimeAsync(connection.Key.Key, _stop.Token).ConfigureAwait(false);
        }
        catch (Exception error) when (error is HttpRequestException or OperationCanceledException or IOException or ObjectDisposedException)
        {
            // The connection ended while it was started: its slot reports that itself.
        }
    }

    public void SettingsOverdue(ConnectionState connection)
    {
        var overdue = new DialException(DialPhase.Http2Settings,
            $"{connection.Key.Key.Origin} negotiated HTTP/2 but sent no SETTINGS within "
            + $"{ConnectTimeout.TotalSeconds:0.###} s (Timeouts.Connect).", null, timedOut: true);
        connection.EndCause = overdue;
        Fail(connection, overdue);
    }

    /// <summary>Ends the dials under way.</summary>
    public async Task StopAsync()
    {
        try
        {
            // A drain after the end has nothing to stop.
            await (_stop.IsCancellationRequested ? Task.CompletedTask : _stop.CancelAsync()).ConfigureAwait(false);
        }
        catch (Exception error) when (error is AggregateException or ObjectDisposedException)
        {
            // Every dial has been told; what one of them threw at that is in its own error.
        }
    }

    public void Dispose() => _stop.Dispose();

    void ISlotOwner.SettingsSeen(Slot slot, int maxConcurrentStreams)
    {
        var connection = (ConnectionState)slot.Tag!;
        if (connection.Phase is ConnectionPhase.AwaitingSettings)   // read without the lock: the first SETTINGS alone change it
        {
            pool.Figures.RecordPhase(connection, DialPhase.Http2Settings, pool.Now - connection.OpenedAt);
            names.Trust(connection.Key.Key.DialedHost, connection.Address);
        }

        pool.Core.Play((connection, maxConcurrentStreams), static (scheduler, seen, now, actions) =>
            scheduler.SettingsSeen(seen.connection, seen.maxConcurrentStreams, now, actions));
    }

    void ISlotOwner.Closing(Slot slot, ConnectionEnd end)
    {
        var connection = (ConnectionState)slot.Tag!;
        RecordEnd(slot);
        NoteEndBeforeSettings(connection);
        pool.Core.Play((connection, end), static (scheduler, seen, now, actions) =>
            scheduler.ConnectionClosing(seen.connection, seen.end, now, actions));
    }

    void ISlotOwner.FramesSent(Slot slot, int resets, int pings)
    {
        var connection = (ConnectionState)slot.Tag!;
        connection.Key.Sent.Add(resets, pings);
        // Read without the lock: the event looks again.
        if (resets > 0 && connection.IsUsable && slot.Sent.Resets is var sent
            && sent >= (connection.IsWorn ? connection.ResetLimit : connection.ResetsBeforeSuccessor))
        {
            pool.Core.Play((connection, sent), static (scheduler, worn, now, actions) =>
                scheduler.ResetsSent(worn.connection, worn.sent, now, actions));
        }
    }

    void ISlotOwner.GoAwayReceived(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        var (code, text, resets, pings) = (slot.Frames!.GoAwayCode, slot.Frames.GoAwayText, slot.Sent.Resets, slot.Sent.Pings);
        var said = text.Length > 0 ? $": \"{text}\"" : "";
        LogMessages.GoAwayReceived(pool.Logger, connection.Key.Key.Origin, connection.Id, LastWords.CodeName(code), said, resets, pings);
        if (code == EnhanceYourCalm)
        {
            var byPings = text.Contains("ping", StringComparison.OrdinalIgnoreCase)
                || (slot.PingsInRow >= ManyPings && resets < connection.ResetLimit / 2);
            pool.Providers.CalmDown(connection, byPings, resets);
        }
    }

    void ISlotOwner.Closed(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        if (slot.IsHttp2 || slot.EndCause is not null)   // else the platform gave it up, as for a caller who left
        {
            RecordEnd(slot);
        }

        LogMessages.Closed(pool.Logger, connection.Id, connection.Key.Key.Origin);
        pool.Figures.RecordLife(connection);
        NoteEndBeforeSettings(connection);
        pool.Core.Play(connection, static (scheduler, connection, now, actions) => scheduler.ConnectionClosed(connection, now, actions));
    }

    /// <summary>
    /// In a method of its own, so that the span is the current activity of the dial alone and of nothing that the connection does later.
    /// </summary>
    async Task<(DialedConnection Dialed, ActivityContext? Span)> TracedDialAsync(ConnectionKey key, TimeSpan connectTimeout,
        DialUnderWay dial)
    {
        var span = PoolActivities.StartConnect(key.Host, key.Port, pool.Name);
        try
        {
            var dialed = await dialer.DialAsync(key, connectTimeout, dial, dial.Token).ConfigureAwait(false);
            span?.SetTag("network.protocol.version", dialed.IsHttp2 ? "2" : "1.1");
            span?.SetTag("network.peer.address", dialed.RemoteEndPoint?.Address.ToString());
            return (dialed, span?.Context);
        }
        catch (Exception error)
        {
            span?.Fail(PoolMetrics.Snake(((error as DialException)?.Phase ?? DialPhase.Tcp).ToString()), error.Message);
            throw;
        }
        finally
        {
            span?.StopAnywhere();
        }
    }

    /// <summary>Before the scheduler hears of it, as it will dial again at once.</summary>
    void NoteEndBeforeSettings(ConnectionState connection)
    {
        if (connection.Phase is ConnectionPhase.AwaitingSettings)   // read without the lock: a later end is no dial's
        {
            Distrust(connection);
            connection.HasOtherAddress = names.HasTrusted(connection.Key.Key.DialedHost);
        }
    }

    /// <summary>Why a connection ends that was of no use yet; before the scheduler hears of it.</summary>
    void RecordEnd(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        if (!connection.IsUsable || connection.EndCause is not null)   // read without the lock: else the pool ends it
        {
            return;
        }

        LastWords.Record(connection, slot, pool.Now - connection.OpenedAt);
        if (connection.EndCause is DialException early && !_stop.IsCancellationRequested)
        {
            LogMessages.DialFailed(pool.Logger, connection.Key.Key.Origin, early.Phase, early.Message);
        }
    }

    /// <summary>What is known of a connection once it is dialled, before the event that makes it known to others.</summary>
    void SetDialed(ConnectionState connection, DialedConnection dialed) => pool.Core.Play((connection, dialed), static (_, done, _, _) =>
    {
        done.connection.Address = done.dialed.RemoteEndPoint?.Address;
        done.connection.LocalAddress = done.dialed.LocalAddress;
    });

    void Fail(ConnectionState connection, Exception error)
    {
        var dial = connection.Dial as DialUnderWay;
        connection.LacksHttp1 = connection.IsHttp1Only && TlsAlert.Of(error)?.Code == TlsAlert.NoApplicationProtocol;
        if (dial is { IsGivenUp: true } && error is OperationCanceledException)
        {
            error = new DialException(dial.Step,
                $"The connection to {connection.Key.Key.Origin} made no progress in this phase "
                + "and was abandoned after another one succeeded.", error);
        }

        var phase = (error as DialException)?.Phase ?? DialPhase.Tcp;
        if (phase is not DialPhase.Dns && error is not OperationCanceledException)
        {
            Distrust(connection);
            connection.HasOtherAddress = error is not DialException { ProxyStatus: not null }
                && names.HasTrusted(connection.Key.Key.DialedHost);
        }

        if (!_stop.IsCancellationRequested)
        {
            LogMessages.DialFailed(pool.Logger, connection.Key.Key.Origin, phase, error.Message);
        }

        pool.Core.Play((connection, error, phase), static (scheduler, failed, now, actions) =>
        {
            failed.connection.FailedIn = failed.phase;
            scheduler.DialFailed(failed.connection, failed.error, now, actions);
        });
    }
}
