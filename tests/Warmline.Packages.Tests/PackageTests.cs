using System.IO.Compression;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Warmline.Packages.Tests;

/// <summary>What is in the packages.</summary>
public sealed partial class PackageTests(Feed feed)
{
    static readonly Guid EmbeddedSource = new("0E8A571B-6926-466E-B4AD-8AB04611F5FE");   // Portable PDB v1.0 specification, "Embedded Source"

    public static TheoryData<string> Ids => [.. Feed.Ids];

    [Fact]
    public void Packing_gives_no_warning() => Assert.DoesNotContain("warning", feed.PackOutput, StringComparison.OrdinalIgnoreCase);

    [Theory]
    [MemberData(nameof(Ids))]
    public void The_nuspec_says_what_a_user_asks(string id)
    {
        using var package = feed.Open(id);
        var metadata = XDocument.Parse(Text(package, id + ".nuspec")).Root!.Elements().Single();

        Assert.Equal((id, feed.Version, "The Warmline authors", "README.md"), (Value("id"), Value("version"), Value("authors"), Value("readme")));
        Assert.Equal(("expression", "MIT"), (Element("license")!.Attribute("type")!.Value, Value("license")));
        Assert.InRange(Value("description").Length, 40, 300);
        Assert.Contains("openai", Value("tags").Split(' '));
        Assert.Contains("CHANGELOG.md", Value("releaseNotes"), StringComparison.Ordinal);
        Assert.StartsWith("Copyright", Value("copyright"), StringComparison.Ordinal);
        Assert.Null(Element("repository")?.Attribute("url"));

        XElement? Element(string name) => metadata.Elements().FirstOrDefault(element => element.Name.LocalName == name);
        string Value(string name) => Element(name)?.Value ?? "";
    }

    [Theory]
    [InlineData("Warmline", "Microsoft.Extensions.Diagnostics.HealthChecks", "Microsoft.Extensions.Hosting.Abstractions", "Microsoft.Extensions.Http", "Microsoft.Extensions.Logging.Abstractions")]
    [InlineData("Warmline.AspNetCore", "Warmline")]
    [InlineData("Warmline.MockLlm")]
    [InlineData("Warmline.Cli")]
    public void A_package_brings_these_others_and_no_more(string id, params string[] others)
    {
        using var package = feed.Open(id);
        var dependencies = XDocument.Parse(Text(package, id + ".nuspec")).Descendants().Where(element => element.Name.LocalName == "dependency").ToList();

        Assert.Equal(others, dependencies.Select(dependency => dependency.Attribute("id")!.Value).Order(StringComparer.Ordinal));
        Assert.All(dependencies.Where(dependency => dependency.Attribute("id")!.Value.StartsWith("Warmline", StringComparison.Ordinal)), dependency => Assert.Equal(feed.Version, dependency.Attribute("version")!.Value));
    }

    [Theory]
    [MemberData(nameof(Ids))]
    public void A_readme_leads_only_to_what_is_there(string id)
    {
        using var package = feed.Open(id);
        var readme = Text(package, "README.md");
        var names = package.Entries.Select(entry => entry.FullName).ToHashSet(StringComparer.Ordinal);

        Assert.StartsWith(id == "Warmline" ? "# Warmline\n" : $"# {id}\n", readme, StringComparison.Ordinal);
        Assert.All(Links().Matches(readme).Select(match => match.Groups["to"].Value).Where(to => !to.StartsWith("https://", StringComparison.Ordinal)), to => Assert.Contains(to, names));
    }

    [Theory]
    [InlineData("Warmline", "T:Warmline.ConnectionPool")]
    [InlineData("Warmline.AspNetCore", "T:Microsoft.AspNetCore.Builder.PoolEndpointExtensions")]
    [InlineData("Warmline.MockLlm", "T:Warmline.MockLlm.MockLlmServer")]
    public void A_library_has_its_documentation_beside_it(string id, string member)
    {
        using var package = feed.Open(id);
        var members = XDocument.Parse(Text(package, $"lib/net10.0/{id}.xml")).Descendants("member").ToDictionary(element => element.Attribute("name")!.Value, element => element.Value.Trim());

        Assert.NotEmpty(members[member]);
        Assert.Equal(["lib/net10.0/" + id + ".dll", "lib/net10.0/" + id + ".xml"], package.Entries.Select(entry => entry.FullName).Where(name => name.StartsWith("lib/", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_tool_is_a_tool_and_brings_neither_documentation_files_nor_translations()
    {
        using var package = feed.Open("Warmline.Cli");
        var command = XDocument.Parse(Text(package, "tools/net10.0/any/DotnetToolSettings.xml")).Descendants("Command").Single();

        Assert.Equal("warmline", command.Attribute("Name")!.Value);
        Assert.Contains(package.Entries, entry => entry.FullName == "tools/net10.0/any/Warmline.Cli.dll");
        Assert.DoesNotContain(package.Entries, entry => entry.FullName.EndsWith("resources.dll", StringComparison.Ordinal) || Regex.IsMatch(entry.FullName, @"/Warmline[^/]*\.xml$"));
    }

    [Theory]
    [MemberData(nameof(Ids))]
    public void Two_builds_in_two_folders_are_the_same_bytes(string id)
    {
        using var package = feed.Open(id);

        Assert.True(Bytes(Assembly(package, id)).AsSpan().SequenceEqual(File.ReadAllBytes(Feed.Built(id))),
            $"{id}.dll differs from {Feed.Built(id)}: it depends on its folder, or the repository was not built last with these sources in Release.");
    }

    [Theory]
    [MemberData(nameof(Ids))]
    public void The_symbols_fit_their_assembly_and_bring_the_sources(string id)
    {
        using var package = feed.Open(id);
        using var symbols = feed.Open(id, "snupkg");
        using var assembly = new PEReader(new MemoryStream(Bytes(Assembly(package, id))));
        using var provider = MetadataReaderProvider.FromPortablePdbStream(new MemoryStream(Bytes(symbols.Entries.Single(entry => entry.Name == id + ".pdb"))));
        var pdb = provider.GetMetadataReader();
        var codeView = assembly.ReadCodeViewDebugDirectoryData(assembly.ReadDebugDirectory().Single(entry => entry.Type == DebugDirectoryEntryType.CodeView));

        Assert.Equal(codeView.Guid, new BlobContentId(pdb.DebugMetadataHeader!.Id).Guid);
        Assert.StartsWith("/_/src/", codeView.Path, StringComparison.Ordinal);
        var documents = pdb.Documents.ToDictionary(handle => pdb.GetString(pdb.GetDocument(handle).Name));
        Assert.All(documents.Keys, name => Assert.StartsWith("/_/src/", name, StringComparison.Ordinal));
        Assert.All(documents.Values, handle => Assert.Contains(pdb.GetCustomDebugInformation(handle), info => pdb.GetGuid(pdb.GetCustomDebugInformation(info).Kind) == EmbeddedSource));
        Assert.Contains(documents.Keys, name => name.EndsWith(id == "Warmline.Cli" ? "/Program.cs" : ".cs", StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Ids))]
    public void No_file_names_a_folder_of_the_machine_or_a_package_server(string id)
    {
        string[] places = [feed.Source, Feed.Repository, Environment.GetFolderPath(Environment.SpecialFolder.UserProfile) + Path.DirectorySeparatorChar, "/v3/index.json"];
        foreach (var extension in new[] { "nupkg", "snupkg" })
        {
            using var package = feed.Open(id, extension);
            foreach (var entry in package.Entries.Where(entry => !IsForeign(entry.Name)))
            {
                var bytes = Bytes(entry);
                Assert.All(places, place => Assert.True(
                    bytes.AsSpan().IndexOf(Encoding.UTF8.GetBytes(place)) < 0 && bytes.AsSpan().IndexOf(Encoding.Unicode.GetBytes(place)) < 0, $"{entry.FullName} in {id}.{extension} holds {place}"));
            }
        }

        // What others built is theirs.
        static bool IsForeign(string name) => name.EndsWith(".dll", StringComparison.Ordinal) && !name.StartsWith("Warmline", StringComparison.Ordinal);
    }

    static ZipArchiveEntry Assembly(ZipArchive package, string id) =>
        package.Entries.Single(entry => entry.Name == id + ".dll");

    static byte[] Bytes(ZipArchiveEntry entry)
    {
        using var from = entry.Open();
        using var to = new MemoryStream();
        from.CopyTo(to);
        return to.ToArray();
    }

    static string Text(ZipArchive package, string name) => new StreamReader(new MemoryStream(Bytes(package.GetEntry(name) ?? throw new FileNotFoundException(name)))).ReadToEnd();

    [GeneratedRegex(@"\]\((?<to>[^)#\s]+)")]
    private static partial Regex Links();
}
