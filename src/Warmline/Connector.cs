using Microsoft.Extensions.Logging;
using Warmline.Scheduling;
using Warmline.Transport;

namespace Warmline;

/// <summary>Opens connections when the scheduler says so and brings it the news of them: dialled, failed, SETTINGS, closing, closed.</summary>
internal sealed class Connector(PoolEngine engine, Dialer dialer, Http2Options http2, TimeProvider time, ILogger logger) : ISlotOwner, IDisposable
{
    readonly CancellationTokenSource _stop = new();

    public async Task DialAsync(ConnectionState connection, TimeSpan connectTimeout)
    {
        var key = connection.Key.Key;
        try
        {
            var dialed = await dialer.DialAsync(key, connectTimeout, _stop.Token).ConfigureAwait(false);
            connection.Address = dialed.RemoteEndPoint?.Address;
            connection.LocalAddress = dialed.LocalAddress;
            connection.Slot = new Slot(dialed, http2, time, this, connection);
            LogMessages.Opened(logger, connection.Id, key.Origin, dialed.IsHttp2 ? "h2" : "http/1.1", dialed.Timings.Total.TotalMilliseconds);
            engine.TellManyPools(key.Origin);
            engine.Play((connection, dialed.IsHttp2, dialed.Timings.Total), static (scheduler, done, now, actions) => scheduler.DialSucceeded(done.connection, done.IsHttp2, done.Total, now, actions));
            if (!dialed.IsHttp2)
            {
                engine.TellHttp1(connection.Key);
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

    public void SettingsOverdue(ConnectionState connection, TimeSpan connectTimeout) => Fail(connection, new DialException(DialPhase.Http2Settings,
        $"{connection.Key.Key.Origin} agreed on HTTP/2 and sent no SETTINGS within {connectTimeout.TotalSeconds:0.###} s (Timeouts.Connect).", null, timedOut: true));

    /// <summary>Ends the dials under way.</summary>
    public Task StopAsync() => _stop.IsCancellationRequested ? Task.CompletedTask : _stop.CancelAsync();   // a drain after the end has nothing to stop

    public void Dispose() => _stop.Dispose();

    void ISlotOwner.SettingsSeen(Slot slot, int maxConcurrentStreams) =>
        engine.Play((Connection: (ConnectionState)slot.Tag!, maxConcurrentStreams), static (scheduler, seen, now, actions) => scheduler.SettingsSeen(seen.Connection, seen.maxConcurrentStreams, now, actions));

    void ISlotOwner.Closing(Slot slot, ConnectionEnd end) =>
        engine.Play((Connection: (ConnectionState)slot.Tag!, end), static (scheduler, seen, now, actions) => scheduler.ConnectionClosing(seen.Connection, seen.end, now, actions));

    void ISlotOwner.Closed(Slot slot)
    {
        var connection = (ConnectionState)slot.Tag!;
        LogMessages.Closed(logger, connection.Id, connection.Key.Key.Origin);
        engine.Play(connection, static (scheduler, connection, now, actions) => scheduler.ConnectionClosed(connection, now, actions));
    }

    void Fail(ConnectionState connection, Exception error)
    {
        if (!_stop.IsCancellationRequested)
        {
            LogMessages.DialFailed(logger, connection.Key.Key.Origin, (error as DialException)?.Phase ?? DialPhase.Tcp, error.Message);
        }

        engine.Play((connection, error), static (scheduler, failed, now, actions) => scheduler.DialFailed(failed.connection, failed.error, now, actions));
    }
}
