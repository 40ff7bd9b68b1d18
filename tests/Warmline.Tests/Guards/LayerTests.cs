using System.Reflection;
using Warmline.MockLlm;
using Xunit;

namespace Warmline.Tests.Guards;

/// <summary>The directions between the library's folders, and the purity of the scheduler.</summary>
public sealed class LayerTests
{
    const string Library = "src/Warmline/";

    [Fact]
    public void The_librarys_folders_use_each_other_only_in_the_layouts_directions()
    {
        var sources = Repo.Files(Library).Where(path => path.EndsWith(".cs", StringComparison.Ordinal)).Select(path => (path[Library.Length..], Repo.Read(path))).ToList();

        Assert.True(sources.Count > 20, "The library's sources were not found.");
        Repo.AssertNone("Forbidden uses:", LayerRules.Violations(sources));
    }

    [Fact]
    public void The_mock_provider_does_not_know_the_library()
    {
        Assert.DoesNotContain(typeof(MockLlmServer).Assembly.GetReferencedAssemblies(), (AssemblyName reference) => reference.Name == "Warmline");
        Assert.DoesNotContain("ProjectReference", Repo.Read("src/Warmline.MockLlm/Warmline.MockLlm.csproj"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Options/A.cs", "class A { Pool pool; }", "root (Pool)")]
    [InlineData("Telemetry/A.cs", "class A { Warmline.Scheduling.Scheduler s; }", "Scheduling (Scheduler)")]
    [InlineData("Telemetry/A.cs", "using Warmline.Transport;", "Transport (Warmline.Transport;)")]
    [InlineData("Providers/A.cs", "class A { string s = $\"{new Slot()}\"; }", "Transport (Slot)")]
    [InlineData("Transport/A.cs", "class A : List<Scheduler>;", "Scheduling (Scheduler)")]
    [InlineData("Transport/A.cs", "class A { object o = request.GetPool(); }", "root (GetPool)")]
    [InlineData("Scheduling/A.cs", "class A { Slot s; }", "Transport (Slot)")]
    [InlineData("Scheduling/A.cs", "class A { bool b = a == Slot.Free; Func<object> f = x => Slot.Open(); Slot s = null; }", "Transport (Slot)")]
    [InlineData("Scheduling/A.cs", "class A { void M() { lock (this) { } } }", "no lock")]
    [InlineData("Scheduling/A.cs", "class A { System.IO.Stream s; }", "no System.IO.Stream")]
    [InlineData("Scheduling/A.cs", "class A { async void M() { } }", "no async")]
    [InlineData("Hosting/A.cs", "class A { Slot s; }", "Transport (Slot)")]
    [InlineData("Hosting/A.cs", "class A { Handler h; }", "Calls (Handler)")]
    [InlineData("Scheduling/A.cs", "class A { Handler h; }", "Calls (Handler)")]
    [InlineData("Transport/A.cs", "class A { Warmline.Calls.Handler h; }", "Calls (Handler)")]
    [InlineData("Gateway/A.cs", "", "not in the layout")]
    public void A_forbidden_use_is_named(string path, string text, string named)
    {
        var violation = Assert.Single(LayerRules.Violations([.. Declared, (path, text)]));

        Assert.StartsWith(path, violation, StringComparison.Ordinal);
        Assert.Contains(named, violation, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Options/A.cs", "/// <see cref=\"Pool\"/>\nclass A { int Pool_; /* Scheduler */ }")]
    [InlineData("Scheduling/A.cs", "class A { string s = \"await the Slot {Pool}\"; char c = '\"'; Setting t; bool b = x.Stream > 0; }")]
    [InlineData("Scheduling/A.cs", "class A { string s = $$\"\"\"{Slot} \"{{1}}\" lock\"\"\"; string t = @\"a\\\"; string u = $\"{{Slot}} {1} await\"; }")]
    [InlineData("Scheduling/A.cs", "class A { object Slot { get; set; } }")]
    [InlineData("Scheduling/A.cs", "class A { object B() => new B { Slot = 1 }; }")]
    [InlineData("A.cs", "class A { Slot s; Scheduler t; Setting u; Handler v; }")]
    [InlineData("Calls/A.cs", "class A { Slot s; Scheduler t; Setting u; Pool v; }")]
    public void A_use_in_a_comment_a_string_or_an_allowed_direction_passes(string path, string text) =>
        Assert.Empty(LayerRules.Violations([.. Declared, (path, text)]));

    static (string Path, string Text)[] Declared =>
    [
        ("Pool.cs", "public sealed class Pool;\nstatic class Extensions\n{\n    static object GetPool(this object request) => null;\n}"),
        ("Options/Setting.cs", "internal readonly record struct Setting(int Value);"),
        ("Scheduling/Scheduler.cs", "internal sealed partial class Scheduler\n{\n}"),
        ("Calls/Handler.cs", "internal sealed class Handler;"),
        ("Transport/Slot.cs", "internal sealed class Slot : IDisposable;"),
    ];
}
