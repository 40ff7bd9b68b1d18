using System.Net;

namespace Warmline.Tests.Http;

/// <summary>What a caller sees of a failure, in a line: the outermost exception by its public base type, and the types below it.</summary>
internal static class Failures
{
    public static async Task<(string Shape, Exception? Error)> PlayAsync(Func<Task<HttpResponseMessage>> send)
    {
        try
        {
            using var response = await send();
            return ($"{(int)response.StatusCode}", null);
        }
        catch (Exception error)
        {
            return (Shape(error), error);
        }
    }

    /// <summary>As <c>HttpRequestException(ResponseEnded) &lt; HttpIOException</c>.</summary>
    public static string Shape(Exception error)
    {
        var names = new List<string> { error is HttpRequestException failed ? $"{(failed is PoolRequestException or PoolConnectException ? nameof(HttpRequestException) : failed.GetType().Name)}({failed.HttpRequestError})" : error.GetType().Name };
        for (var at = error.InnerException; at is not null; at = at.InnerException)
        {
            names.Add(at.GetType().Name);
        }

        return string.Join(" < ", names);
    }
}

/// <summary>An application's own error, which derives from the platform's.</summary>
internal sealed class OwnRequestException(string message) : HttpRequestException(message);

/// <summary>A content that cannot tell its length.</summary>
internal sealed class BadLengthContent : HttpContent
{
    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => Task.CompletedTask;

    protected override bool TryComputeLength(out long length) => throw new InvalidDataException("no length");
}
