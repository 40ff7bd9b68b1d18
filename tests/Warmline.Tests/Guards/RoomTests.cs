using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Xunit;

namespace Warmline.Tests.Guards;

/// <summary>How large a class, a file and a line may be: so that each can be read at once.</summary>
public sealed partial class RoomTests
{
    const int MostColumns = 140;
    const int MostFields = 15;
    const int MostMembers = 30;

    /// <summary>Classes in several files, although they have no source generator. Each is to be divided by concern.</summary>
    static readonly string[] StillPartial = ["ConnectionStream", "PoolSettings", "FieldDemo"];

    /// <summary>Folders that keep to the columns. The others are to follow.</summary>
    static readonly string[] Kept = ["src/Warmline/Calls", "src/Warmline/Pool", "src/Warmline/Scheduling"];

    /// <summary>Larger than the rule, and why.</summary>
    static readonly Dictionary<string, string> LargeClasses = new(StringComparer.Ordinal)
    {
        ["PoolEngine"] = "the parts of a pool, a property each",
        ["PoolMetrics"] = "an instrument each",
        ["LogMessages"] = "a message each",
        ["PoolSettings"] = "an option each",
        ["Scheduler"] = "an event each, and what is read out of it",
        ["ConnectionState"] = "the state of a connection, which the engine and the scheduler share",
        ["KeyState"] = "the state of a connection key, likewise",
        ["Slot"] = "what a connection shows and takes",
        ["ConnectionStream"] = "reads, writes and watches one wire; still to be divided",
        ["Http2FrameWatcher"] = "a value for each setting that a server announces",
        ["RequestClocks"] = "a clock for each timeout",
        ["PoolTime"] = "three intervals in ticks, and the state of one standstill",
    };

    [Fact]
    public void No_class_is_partial_except_for_a_source_generator() =>
        Repo.AssertNone("Partial without a source generator; divide it by concern:", Sources("src").SelectMany(file => PartialClasses(file.Text)
            .Except(StillPartial).Select(name => $"{file.Path}: {name}")));

    [Theory]
    [InlineData("internal sealed partial class A { }", 1)]
    [InlineData("internal sealed partial record A { }", 1)]
    [InlineData("partial class A { [GeneratedRegex(\"x\")] private static partial Regex X(); }", 0)]
    [InlineData("class A { /* partial class B */ }", 0)]
    public void A_partial_class_is_found(string code, int count) => Assert.Equal(count, PartialClasses(code).Count());

    [Fact]
    public void No_line_is_longer_than_140_columns() =>
        Repo.AssertNone("Too long; break it:", Kept.SelectMany(Sources).SelectMany(static file => LongLines(file.Text).Select(line => $"{file.Path}:{line}")));

    [Fact]
    public void A_long_line_is_found() => Assert.Equal([2], LongLines($"a\n{new string('x', MostColumns + 1)}\n{new string('x', MostColumns)}"));

    [Fact]
    public void No_class_has_more_than_15_fields_or_30_members() =>
        Repo.AssertNone("Too large; divide it by concern:", typeof(ConnectionPool).Assembly.GetTypes()
            .Where(static type => type is { IsClass: true, IsVisible: false } && !IsGenerated(type) && !LargeClasses.ContainsKey(type.Name))
            .Select(static type => (type.Name, Fields: Fields(type), Members: Members(type)))
            .Where(static type => type.Fields > MostFields || type.Members > MostMembers)
            .Select(static type => $"{type.Name}: {type.Fields} fields, {type.Members} members"));

    [Fact]
    public void The_scheduler_is_held_by_the_class_that_has_the_lock() =>
        Assert.Equal(["PoolCore"], typeof(ConnectionPool).Assembly.GetTypes().Where(static type => type.Namespace != typeof(Warmline.Scheduling.Scheduler).Namespace)
            .Where(static type => type.GetFields(Declared).Any(static field => field.FieldType == typeof(Warmline.Scheduling.Scheduler)))
            .Select(static type => type.Name));

    const BindingFlags Declared = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

    static int Fields(Type type) => type.GetFields(Declared).Count(static field => !field.IsDefined(typeof(CompilerGeneratedAttribute)) || field.Name.EndsWith('P'));

    /// <summary>Overridden ones are given by the base class.</summary>
    static int Members(Type type)
    {
        const BindingFlags All = Declared | BindingFlags.Static;
        return type.GetProperties(All).Count(static property => property.GetAccessors(true).All(static accessor => accessor.GetBaseDefinition() == accessor))
            + type.GetEvents(All).Length
            + type.GetMethods(All).Count(static method => !method.IsSpecialName && !IsGenerated(method) && method.GetBaseDefinition() == method && !method.Name.Contains('.', StringComparison.Ordinal));
    }

    static bool IsGenerated(MemberInfo member) => member.IsDefined(typeof(CompilerGeneratedAttribute)) || member.Name.Contains('<', StringComparison.Ordinal)
        || (member.DeclaringType is { } outer && IsGenerated(outer));

    static IEnumerable<(string Path, string Text)> Sources(string under) =>
        Repo.Files(under).Where(static path => path.EndsWith(".cs", StringComparison.Ordinal)).Select(static path => (path, Repo.Read(path)));

    static IEnumerable<string> PartialClasses(string text) =>
        SourceGenerator().IsMatch(text) ? [] : PartialClass().Matches(CSharpCode.Of(text)).Select(static match => match.Groups["name"].Value);

    static IEnumerable<int> LongLines(string text) =>
        text.Split('\n').Select(static (line, index) => (line, Number: index + 1)).Where(static line => line.line.Length > MostColumns).Select(static line => line.Number);

    [GeneratedRegex(@"\bpartial\s+(?:class|record|struct|interface)\s+(?:class\s+|struct\s+)?(?<name>\w+)")]
    private static partial Regex PartialClass();

    [GeneratedRegex(@"\[(?:LoggerMessage|GeneratedRegex|JsonSerializable|LibraryImport)\b")]
    private static partial Regex SourceGenerator();
}
