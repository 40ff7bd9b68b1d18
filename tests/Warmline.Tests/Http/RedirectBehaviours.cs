namespace Warmline.Tests.Http;

internal static class RedirectBehaviours
{
    public static Behaviour[] All { get; } = [];
}
