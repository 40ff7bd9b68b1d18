using System.Diagnostics.Metrics;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;

namespace Warmline.AspNetCore;

/// <summary>Answers with the metrics of the meter Warmline.</summary>
internal sealed partial class MetricsEndpoint(MeterReader reader, ILogger logger)
{
    const string Meter = "Warmline";
    const int FlushAt = 64 * 1024;

    /// <summary>Counts from now on, and until the application has stopped.</summary>
    public static MetricsEndpoint Of(IServiceProvider services)
    {
        var reader = new MeterReader(Meter, services.GetService<IMeterFactory>());
        services.GetService<IHostApplicationLifetime>()?.ApplicationStopped.Register(reader.Dispose);
        return new MetricsEndpoint(reader, (services.GetService<ILoggerFactory>() ?? NullLoggerFactory.Instance).CreateLogger(Meter));
    }

    /// <summary>The look at the pools is over before the first byte goes out: a slow reader holds nothing up.</summary>
    public async Task MetricsAsync(HttpContext context)
    {
        var openMetrics = WantsOpenMetrics(context.Request.Headers.Accept);
        var families = reader.Read(error => CallbackFailed(logger, error));
        context.Response.ContentType = openMetrics ? PrometheusText.OpenMetricsType : PrometheusText.TextType;
        context.Response.Headers.CacheControl = "no-store";
        context.Response.Headers.Vary = HeaderNames.Accept;
        var output = context.Response.BodyWriter;
        var text = new PrometheusText(output, openMetrics);
        foreach (var family in families)
        {
            text.Write(family);
            if (output.UnflushedBytes > FlushAt)   // with thousands of series no answer piles up in memory
            {
                await output.FlushAsync(context.RequestAborted).ConfigureAwait(false);
            }
        }

        text.End();
        await output.FlushAsync(context.RequestAborted).ConfigureAwait(false);
    }

    /// <summary>
    /// OpenMetrics where the caller likes it at least as well as plain text; text for whoever does not say, or says it in a way that cannot
    /// be read.
    /// </summary>
    internal static bool WantsOpenMetrics(StringValues accept)
    {
        if (!MediaTypeHeaderValue.TryParseList(accept, out var types))
        {
            return false;
        }

        var (openMetrics, text) = (0.0, 0.0);
        foreach (var type in types)
        {
            var quality = type.Quality ?? 1;
            if (type.MediaType.Equals("application/openmetrics-text", StringComparison.OrdinalIgnoreCase))
            {
                var version = type.Parameters.FirstOrDefault(parameter => parameter.Name.Equals("version", StringComparison.OrdinalIgnoreCase))?.Value;
                openMetrics = version is null || version.Value.Value is "1.0.0" or "\"1.0.0\"" ? Math.Max(openMetrics, quality) : openMetrics;
            }
            else if (type.MatchesMediaType("text/plain"))
            {
                text = Math.Max(text, quality);
            }
        }

        return openMetrics > 0 && openMetrics >= text;
    }

    [LoggerMessage(40, LogLevel.Warning, "A callback of an instrument failed while metrics were read; its figures are missing from that answer")]
    static partial void CallbackFailed(ILogger logger, Exception error);
}
