using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Warmline.AspNetCore;

/// <summary>Answers with what the pools do: once, or again and again.</summary>
internal sealed class StatsEndpoint(ShownPools pools, PoolStatsEndpointOptions options, IServiceProvider services)
{
    readonly TimeProvider _time = services.GetService<TimeProvider>() ?? SystemTime();
    readonly CancellationToken _stopping = services.GetService<IHostApplicationLifetime>()?.ApplicationStopping ?? default;
    int _readers;

    /// <summary>One document.</summary>
    public Task StatsAsync(HttpContext context)
    {
        if (Choose(context) is not { } chosen)
        {
            return UnknownAsync(context);
        }

        context.Response.ContentType = "application/json; charset=utf-8";
        context.Response.Headers.CacheControl = "no-store";
        return JsonSerializer.SerializeAsync(context.Response.Body, Look(chosen), StatsJson.Document, context.RequestAborted);
    }

    /// <summary>
    /// A document now and one after each interval, until the reader leaves or the host stops. A reader that does not keep up gets fewer:
    /// the next look is taken when the last is sent.
    /// </summary>
    public async Task LiveAsync(HttpContext context)
    {
        if (Choose(context) is not { } chosen)
        {
            await UnknownAsync(context).ConfigureAwait(false);
            return;
        }

        if (Interlocked.Increment(ref _readers) > options.MaxLiveReaders)
        {
            Interlocked.Decrement(ref _readers);
            await CallerCheck.AnswerAsync(context, StatusCodes.Status503ServiceUnavailable, $"The live feed has {options.MaxLiveReaders} readers already: close one, or raise MaxLiveReaders in MapPoolStats.").ConfigureAwait(false);
            return;
        }

        using var end = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, _stopping);
        try
        {
            context.Response.ContentType = "text/event-stream";
            context.Response.Headers.CacheControl = "no-store";
            context.Response.Headers["X-Accel-Buffering"] = "no";   // nginx holds answers back otherwise
            context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
            while (true)
            {
                var body = context.Response.Body;
                await body.WriteAsync("data: "u8.ToArray(), end.Token).ConfigureAwait(false);
                // No line breaks in it: one event.
                await JsonSerializer.SerializeAsync(body, Look(chosen), StatsJson.Document, end.Token).ConfigureAwait(false);
                await body.WriteAsync("\n\n"u8.ToArray(), end.Token).ConfigureAwait(false);
                await body.FlushAsync(end.Token).ConfigureAwait(false);
                await Task.Delay(options.LiveInterval, _time, end.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (end.IsCancellationRequested)
        {
            // The reader left, or the host stops: the feed's only ends.
        }
        finally
        {
            Interlocked.Decrement(ref _readers);
        }
    }

    static TimeProvider SystemTime()
    {
#pragma warning disable RS0030 // The outermost entry: an application without a clock of its own means the system's.
        return TimeProvider.System;
#pragma warning restore RS0030
    }

    /// <summary>The pools that the query names, all of them without; <see langword="null"/> when it names none that is here.</summary>
    List<ConnectionPool>? Choose(HttpContext context)
    {
        var all = pools.All();
        if (context.Request.Query["pool"] is not [{ } name, ..])
        {
            return all;
        }

        return all.FindAll(pool => pool.Name == name) is { Count: > 0 } chosen ? chosen : null;
    }

    Task UnknownAsync(HttpContext context) =>
        CallerCheck.AnswerAsync(context, StatusCodes.Status404NotFound, $"There is no pool of that name here, but: {string.Join(", ", pools.All().Select(pool => pool.Name).Distinct())}.");

    StatsDocument Look(List<ConnectionPool> chosen) =>
        new([.. chosen.Select(pool => new PoolDocument(pool.Name, pool.GetStats(), pool.GetWaiters(options.MaxListed), pool.GetStreams(options.MaxListed)))]);
}
