namespace Warmline.Tests.Http;

internal static class CompressionBehaviours
{
    public static Behaviour[] All { get; } = [];
}
