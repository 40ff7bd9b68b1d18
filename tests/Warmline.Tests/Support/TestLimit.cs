namespace Warmline.Tests.Support;

/// <summary>How long a test may take that waits for events: one that waits for what never comes must fail, not hang. Generous, as build machines are slow.</summary>
internal static class TestLimit
{
    public const int Milliseconds = 30_000;
}
