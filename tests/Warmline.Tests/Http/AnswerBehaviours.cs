namespace Warmline.Tests.Http;

internal static class AnswerBehaviours
{
    public static Behaviour[] All { get; } = [];
}
