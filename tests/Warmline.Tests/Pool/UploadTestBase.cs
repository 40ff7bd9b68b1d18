using System.Net;
using System.Net.Http.Json;
using System.Text;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

/// <summary>Uploads in stepped time, and the contents that they send.</summary>
public abstract class UploadTestBase
{
    private protected static readonly TimeSpan Step = TimeSpan.FromMilliseconds(250);
    private protected static readonly TimeSpan Write = TimeSpan.FromSeconds(1);

    private protected ManualTime Time { get; } = new();

    private protected async Task<RequestStalledException> StallsAsync(Task call)
    {
        await Eventually.TrueAsync(() =>
        {
            Time.Advance(Step);
            return call.IsCompleted;
        });
        return await Assert.ThrowsAsync<RequestStalledException>(() => call);
    }

    private protected static StringContent Small(int length = 1000) => new(new string('x', length), Encoding.UTF8, "application/json");

    private protected static HttpContent Body(string kind, int megabytes = 1)
    {
        var bytes = new byte[megabytes * 1024 * 1024];
        return kind switch
        {
            "bytes" => new ByteArrayContent(bytes),
            "memory" => new ReadOnlyMemoryContent(bytes),
            "one write" => new OwnContent(bytes, bytes.Length),
            "pieces" => new OwnContent(bytes, 16 * 1024),
            "stream" => new StreamContent(new MemoryStream(bytes)),
            "multipart" => new MultipartFormDataContent { { new ByteArrayContent(bytes), "file", "a.bin" } },
            "json text" => Small(200_000),
            _ => JsonContent.Create(new { Text = new string('x', 200_000) }),
        };
    }

    /// <summary>A content that writes itself in pieces of one size.</summary>
    sealed class OwnContent(byte[] bytes, int piece) : HttpContent
    {
        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, CancellationToken.None);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
        {
            for (var at = 0; at < bytes.Length; at += piece)
            {
                await stream.WriteAsync(bytes.AsMemory(at, Math.Min(piece, bytes.Length - at)), cancellationToken);
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = bytes.Length;
            return true;
        }
    }
}
