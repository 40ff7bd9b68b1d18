using Warmline.Tests.Guards;
using Xunit;

namespace Warmline.Tests.Support;

/// <summary>A page of docs/ whose rows are written by tests: each row is played again and compared with the page, or the page is written anew when that is asked for.</summary>
/// <param name="path">The page, from the repository's root.</param>
/// <param name="accept">The environment variable that asks for a new page when it is 1.</param>
/// <param name="head">What stands above the first topic.</param>
/// <param name="header">The head of each topic's table.</param>
/// <param name="topics">Each topic's rows: the name, which is the first cell, and what plays the row and writes its lines.</param>
internal sealed class GeneratedPage(string path, string accept, string head, string header, IReadOnlyList<(string Name, IReadOnlyList<PageRow> Rows)> topics)
{
    public IEnumerable<string> Topics => topics.Select(topic => topic.Name);

    public IEnumerable<string> Names => topics.SelectMany(topic => topic.Rows).Select(row => row.Name);

    bool IsAccepting => Environment.GetEnvironmentVariable(accept) == "1";

    /// <summary>The column in which the page says what the platform's own handler does; null where there is none.</summary>
    public string? PlatformColumn { get; init; }

    /// <summary>Plays a row; fails when the page says something else.</summary>
    public async Task CheckRowAsync(string name)
    {
        var play = topics.SelectMany(topic => topic.Rows).Single(row => row.Name == name);
        var row = await play.PlayAsync();
        if (!IsAccepting)
        {
            var written = string.Join('\n', Repo.Read(path).Split('\n').Where(line => line.StartsWith($"| {name} |", StringComparison.Ordinal)));

            // Some ends of connections give the platform's handler one of two errors, by chance. The pool's own columns must be right each time.
            for (var again = 0; again < 4 && written != row && WithoutPlatform(written) == WithoutPlatform(row); again++)
            {
                row = await play.PlayAsync();
            }

            Assert.True(written == row, $"{path} says\n  {written}\nand what happens is\n  {row}\nIf that is meant, run these tests once with {accept}=1, read the file's diff and commit it.");
        }
    }

    string WithoutPlatform(string rows)
    {
        var column = Array.IndexOf(header.Split('\n')[0].Split(" | "), PlatformColumn);
        return column < 0 ? rows : string.Join('\n', rows.Split('\n').Select(row => string.Join(" | ", row.Split(" | ").Where((_, index) => index != column))));
    }

    /// <summary>Plays a topic's rows, some at once, where much of a row's time is waiting; fails with all that the page says otherwise.</summary>
    public async Task CheckTopicAsync(string name, int atOnce)
    {
        if (!IsAccepting)
        {
            using var places = new SemaphoreSlim(atOnce);
            var failures = await Task.WhenAll(topics.Single(topic => topic.Name == name).Rows.Select(row => InPlaceAsync(places, async () =>
            {
                var failure = await Record.ExceptionAsync(() => CheckRowAsync(row.Name));
                return failure is null ? "" : $"{row.Name}: {failure}";
            })));
            var told = failures.Where(failure => failure.Length > 0).ToArray();
            Assert.True(told.Length == 0, $"{told.Length} rows failed.\n{string.Join("\n\n", told)}");
        }
    }

    /// <summary>Fails when the page has other rows, or another text around them; writes the page first when that is asked for.</summary>
    public async Task CheckFrameAsync(int atOnce = 1)
    {
        if (IsAccepting)
        {
            using var places = new SemaphoreSlim(atOnce);
            var page = head + "\n";
            foreach (var (topic, rows) in topics)
            {
                page += $"\n## {topic}\n\n{header}\n{string.Join('\n', await Task.WhenAll(rows.Select(row => InPlaceAsync(places, row.PlayAsync))))}\n";
            }

            await File.WriteAllTextAsync(Path.Combine(Repo.Root, path), page, TestContext.Current.CancellationToken);
        }

        var expected = topics.Aggregate(head + "\n", (text, topic) => text + $"\n## {topic.Name}\n\n{header}\n" + string.Concat(topic.Rows.Select(row => $"| {row.Name} |\n")));
        Assert.Equal(Frame(expected), Frame(Repo.Read(path)));
    }

    static async Task<string> InPlaceAsync(SemaphoreSlim places, Func<Task<string>> play)
    {
        await places.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            return await play();
        }
        finally
        {
            places.Release();
        }
    }

    /// <summary>Of each row its name; a row may have several lines.</summary>
    static string Frame(string text)
    {
        var lines = text.Split('\n').Select(static line => line.StartsWith("| ", StringComparison.Ordinal) ? line[..(line.IndexOf(" |", 2, StringComparison.Ordinal) + 2)] : line).ToArray();
        return string.Join('\n', lines.Where((line, at) => at == 0 || line != lines[at - 1] || !line.StartsWith("| ", StringComparison.Ordinal)));
    }
}

/// <summary>A row: the name, which is its first cell, and what plays it and writes its lines.</summary>
internal sealed record PageRow(string Name, Func<Task<string>> PlayAsync);
