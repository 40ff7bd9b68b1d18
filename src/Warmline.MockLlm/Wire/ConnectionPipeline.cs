using System.IO.Pipelines;
using System.Text;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace Warmline.MockLlm;

/// <summary>
/// What happens to a connection around TLS. Below it (<see cref="BelowTlsAsync"/>): counting, scripted faults, the simulated link. Above it
/// (<see cref="AboveTlsAsync"/>): the end of the handshake, more faults, the HTTP/2 tap.
/// </summary>
internal sealed class ConnectionPipeline(MockLlmOptions options, CounterBoard board, DelayScheduler scheduler, StreamLimit limit, int certificateLength)
{
    // Inline: whoever delivers runs on into the reader, so a chunk costs one hop between threads and not two.
    static readonly PipeOptions OutboundPipe = new(readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline, useSynchronizationContext: false);
    static readonly PipeOptions InboundPipe = new(
        readerScheduler: PipeScheduler.Inline, writerScheduler: PipeScheduler.Inline, useSynchronizationContext: false,
        pauseWriterThreshold: 1 << 20, resumeWriterThreshold: 1 << 19); // as Kestrel has it under a socket

    readonly TimeSpan _oneWay = options.RoundTripTime / 2;

    public async Task BelowTlsAsync(ConnectionContext context, ConnectionDelegate next)
    {
        var accepted = scheduler.Now;
        var connection = new MockConnection(board.NextConnectionId(), context, scheduler, _oneWay);
        context.Features.Set(connection);
        board.ConnectionOpened(connection);
        var served = false;
        try
        {
            connection.Plan = options.OnConnection?.Invoke(new MockConnectionInfo(connection.Id, context.RemoteEndPoint)) ?? connection.Plan;
            switch (connection.Plan.Act)
            {
                case MockConnectionAct.Close:
                    connection.EndedBy(MockConnectionEnd.Server);
                    return;
                case MockConnectionAct.Reset:
                    connection.AbortNow("scripted reset");
                    return;
                case MockConnectionAct.Silent:
                    await connection.UntilClosedAsync().ConfigureAwait(false);
                    return;
            }

            served = connection.Plan.Act != MockConnectionAct.GarbageForTls;
            await (_oneWay > TimeSpan.Zero ? OverLinkAsync(connection, context, accepted, next) : ServeAsync(connection, next)).ConfigureAwait(false);
        }
        finally
        {
            await connection.SettleEndAsync().ConfigureAwait(false);
            board.ConnectionClosed(connection, handshakeFailed: served && options.UseTls && !connection.HandshakeDone);
        }
    }

    Task ServeAsync(MockConnection connection, ConnectionDelegate next)
    {
        if (connection.Plan.Act == MockConnectionAct.GarbageForTls)
        {
            return AnswerGarbageAsync(connection, connection.Transport, "this is not TLS\r\n");
        }

        if (options.UseTls)
        {
            connection.Transport = new DuplexPipe(connection.BelowTls(connection.Transport.Input), connection.Transport.Output);
        }

        return next(connection);
    }

    async Task OverLinkAsync(MockConnection connection, ConnectionContext context, long accepted, ConnectionDelegate next)
    {
        var wire = connection.Transport;
        var (inbound, outbound) = (new Pipe(InboundPipe), new Pipe(OutboundPipe));
        var notBefore = options.TcpHandshakeAtServer ? scheduler.Add(accepted, options.RoundTripTime) : accepted;
        using var cut = new CancellationTokenSource();
        using var closed = new CancellationTokenSource();
        var up = new DelayLine(scheduler, wire.Input, inbound.Writer, _oneWay, notBefore).RunAsync(cut.Token);
        var down = new DelayLine(scheduler, outbound.Reader, wire.Output, _oneWay, 0).RunAsync(CancellationToken.None);
        var news = Task.CompletedTask;
        using (context.ConnectionClosed.UnsafeRegister(_ => news = TellLaterAsync(), null))
        {
            connection.Transport = new DuplexPipe(inbound.Reader, outbound.Writer);
            connection.ConnectionClosed = closed.Token;
            try
            {
                await ServeAsync(connection, next).ConfigureAwait(false);
            }
            finally
            {
                connection.EndedHere();
                // Our end first travels to the client; what the client still sends is of no interest any more.
                await outbound.Writer.CompleteAsync().ConfigureAwait(false);
                await down.ConfigureAwait(false);
                await inbound.Reader.CompleteAsync().ConfigureAwait(false);
                await cut.CancelAsync().ConfigureAwait(false);
                wire.Input.CancelPendingRead();
                await up.ConfigureAwait(false);
                connection.Transport = wire;
            }
        }

        await news.ConfigureAwait(false);

        async Task TellLaterAsync()
        {
            try
            {
                await scheduler.DelayAsync(_oneWay, cut.Token).ConfigureAwait(false);
                await closed.CancelAsync().ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                // The connection has ended by itself: nobody is left to be told.
            }
        }
    }

    public async Task AboveTlsAsync(ConnectionContext context, ConnectionDelegate next)
    {
        var connection = context.Features.Get<MockConnection>()!;
        connection.HandshakeDone = true;
        if (options.UseTls)
        {
            // A full handshake has sent the certificate; a resumed one is shorter than the certificate alone.
            board.TlsCompleted(connection, resumed: connection.SentBeforeLastRead < certificateLength);
        }

        var input = connection.Above(context.Transport.Input, options.UseTls);
        using var over = new CancellationTokenSource();
        try
        {
            if (connection.Faults.Attach(context, input))
            {
                var idle = connection.Faults.WatchIdleAsync(over.Token);
                await HttpAsync(connection, context, next).ConfigureAwait(false);
                await over.CancelAsync().ConfigureAwait(false);
                await idle.ConfigureAwait(false);
            }
        }
        finally
        {
            await input.FinishAsync().ConfigureAwait(false);
        }
    }

    async Task HttpAsync(MockConnection connection, ConnectionContext context, ConnectionDelegate next)
    {
        switch (connection.Plan.Act)
        {
            case MockConnectionAct.SilentAfterTls:
                await connection.UntilClosedAsync().ConfigureAwait(false);
                return;
            case MockConnectionAct.GarbageForHttp:
                await AnswerGarbageAsync(connection, context.Transport, ConnectionFaults.NoHttp).ConfigureAwait(false);
                return;
        }

        var alpn = context.Features.Get<ITlsApplicationProtocolFeature>()?.ApplicationProtocol;
        var isHttp2 = alpn is null ? options.Protocols == HttpProtocols.Http2 : alpn.Value.Span.SequenceEqual("h2"u8);
        if (!isHttp2)
        {
            await next(context).ConfigureAwait(false);
            return;
        }

        connection.Http2 = new Http2Tap(board, limit, connection);
        await connection.Http2.RunAsync(context, next).ConfigureAwait(false);
    }

    static async Task AnswerGarbageAsync(MockConnection connection, IDuplexPipe transport, string garbage)
    {
        var result = await transport.Input.ReadAsync().ConfigureAwait(false);
        transport.Input.AdvanceTo(result.Buffer.End);
        connection.EndedBy(MockConnectionEnd.Server);   // the script ends it, though a client that cannot read this may close first
        await transport.Output.WriteAsync(Encoding.Latin1.GetBytes(garbage)).ConfigureAwait(false);
    }
}
