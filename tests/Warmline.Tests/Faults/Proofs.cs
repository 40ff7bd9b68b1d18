using Warmline.Scheduling;

namespace Warmline.Tests.Faults;

/// <summary>The four things that hold whatever happens, proved from the server's own log.</summary>
internal static class Proofs
{
    public const string NeedlesslyUnknown = "the verdict is Unknown, and the server had said that it did not process it";

    /// <summary>Sendings after which a call that is never processed may be given back: the first and those that follow.</summary>
    static readonly int MostSendings = 1 + new SchedulerLimits().MaxRedispatches;

    /// <summary>What does not hold; empty when all does.</summary>
    public static IReadOnlyList<string> Broken(IReadOnlyList<Call> calls, IReadOnlyList<Copy> log) =>
        [.. calls.SelectMany(call => Broken(call, [.. log.Where(copy => copy.Call == call.Id)]).Select(what => $"call {call.Id}: {what}"))];

    static IEnumerable<string> Broken(Call call, Copy[] copies)
    {
        if (RanTwice(call, copies))
        {
            yield return "a POST ran twice";
        }

        if (call.Kind.Method == HttpMethod.Post && copies.SkipLast(1).Any(copy => !copy.Disowned))
        {
            yield return "a POST was sent again without the server's word that it had not processed it";
        }

        if (Lost(call, copies) is { } loss)
        {
            yield return loss;
        }

        if (call.Hangs)
        {
            yield return "it hung";
        }

        if (call.Clock is { } clock && call.Turned > (clock.Limit * 2) + TimeSpan.FromSeconds(12))   // a clock may begin a turn or two late
        {
            yield return $"it ended in {clock.Name} ({clock.Limit}) after {call.Turned}";
        }

        if (PassesAsWhole(call, copies))
        {
            yield return "a broken answer passed as whole";
        }
    }

    public static bool RanTwice(Call call, IEnumerable<Copy> copies) => call.Kind.Method == HttpMethod.Post && copies.Count(copy => copy is { Ran: true, Disowned: false }) > 1;

    public static bool PassesAsWhole(Call call, IEnumerable<Copy> copies) => call.IsWhole && !copies.Any(copy => copy is { AnsweredWhole: true, Disowned: false } && copy.Said == call.Text);

    /// <summary>A call that failed although the server never ran it, and could have, or whose verdict is not what the log says.</summary>
    static string? Lost(Call call, Copy[] copies)
    {
        if (call.Error is null or OperationCanceledException)
        {
            return null;
        }

        var neverRan = copies.All(copy => copy.Disowned);
        return call.Verdict switch
        {
            RequestVerdict.NotSent when copies.Any(copy => !copy.Disowned) => "the verdict is NotSent, and it had arrived",
            RequestVerdict.Unprocessed when !neverRan => "the verdict is Unprocessed, and the server had not said so",
            RequestVerdict.Unknown when neverRan && copies.Length > 0 => NeedlesslyUnknown,
            null or RequestVerdict.Unknown => null,
            _ when call.Error is RequestStalledException { Phase: StallPhase.Write } => null,   // its own clock ended it where it had its place
            _ when call.Kind.Content is not null && copies.Length > 0 => null,   // its body could not be sent again
            _ when copies.Length >= MostSendings => null,
            _ when copies.Length == 0 && !call.WasAble => null,   // there was nowhere to send it
            _ => $"lost after {copies.Length} sendings, none of which the server processed",
        };
    }
}
