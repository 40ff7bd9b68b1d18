using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Warmline.Options;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>Opens connections when the scheduler says so and brings it the news of them: dialled, failed, SETTINGS, closing, closed.</summary>
internal sealed class Connector(PoolEngine engine, Dialer dialer, Http2Options http2, TimeProvider time, ILogger logger) : ISlotOwner, IDisposable
{
    const uint EnhanceYourCalm = 11;

    /// <summary>PINGs without an answer in between that a server may take for abuse: gRPC's servers do at the third.</summary>
    const int ManyPings = 2;

    readonly CancellationTokenSource _stop = new();
    readonly Http2Options _withoutPings = new() { PingDelay = Timeout.InfiniteTimeSpan };

    public async Task DialAsync(ConnectionState connection, TimeSpan connectTimeout)
    {
        var key = connection.Key.Key;
        try
        {
            var (dialed, span) = await TracedDialAsync(connection.IsHttp1Only ? key.WithoutHttp2() : key, connectTimeout).ConfigureAwait(false);
            connection.Address = dialed.RemoteEndPoint?.Address;
            connection.LocalAddress = dialed.LocalAddress;
            var isPinged = !engine.PingsAreUnwelcome(connection.Key);
            var slot = new Slot(dialed, isPinged ? http2 : _withoutPings, time, this, connection) { Span = span };
            if (!isPinged)
            {
                slot.WithholdPings();   // those that measure the round trip, too
            }

            connection.Slot = slot;
            LogMessages.Opened(logger, connection.Id, key.Origin, dialed.IsHttp2 ? "h2" : "http/1.1", dialed.Timings.Total.TotalMilliseconds);
            engine.TellManyPools(key.Origin);
            engine.NoteDial(connection, dialed.Timings);
            engine.Play((connection, dialed.IsHttp2, dialed.Timings.Total), static (scheduler, done, now, actions) => scheduler.DialSucceeded(done.connection, done.IsHttp2, done.Total, now, actions));
            if (!dialed.IsHttp2)
            {
                engine.TellHttp1(connection.Key);
                if (connection.LastUse == 0)   // read without the lock: a call watches its own connection
                {
                    slot.WatchIdle(0);   // at once: an early end must not count as one of an idle connection
                }

                engine.WatchIdleSoon();
            }
        }
        catch (Exception error)
        {
            Fail(connection, error);
        }
    }

    /// <summary>Starts an HTTP/2 connection that no request starts.</summary>
    public async Task PrimeAsync(ConnectionState connection)
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

    public void SettingsOverdue(ConnectionState connection, TimeSpan connectTimeout)
    {
        var overdue = new DialException(DialPhase.Http2Settings,
            $"{connection.Key.Key.Origin} agreed on HTTP/2 and sent no SETTINGS within {connectTimeout.TotalSeconds:0.###} s (Timeouts.Connect).", null, timedOut: true);
        connection.EndCause = overdue;
        Fail(connection, overdue);
    }

    /// <summary>Ends the dials under way.</summary>
    public Task StopAsync() => _stop.IsCancellationRequested ? Task.CompletedTask : _stop.CancelAsync();   // a drain after the end has nothing to stop

    public void Dispose() => _stop.Dispose();

    void ISlotOwner.SettingsSeen(Slot slot, int maxConcurrentStreams)
    {
        var connection = (ConnectionState)slot.Tag!;
        if (connection.Phase is ConnectionPhase.AwaitingSettings)   // read without the lock: the first SETTINGS alone change it
        {
            engine.NotePhase(connection, DialPhase.Http2Settings, engine.Now - connection.OpenedAt);
        }

        engine.Play((connection, maxConcurrentStreams), static (scheduler, seen, now, actions) => scheduler.SettingsSeen(seen.connection, seen.maxConcurrentStreams, now, actions));
    }

    void ISlotOwner.Closing(Slot slot, ConnectionEnd end)
    {
        RecordEnd(slot);
        engine.Play((Connection: (ConnectionState)slot.Tag!, end), static (scheduler, seen, now, actions) => scheduler.ConnectionClosing(seen.Connection, seen.end, now, actions));
    }

    void ISlotOwner.FramesSent(Slot slot, int resets, int pings)
    {
        var connection = (ConnectionState)slot.Tag!;
        connection.Key.Sent.Add(resets, pings);
        if (resets > 0 && connection.IsUsable && slot.Sent.Resets is var sent && sent >= (connection.IsWorn ? connection.ResetLimit : connection.ResetsBeforeSuccessor))   // read without the lock: the event looks again
        {
            engine.Play((connection, sent), static (scheduler, worn, now, actions) => scheduler.ResetsSent(worn.connection, worn.sent, now, actions));
        }
    }

    void ISlotOwner.GoAwayReceived(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        var (code, text, resets, pings) = (slot.Frames!.GoAwayCode, slot.Frames.GoAwayText, slot.Sent.Resets, slot.Sent.Pings);
        LogMessages.GoAwayReceived(logger, connection.Key.Key.Origin, connection.Id, LastWords.CodeName(code), text.Length > 0 ? $": \"{text}\"" : "", resets, pings);
        if (code == EnhanceYourCalm)
        {
            var byPings = text.Contains("ping", StringComparison.OrdinalIgnoreCase) || (slot.PingsInRow >= ManyPings && resets < connection.ResetLimit / 2);
            engine.CalmDown(connection, byPings, resets);
        }
    }

    void ISlotOwner.Closed(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        if (slot.IsHttp2 || slot.EndCause is not null)   // else the platform gave it up, as for a caller who left
        {
            RecordEnd(slot);
        }

        LogMessages.Closed(logger, connection.Id, connection.Key.Key.Origin);
        engine.NoteLife(connection);
        engine.Play(connection, static (scheduler, connection, now, actions) => scheduler.ConnectionClosed(connection, now, actions));
    }

    /// <summary>In a method of its own, so that the span is the current activity of the dial alone and of nothing that the connection does later.</summary>
    async Task<(DialedConnection Dialed, ActivityContext? Span)> TracedDialAsync(ConnectionKey key, TimeSpan connectTimeout)
    {
        var span = PoolActivities.StartConnect(key.Host, key.Port, engine.Name);
        try
        {
            var dialed = await dialer.DialAsync(key, connectTimeout, _stop.Token).ConfigureAwait(false);
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

    /// <summary>Why a connection ends that was of no use yet; before the scheduler hears of it.</summary>
    void RecordEnd(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        if (!connection.IsUsable || connection.EndCause is not null)   // read without the lock: else the pool ends it
        {
            return;
        }

        LastWords.Record(connection, slot, engine.Now - connection.OpenedAt);
        if (connection.EndCause is DialException early && !_stop.IsCancellationRequested)
        {
            LogMessages.DialFailed(logger, connection.Key.Key.Origin, early.Phase, early.Message);
        }
    }

    void Fail(ConnectionState connection, Exception error)
    {
        connection.FailedIn = (error as DialException)?.Phase ?? DialPhase.Tcp;
        connection.LacksHttp1 = connection.IsHttp1Only && TlsAlert.Of(error)?.Code == TlsAlert.NoApplicationProtocol;
        if (!_stop.IsCancellationRequested)
        {
            LogMessages.DialFailed(logger, connection.Key.Key.Origin, connection.FailedIn, error.Message);
        }

        engine.Play((connection, error), static (scheduler, failed, now, actions) => scheduler.DialFailed(failed.connection, failed.error, now, actions));
    }
}
