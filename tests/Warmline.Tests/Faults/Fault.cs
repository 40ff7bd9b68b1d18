using System.Text.RegularExpressions;
using Warmline.Tests.Http;
using Xunit;

namespace Warmline.Tests.Faults;

/// <summary>A fault of the server or the way to it. It is played through the pool and through .NET's own handler, over HTTP/1.1 and HTTP/2.</summary>
/// <param name="Name">What goes wrong; unique.</param>
/// <param name="Play">What the caller does.</param>
internal sealed record Fault(string Name, Func<Stage, Task> Play)
{
    public const string Header = "| fault | HTTP | the caller sees | verdict | noticed | connections | .NET's own handler | why they differ |\n|---|---|---|---|---|---|---|---|";

    /// <summary>The script of the first connection; a good server's when empty.</summary>
    public Step[] First { get; init; } = [];

    /// <summary>The script of each later connection.</summary>
    public Step[] Rest { get; init; } = [];

    /// <summary>The script of each connection by its number, instead of the two.</summary>
    public Func<int, Step[]>? Script { get; init; }

    public On On { get; init; } = On.Both;

    /// <summary>One sentence, where the pool's caller is better or worse off than that of .NET's handler.</summary>
    public string? Reason { get; init; }

    public Action<ConnectionPoolOptions>? Options { get; init; }

    /// <summary>.NET's handler has to go through the row's network, too.</summary>
    public bool OwnNetwork { get; init; }

    /// <summary>.NET's handler sends it again or, at times, tells the upload's end before its cause.</summary>
    public bool BareLosesAtTimes { get; init; }

    /// <summary>The reason inside the exception depends on which of two threads sees the end first.</summary>
    public bool AnyReason { get; init; }

    /// <summary>What .NET's handler does, where a race of its own decides which: it has to be one of these.</summary>
    public string[]? BareEither { get; init; }

    /// <summary>What the pool's caller sees, where a race decides which.</summary>
    public string[]? Either { get; init; }

    /// <summary>When it is noticed, where a race decides which.</summary>
    public string[]? NoticedEither { get; init; }

    /// <summary>For rows in which it depends on how the connections share a burst: the page then tells the bound.</summary>
    public int? MostLost { get; init; }

    /// <inheritdoc cref="MostLost"/>
    public int? MostConnections { get; init; }

    /// <summary>Plays it on every side, proves what must hold, and writes its row: a line, or two where the protocols differ.</summary>
    public async Task<string> RowAsync()
    {
        var protocols = new[] { false, true }.Where(http2 => On.HasFlag(http2 ? On.Http2 : On.Http1)).ToArray();
        var sides = await Task.WhenAll(protocols.SelectMany(http2 => new[] { PlayAsync(true, http2), PlayAsync(false, http2) }));   // side by side, as hanging takes its time
        var lines = protocols.Select((http2, at) => (Http: http2 ? "2" : "1.1", Pool: sides[2 * at], Bare: sides[(2 * at) + 1])).ToArray();
        var differs = lines.Select(line => line.Pool.Kind != line.Bare.Kind).ToArray();
        Assert.True(Reason is not null || !differs.Any(static differ => differ), $"{Name}: the pool differs from .NET's handler, and no reason is given.\n{string.Join("\n", lines)}");
        var cells = lines.Select((line, at) => (line.Http,
            Text: $"{line.Pool.Sees} | {line.Pool.Verdict} | {line.Pool.Noticed} | {line.Pool.Connections} | {line.Bare.Sees}; {line.Bare.Connections} | {(differs[at] || !differs.Contains(true) ? Reason : null)} |")).ToArray();
        return cells is [var (_, one), var (_, two)] && one == two
            ? $"| {Name} | both | {one}"
            : string.Join('\n', cells.Select(cell => $"| {Name} | {cell.Http} | {cell.Text}"));
    }

    async Task<Seen> PlayAsync(bool isPool, bool http2)
    {
        await using var stage = new Stage(isPool, http2, this);
        try
        {
            await Play(stage);
        }
        catch
        {
            stage.IsBroken = true;
            throw;
        }

        if (isPool)
        {
            var broken = Proofs.Broken(stage.Calls, stage.Server.Ledger.Copies);
            Assert.True(broken.Count == 0, $"{Name}: {string.Join("; ", broken)}\n{stage.Describe()}");
        }

        var seen = Seen.Of(stage, MostLost, isPool ? MostConnections : null, AnyReason);
        if ((isPool ? Either : BareEither) is { } either)
        {
            Assert.Contains(seen.Sees, either);
            seen = seen with { Sees = string.Join(" or ", either) };
        }

        if (isPool && NoticedEither is { } times)
        {
            Assert.Contains(seen.Noticed, times);
            seen = seen with { Noticed = string.Join(" or ", times) };
        }

        return isPool || !BareLosesAtTimes ? seen : seen with { Sees = "200, at times OperationCanceledException", Connections = "1 or 2 connections", Kind = "" };
    }
}

/// <summary>What one side saw of a fault, in words.</summary>
internal sealed partial record Seen(string Sees, string Verdict, string Noticed, string Connections, string Kind)
{
    public static Seen Of(Stage stage, int? mostLost, int? mostConnections, bool anyReason)
    {
        var told = stage.Calls.Where(call => call.IsTold).ToArray();
        var log = stage.Server.Ledger.Copies;
        var broken = told.Any(call => Proofs.PassesAsWhole(call, log.Where(copy => copy.Call == call.Id))) ? ", a broken answer taken for whole" : "";
        var twice = told.Any(call => Proofs.RanTwice(call, log.Where(copy => copy.Call == call.Id))) ? ", run twice" : "";
        var connections = stage.Server.Wires.Count;
        Assert.True(connections <= (mostConnections ?? int.MaxValue), $"{connections} connections. {stage.Describe()}");
        var clocks = told.Select(call => NoticedBy(call, stage)).Distinct().ToArray();
        return new Seen(
            (anyReason ? Reasons().Replace(Outcomes(told, mostLost, stage), "") : Outcomes(told, mostLost, stage)) + broken + twice + (stage.Note is { } note ? $"; {note}" : ""),
            string.Join(", ", told.Where(call => call.Error is not null).Select(call => call.Verdict?.ToString() ?? "–").DefaultIfEmpty("–").Distinct()),
            string.Join(", ", clocks.Length > 1 ? clocks.Where(clock => clock != "–") : clocks),
            mostConnections is { } most ? $"at most {most}" : connections == 1 ? "1 connection" : $"{connections} connections",
            string.Concat(Kinds(told), broken, twice, stage.Note));
    }

    [GeneratedRegex(@" \(\w+\)")]
    private static partial Regex Reasons();

    static string Kinds(Call[] calls) => string.Join(",", calls.Select(call => call.Hangs ? "hangs" : call.Error is not null ? "fails" : call.Stopped ? "left" : "answered").Distinct().Order(StringComparer.Ordinal));

    static string Outcomes(Call[] calls, int? mostLost, Stage stage)
    {
        var groups = calls.GroupBy(call => call.Outcome).ToArray();
        if (mostLost is { } most)
        {
            var lost = calls.Where(call => call.Error is not null).ToArray();
            Assert.True(!stage.IsPool || lost.Length <= most, $"{lost.Length} lost. {stage.Describe()}");
            return $"{(stage.IsPool ? $"at most {most}" : $"{lost.Length}")} of {calls.Length} are lost{string.Concat(lost.Select(call => $": {call.Outcome}").Distinct())}";
        }

        return groups.Length == 1 ? (calls.Length == 1 ? "" : $"{calls.Length} × ") + groups[0].Key : string.Join("; ", groups.Select(group => $"{group.Count()} × {group.Key}"));
    }

    static string NoticedBy(Call call, Stage stage) => call.EndedBy ?? (call.Stopped ? "–" : null) ?? call.Clock?.Name
        ?? (call.Turned == TimeSpan.Zero ? "at once"
            : call.Error is null && call.Turned >= Stage.ConnectLimit && stage.Stats is { FailedDials: > 0 } ? "Timeouts.Connect"
            : $"within {Math.Max(1, Math.Round(call.Turned.TotalSeconds)):0} s");
}
