using Xunit;

namespace Warmline.Tests.Guards;

/// <summary>The files of the repository that the tests were built from.</summary>
internal static class Repo
{
    /// <summary>The directory of Warmline.slnx, found upwards from the test's program.</summary>
    public static string Root { get; } = FindRoot();

    public static string Read(string path) => File.ReadAllText(Path.Combine(Root, path));

    /// <summary>Paths from the root, with forward slashes, of all files but what builds make and what Git keeps for itself.</summary>
    public static IReadOnlyList<string> Files(string under = "") => [.. Walk(new DirectoryInfo(Path.Combine(Root, under))).Order(StringComparer.Ordinal)];

    /// <summary>Fails with one line for each violation.</summary>
    public static void AssertNone(string rule, IEnumerable<string> violations)
    {
        var lines = violations.ToList();
        Assert.True(lines.Count == 0, $"{rule}\n  {string.Join("\n  ", lines)}");
    }

    static IEnumerable<string> Walk(DirectoryInfo directory)
    {
        foreach (var entry in directory.EnumerateFileSystemInfos())
        {
            if (entry is FileInfo)
            {
                yield return Path.GetRelativePath(Root, entry.FullName).Replace('\\', '/');
            }
            else if (entry.Name is not ("bin" or "obj" or "artifacts" or "node_modules" or "TestResults" or "BenchmarkDotNet.Artifacts" or ".git" or ".vs" or ".idea"))
            {
                foreach (var path in Walk((DirectoryInfo)entry))
                {
                    yield return path;
                }
            }
        }
    }

    static string FindRoot()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "Warmline.slnx")))
        {
            directory = directory.Parent;
        }

        return directory?.FullName ?? throw new InvalidOperationException($"No Warmline.slnx above {AppContext.BaseDirectory}.");
    }
}
