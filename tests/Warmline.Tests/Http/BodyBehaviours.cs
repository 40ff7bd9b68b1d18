namespace Warmline.Tests.Http;

internal static class BodyBehaviours
{
    public static Behaviour[] All { get; } = [];
}
