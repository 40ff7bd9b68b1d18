namespace Warmline.Tests.Http;

internal static class UploadBehaviours
{
    public static Behaviour[] All { get; } = [];
}
