using System.Text;
using Warmline.Tests.Http;

namespace Warmline.Tests.Faults;

/// <summary>Calls whose request bodies are special.</summary>
internal static class Contents
{
    const int Parts = 300, PartBytes = 1024, LargeBytes = 32 * 1024 * 1024;

#pragma warning disable RS0030 // A body that comes slowly, as a browser's upload does.
    static readonly TimeProvider Clock = TimeProvider.System;
#pragma warning restore RS0030

    /// <summary>A body that is gone once it was read.</summary>
    public static CallKind OneShot { get; } = new() { Content = static () => new StreamContent(new OnceStream()) };

    /// <summary>A body that takes more than a second.</summary>
    public static CallKind Slow { get; } = NewSlow(static () => { });

    /// <summary>A body that takes more than a second, and tells when it was written to its end.</summary>
    public static CallKind NewSlow(Action ended) => new()
    {
        Content = () => new OwnContent(async (stream, ct) =>
        {
            for (var part = 0; part < Parts; part++)
            {
                await stream.WriteAsync(new byte[PartBytes], ct);
                await stream.FlushAsync(ct);
                await Task.Delay(TimeSpan.FromMilliseconds(4), Clock, ct);
            }

            ended();
        }),
    };

    /// <summary>A body that no socket's buffers hold.</summary>
    public static CallKind Large { get; } = new() { Content = static () => new ByteArrayContent(new byte[LargeBytes]) };

    sealed class OnceStream() : MemoryStream(Encoding.ASCII.GetBytes("{}"))
    {
        public override bool CanSeek => false;
    }
}
