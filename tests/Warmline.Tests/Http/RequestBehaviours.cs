namespace Warmline.Tests.Http;

internal static class RequestBehaviours
{
    public static Behaviour[] All { get; } = [];
}
