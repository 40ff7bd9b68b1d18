namespace Warmline.Docs.Tests;

/// <summary>docs/errors.md leaves out no reason, phase, verdict or exception, and says of each what to do.</summary>
public sealed class ErrorTests
{
    static readonly Page Errors = Page.Of("docs/errors.md");

    static IEnumerable<Type> Exceptions => XmlDocs.PublicTypes.Where(type => type.IsSubclassOf(typeof(Exception)));

    public static TheoryData<PoolRejectionReason> Reasons => [.. Enum.GetValues<PoolRejectionReason>()];

    [Theory]
    [MemberData(nameof(Reasons))]
    public void Every_reason_has_a_section_with_its_cause_and_what_to_change(PoolRejectionReason reason)
    {
        var text = Assert.Contains(reason.ToString(), Errors.Sections as IReadOnlyDictionary<string, string>);

        Assert.Contains("**Cause.** ", text, StringComparison.Ordinal);
        Assert.Contains("**Change.** ", text, StringComparison.Ordinal);
    }

    /// <summary>The link that an exception carries, at its end, leads to the reason's section.</summary>
    [Theory]
    [MemberData(nameof(Reasons))]
    public void The_help_link_of_every_reason_leads_to_its_section(PoolRejectionReason reason)
    {
        using var pool = new ConnectionPool();

        var link = PoolErrors.Rejected(reason, ConnectionPool.Freeze(new()), pool.GetStats(), disposed: false).HelpLink!.Split('#');

        Assert.EndsWith("docs/errors.md", link[0], StringComparison.Ordinal);
        Assert.Contains(link[1], Errors.Anchors);
    }

    [Theory]
    [InlineData(typeof(RequestVerdict), "verdict", 2)]
    [InlineData(typeof(StallPhase), "phase", 3)]
    [InlineData(typeof(DialPhase), "phase", 3)]
    public void Every_member_has_a_row(Type type, string what, int cells) => Check.None($"No row of {cells} cells of docs/errors.md begins with this {what}:", Enum.GetNames(type)
        .Where(name => !Errors.Rows.Any(row => row.Cells[0] == $"`{name}`" && row.Cells.Length == cells && row.Cells.All(cell => cell.Length > 0))));

    /// <summary>The first table: the exception, when it comes, what it is, what the SDKs do with it.</summary>
    [Fact]
    public void Every_exception_has_a_row() => Check.None("No row of docs/errors.md has this exception, when it comes, its base and what SDKs do with it:", Exceptions
        .Where(type => !Errors.Rows.Any(row => row.Cells.Length == 4 && row.Cells[0].Contains($"`{type.Name}`", StringComparison.Ordinal) && row.Cells[2].Contains($"`{type.BaseType!.Name}`", StringComparison.Ordinal)
            && row.Cells.All(cell => cell.Length > 0)))
        .Select(type => $"{type.Name} : {type.BaseType!.Name}"));
}
