using Xunit;

namespace Warmline.Tests.Guards;

/// <summary>The public surface changes only on purpose.</summary>
public sealed class PublicApiTests
{
    const string Approved = "tests/Warmline.Tests/Guards/PublicApi.approved.txt", Accept = "WARMLINE_ACCEPT_API";

    [Fact]
    public void The_public_surface_is_the_approved_one()
    {
        var actual = PublicApi.Describe(typeof(ConnectionPool).Assembly.GetExportedTypes());
        if (Environment.GetEnvironmentVariable(Accept) == "1")
        {
            File.WriteAllText(Path.Combine(Repo.Root, Approved), actual);
        }

        Repo.AssertNone(
            $"The public surface differs from {Approved} (- approved, + actual). If that is meant, run this test once with {Accept}=1, read the file's diff and commit it.",
            PublicApi.Differences(Repo.Read(Approved), actual));
    }

    [Fact]
    public void A_lost_a_changed_and_a_new_member_are_told_with_their_type()
    {
        var differences = PublicApi.Differences("class A\n    int B()\n    int C()\n\nclass D\n", "class A\n    int B(int x)\n\nclass D\n    int C()\n");

        Assert.Equal(["- class A » int B()", "- class A » int C()", "+ class A » int B(int x)", "+ class D » int C()"], differences);
    }

    [Fact]
    public void A_signature_is_written_with_all_that_a_caller_relies_on()
    {
        string[] expected =
        [
            "class Warmline.Tests.Guards.PublicApiTests.Sample : IDisposable",
            "    IReadOnlyList<string?>? Names { get; init; }",
            "    Sample(int? count = default)",
            "    const int Most",
            "    protected virtual bool Try(out string? text)",
            "    static void Say<T>(T what, string how = \"low\", bool loud = False)",
            "    string Name { get; }",
            "    void Dispose()",
        ];

        Assert.Equal(string.Join('\n', expected) + "\n", PublicApi.Describe([typeof(Sample)]));
    }

#pragma warning disable CA1852, CA1063, CA1816, CA1051, CA1802, IDE0060 // A sample of signatures, not of good classes.
    class Sample(int? count = null) : IDisposable
    {
        public const int Most = 1;

        public IReadOnlyList<string?>? Names { get; init; }

        public string Name { get; private set; } = $"{count}";

        internal int Hidden { get; set; }

        public static void Say<T>(T what, string how = "low", bool loud = false)
        {
        }

        public void Dispose()
        {
        }

        protected virtual bool Try(out string? text)
        {
            text = null;
            return false;
        }
    }
#pragma warning restore
}
