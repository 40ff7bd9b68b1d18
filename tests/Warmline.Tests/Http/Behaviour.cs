using Xunit;

namespace Warmline.Tests.Http;

/// <summary>Something that a user of an HttpClient relies on. It runs on every side and tells in a few words what happened there.</summary>
/// <param name="Name">What it is about; unique.</param>
/// <param name="Run">Plays it.</param>
/// <param name="Reason">Why the pool differs from the bare handler; null where it does not.</param>
/// <param name="On">The protocols for which it makes sense.</param>
internal sealed record Behaviour(string Name, Func<Side, Task<string>> Run, string? Reason = null, On On = On.Both)
{
    public const string Header = "| behaviour | HTTP/1.1 pool | HTTP/2 pool | bare handler | decision |\n|---|---|---|---|---|";

    const string None = "–";

    /// <summary>Plays it on every side and writes its row.</summary>
    public async Task<string> RowAsync()
    {
        var pool1 = await PlayAsync(isPool: true, http2: false);
        var pool2 = await PlayAsync(isPool: true, http2: true);
        var bare1 = await PlayAsync(isPool: false, http2: false);
        var bare2 = await PlayAsync(isPool: false, http2: true);
        var same = pool1 == bare1 && pool2 == bare2;
        Assert.True(same == Reason is null, $"{Name}: {(same ? "no difference, but a reason for one" : "a difference without a reason")}.\n1.1 pool: {pool1}\n1.1 bare: {bare1}\n2 pool: {pool2}\n2 bare: {bare2}");
        var bare = bare1 == bare2 || On is On.Http1 ? bare1 : On is On.Http2 ? bare2 : $"1.1: {bare1}; 2: {bare2}";
        return $"| {Name} | {pool1} | {pool2} | {bare} | {(Reason is null ? "same" : $"differs: {Reason}")} |";
    }

    async Task<string> PlayAsync(bool isPool, bool http2)
    {
        if (!On.HasFlag(http2 ? On.Http2 : On.Http1))
        {
            return None;
        }

        await using var side = new Side(isPool, http2);
        var outcome = await Run(side);
        Assert.False(outcome.Contains('|', StringComparison.Ordinal) || outcome.Contains('\n', StringComparison.Ordinal), outcome);
        return outcome;
    }
}

[Flags]
internal enum On
{
    Http1 = 1,
    Http2 = 2,
    Both = 3,
}
