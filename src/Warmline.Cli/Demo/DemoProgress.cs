using System.Globalization;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace Warmline.Cli.Demo;

/// <summary>How far one part of the demo is. Written by the calls, read by whoever draws it.</summary>
internal sealed class Tracker(string title, int total, TimeProvider time, Func<string?>? now = null)
{
    readonly Lock _lock = new();
    TimeSpan _before;
    long? _started;
    int _done;

    public string Title => title;

    public int Total => total;

    public int Done => Volatile.Read(ref _done);

    public bool IsOver => Done >= total;

    /// <summary>What goes on, in a few words; null when there is nothing to say.</summary>
    public string? Now => now?.Invoke();

    /// <summary>The time on its clock, over all rounds.</summary>
    public TimeSpan Elapsed
    {
        get
        {
            lock (_lock)
            {
                return _before + (_started is { } started ? time.GetElapsedTime(started) : TimeSpan.Zero);
            }
        }
    }

    public void Start()
    {
        lock (_lock)
        {
            _started = time.GetTimestamp();
        }
    }

    public void Advance() => Interlocked.Increment(ref _done);

    /// <summary>Stops its clock.</summary>
    public void Stop()
    {
        lock (_lock)
        {
            if (_started is { } started)
            {
                _before += time.GetElapsedTime(started);
                _started = null;
            }
        }
    }
}

/// <summary>Shows the trackers while the work runs.</summary>
internal abstract class DemoProgress
{
    public abstract Task RunAsync(IReadOnlyList<Tracker> trackers, Func<Task> work);

    /// <summary>A tracker reached its end.</summary>
    public virtual void Finished(Tracker tracker)
    {
    }
}

/// <summary>For a terminal: one line with a bar for each tracker, redrawn in place.</summary>
internal sealed class LiveProgress(IAnsiConsole console, TimeProvider time) : DemoProgress
{
    /// <summary>Often enough to be seen moving; each frame costs the measured calls under a millisecond.</summary>
    static readonly TimeSpan Frame = TimeSpan.FromMilliseconds(80);

    public override async Task RunAsync(IReadOnlyList<Tracker> trackers, Func<Task> work)
    {
        // Spectre hides the cursor meanwhile and shows it again however this ends.
        await console.Live(Draw(trackers)).StartAsync(async live =>
        {
            live.Refresh();
            var running = work();
            while (!running.IsCompleted)
            {
                await Task.WhenAny(running, Task.Delay(Frame, time));
                live.UpdateTarget(Draw(trackers));
            }

            await running;
        });
    }

    IRenderable Draw(IReadOnlyList<Tracker> trackers)
    {
        var grid = new Grid().AddColumn(new GridColumn().NoWrap().Padding(2, 0, 2, 0)).AddColumn(new GridColumn().NoWrap()).AddColumn(new GridColumn().NoWrap().RightAligned()).AddColumn(new GridColumn().NoWrap().RightAligned());
        // Two columns stay free: an echoed ^C must not break the last line.
        var width = Math.Clamp(console.Profile.Width - 54, 8, 40);
        foreach (var tracker in trackers)
        {
            var share = (double)tracker.Done / tracker.Total;
            grid.AddRow(
                new Text(tracker.Title),
                Bars.Draw(share, width, tracker.IsOver ? Color.Green : Color.Blue, console.Profile.Capabilities.Unicode, rest: true),
                new Text(string.Create(CultureInfo.InvariantCulture, $"{tracker.Done}/{tracker.Total} calls")),
                new Text(tracker.Done == 0 && tracker.Elapsed == TimeSpan.Zero ? "waiting" : string.Create(CultureInfo.InvariantCulture, $"{tracker.Elapsed.TotalSeconds:0.00} s")));
        }

        // Below the bars, as each is as wide as the page.
        var notes = trackers.Where(tracker => tracker.Now is not null).Select(tracker => (IRenderable)new Padder(new Text($"{tracker.Title}: {tracker.Now}").Overflow(Overflow.Ellipsis), new Padding(2, 0, 2, 0))).ToArray();
        return notes.Length == 0 ? grid : new Rows([grid, .. notes]);
    }
}

/// <summary>For a file or a pipe: a plain line when a tracker has ended.</summary>
internal sealed class LineProgress(TextWriter output) : DemoProgress
{
    public override Task RunAsync(IReadOnlyList<Tracker> trackers, Func<Task> work) => work();

    public override void Finished(Tracker tracker) =>
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {tracker.Title}: {tracker.Done}/{tracker.Total} calls in {tracker.Elapsed.TotalSeconds:0.00} s"));
}

/// <summary>Bars of block characters, or of number signs where the terminal has none.</summary>
internal static class Bars
{
    public static IRenderable Draw(double share, int width, Color color, bool unicode, bool rest)
    {
        // At least one block, or something small would look like nothing.
        var full = share <= 0 ? 0 : Math.Clamp((int)Math.Round(share * width), 1, width);
        var bar = new Paragraph().Append(new string(unicode ? '█' : '#', full), new Style(color));
        return rest ? bar.Append(new string(unicode ? '░' : '.', width - full), new Style(Color.Grey)) : bar;
    }

    /// <summary>One character for each value, from nothing to the most.</summary>
    public static string Spark(IReadOnlyList<double> values, double most, bool unicode)
    {
        var levels = unicode ? " ▁▂▃▄▅▆▇█" : " .:-=+*%#";
        return string.Concat(values.Select(value => levels[value <= 0 || most <= 0 ? 0 : Math.Clamp((int)Math.Ceiling(value / most * (levels.Length - 1)), 1, levels.Length - 1)]));
    }
}
