using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Warmline.Docs.Tests;

/// <summary>The documentation file beside a built assembly, by the compiler's names of its members.</summary>
sealed partial class XmlDocs
{
    const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;

    static readonly Dictionary<Assembly, XmlDocs> Known = [];

    readonly Dictionary<string, XElement> _members;

    XmlDocs(Assembly assembly) => _members = XDocument.Load(Path.ChangeExtension(Path.Combine(AppContext.BaseDirectory, assembly.GetName().Name + ".dll"), ".xml"))
        .Descendants("member").ToDictionary(member => member.Attribute("name")!.Value, StringComparer.Ordinal);

    /// <summary>What a package shows to its users: all of src/ but the command, which shows nothing.</summary>
    public static IReadOnlyList<Assembly> Assemblies { get; } = [.. Directory.GetDirectories(Path.Combine(Page.Root, "src"))
        .Where(folder => Directory.GetFiles(folder, "*.csproj").Length > 0).Select(folder => Assembly.Load(Path.GetFileName(folder))).Where(assembly => assembly.EntryPoint is null)];

    public static IEnumerable<Type> PublicTypes => Assemblies.SelectMany(assembly => assembly.GetExportedTypes());

    public static XmlDocs Of(Assembly assembly)
    {
        lock (Known)
        {
            return Known.TryGetValue(assembly, out var docs) ? docs : Known[assembly] = new XmlDocs(assembly);
        }
    }

    /// <summary>The summary as a reader sees it: links and code by their names.</summary>
    public static string SummaryOf(MemberInfo member) => Of(member.Module.Assembly)._members.TryGetValue(Id(member), out var docs) && docs.Element("summary") is { } summary ? Spaces().Replace(Text(summary), " ").Trim() : "";

    /// <summary>Whether the member has a summary, or takes another's.</summary>
    public static bool IsDescribed(MemberInfo member) => SummaryOf(member).Length > 0
        || (Of(member.Module.Assembly)._members.TryGetValue(Id(member), out var docs) && docs.Element("inheritdoc") is not null);

    /// <summary>The member and, of a record's constructor, its parameters.</summary>
    public static IEnumerable<string> Missing(Type type)
    {
        if (!IsDescribed(type))
        {
            yield return Id(type);
        }

        foreach (var member in Members(type).Where(member => !IsDescribed(member)))
        {
            yield return Id(member);
        }

        if (type.GetMethod("PrintMembers", Declared) is not null && Of(type.Assembly)._members.TryGetValue(Id(type), out var docs))
        {
            var constructor = type.GetConstructors().FirstOrDefault(c => c.GetParameters() is { Length: > 0 } all && all.All(parameter => type.GetProperty(parameter.Name!) is not null));
            foreach (var parameter in constructor?.GetParameters() ?? [])
            {
                if (docs.Elements("param").FirstOrDefault(param => param.Attribute("name")?.Value == parameter.Name) is not { } told || Text(told).Trim().Length == 0)
                {
                    yield return $"{Id(type)}, parameter {parameter.Name}";
                }
            }
        }
    }

    static IEnumerable<MemberInfo> Members(Type type)
    {
        var shown = type.GetMembers(Declared).Where(member => !member.IsDefined(typeof(CompilerGeneratedAttribute), false));
        return type.IsEnum ? shown.OfType<FieldInfo>().Where(field => field.IsLiteral)
            : type.IsSubclassOf(typeof(Delegate)) ? []
            : shown.Where(member => member switch
            {
                ConstructorInfo constructor => IsVisible(constructor) && constructor.GetParameters().Length > 0,   // one without parameters may be the compiler's
                MethodInfo method => IsVisible(method) && !(method.IsSpecialName && !method.Name.StartsWith("op_", StringComparison.Ordinal)),
                PropertyInfo property => property.GetAccessors(true).Any(IsVisible) && property.Name != "EqualityContract",
                FieldInfo field => field.IsPublic || field.IsFamily,
                EventInfo @event => IsVisible(@event.AddMethod!),
                _ => false,   // nested types come by themselves
            });
    }

    static bool IsVisible(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    /// <summary>The compiler's name of a member, as in <c>M:Warmline.ConnectionPool.Pause(System.Uri,System.Nullable{System.TimeSpan})</c>.</summary>
    static string Id(MemberInfo member) => member switch
    {
        Type type => "T:" + Named(type),
        FieldInfo => $"F:{Named(member.DeclaringType!)}.{member.Name}",
        EventInfo => $"E:{Named(member.DeclaringType!)}.{member.Name}",
        PropertyInfo property => $"P:{Named(member.DeclaringType!)}.{member.Name}{Parameters(property.GetIndexParameters())}",
        ConstructorInfo constructor => $"M:{Named(member.DeclaringType!)}.#ctor{Parameters(constructor.GetParameters())}",
        MethodInfo method => $"M:{Named(member.DeclaringType!)}.{method.Name}{(method.IsGenericMethod ? $"``{method.GetGenericArguments().Length}" : "")}{Parameters(method.GetParameters())}"
            + (method.Name is "op_Implicit" or "op_Explicit" ? "~" + Reference(method.ReturnType) : ""),
        _ => throw new NotSupportedException(member.ToString()),
    };

    static string Parameters(ParameterInfo[] parameters) => parameters.Length == 0 ? "" : $"({string.Join(',', parameters.Select(parameter => Reference(parameter.ParameterType)))})";

    static string Named(Type type) => type.FullName!.Replace('+', '.');

    static string Reference(Type type)
    {
        if (type.IsByRef)
        {
            return Reference(type.GetElementType()!) + "@";
        }

        if (type.IsArray)
        {
            return Reference(type.GetElementType()!) + "[]";
        }

        if (type.IsGenericParameter)
        {
            return (type.DeclaringMethod is null ? "`" : "``") + type.GenericParameterPosition;
        }

        return type.IsGenericType ? $"{Named(type.GetGenericTypeDefinition()).Split('`')[0]}{{{string.Join(',', type.GetGenericArguments().Select(Reference))}}}" : Named(type);
    }

    static string Text(XElement element)
    {
        var text = new StringBuilder();
        foreach (var node in element.Nodes())
        {
            text.Append(node switch
            {
                XText plain => plain.Value,
                XElement { Name.LocalName: "see" or "seealso" } see => see.Attribute("cref") is { } cref ? Short(cref.Value) : see.Attribute("langword")?.Value,
                XElement { Name.LocalName: "paramref" or "typeparamref" } name => name.Attribute("name")?.Value,
                XElement inner => Text(inner),
                _ => "",
            });
        }

        return text.ToString();
    }

    static string Short(string cref)
    {
        var name = cref[2..].Split('(')[0];
        return name[(name.LastIndexOf('.') + 1)..];
    }

    [GeneratedRegex(@"\s+")]
    private static partial Regex Spaces();
}

/// <summary>Every public member has a documentation entry with a summary, enum members and the parameters of records too.</summary>
public sealed class MemberTests
{
    [Fact]
    public void Every_public_member_is_described()
    {
        Assert.Contains(typeof(ConnectionPool), XmlDocs.PublicTypes);
        Assert.Contains(typeof(MockLlm.MockLlmServer), XmlDocs.PublicTypes);
        Check.None("Public members without a summary:", XmlDocs.PublicTypes.SelectMany(XmlDocs.Missing));
    }

    [Fact]
    public void Names_are_the_compilers()
    {
        Assert.StartsWith("Opens connections ahead", XmlDocs.SummaryOf(typeof(ConnectionPool).GetMethod(nameof(ConnectionPool.WarmUpAsync))!), StringComparison.Ordinal);
        Assert.StartsWith("Whether the server can have", XmlDocs.SummaryOf(typeof(RequestStalledException).GetProperty(nameof(RequestStalledException.Verdict))!), StringComparison.Ordinal);
        Assert.StartsWith("The server may have processed", XmlDocs.SummaryOf(typeof(RequestVerdict).GetField(nameof(RequestVerdict.Unknown))!), StringComparison.Ordinal);
        Assert.True(XmlDocs.IsDescribed(typeof(PoolResponseExtensions).GetMethods().Single(method => method.IsGenericMethod)));
        Assert.False(XmlDocs.IsDescribed(typeof(PoolStats).GetMethod(nameof(GetHashCode))!));   // the compiler's own
    }
}
