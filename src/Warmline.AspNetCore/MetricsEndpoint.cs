using Microsoft.AspNetCore.Http;

namespace Warmline.AspNetCore;

/// <summary>Answers with the metrics of the meter Warmline.</summary>
internal sealed class MetricsEndpoint
{
    public MetricsEndpoint(IServiceProvider services) => _ = services;

    public Task MetricsAsync(HttpContext context)
    {
        context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
        return Task.CompletedTask;
    }
}
