using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;

namespace Warmline.Tests.Guards;

/// <summary>Writes down what an assembly shows to its users: a block for each type, a line for each member, sorted.</summary>
internal static class PublicApi
{
    const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;

    static readonly Dictionary<Type, string> Keywords = new()
    {
        [typeof(void)] = "void", [typeof(object)] = "object", [typeof(string)] = "string", [typeof(bool)] = "bool", [typeof(int)] = "int",
        [typeof(long)] = "long", [typeof(double)] = "double", [typeof(byte)] = "byte",
    };

    public static string Describe(IEnumerable<Type> types) =>
        string.Join("\n\n", types.OrderBy(type => type.FullName, StringComparer.Ordinal).Select(type => string.Join('\n', [Header(type), .. Members(type)]))) + "\n";

    /// <summary>The lines that one text has and the other has not, each with its type.</summary>
    public static IReadOnlyList<string> Differences(string approved, string actual)
    {
        var (before, after) = (Qualified(approved), Qualified(actual));
        return [.. before.Except(after).Select(line => "- " + line), .. after.Except(before).Select(line => "+ " + line)];
    }

    static List<string> Qualified(string text)
    {
        var (type, lines) = ("", new List<string>());
        foreach (var line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.TrimEnd('\r')))
        {
            type = line.StartsWith(' ') ? type : line;
            lines.Add(line.StartsWith(' ') ? $"{type} » {line.Trim()}" : line);
        }

        return lines;
    }

    static string Header(Type type)
    {
        var kind = type.IsEnum ? "enum" : type.IsInterface ? "interface" : type.IsSubclassOf(typeof(Delegate)) ? "delegate" : type.IsValueType ? "struct" : "class";
        var words = new[]
        {
            kind != "class" ? "" : type is { IsAbstract: true, IsSealed: true } ? "static" : type.IsAbstract ? "abstract" : type.IsSealed ? "sealed" : "",
            kind == "struct" && type.IsDefined(typeof(IsReadOnlyAttribute), false) ? "readonly" : "",
            type.GetMethod("PrintMembers", Declared) is not null ? "record" : "",
        };
        var bases = new[] { type.BaseType }.Where(b => b is not null && b != typeof(object) && b != typeof(ValueType) && b != typeof(Enum))
            .Concat(type.IsEnum ? [] : type.GetInterfaces().Except(type.BaseType?.GetInterfaces() ?? []).OrderBy(i => i.Name, StringComparer.Ordinal));
        var names = string.Join(", ", bases.Select(b => Name(b!)));
        return string.Join(' ', words.Append(kind).Append(type.Namespace + "." + Name(type)).Where(word => word.Length > 0)) + (names.Length > 0 ? " : " + names : "");
    }

    static IEnumerable<string> Members(Type type)
    {
        if (type.IsEnum)
        {
            return Enum.GetValuesAsUnderlyingType(type).Cast<object>().Select(value => $"    {Enum.GetName(type, value)} = {value}");
        }

        var nullability = new NullabilityInfoContext();
        var members = type.GetConstructors(Declared).Where(IsShown).Select(c => Modifiers(c) + type.Name + Parameters(c, nullability))
            .Concat(type.GetMethods(Declared).Where(method => IsShown(method) && !method.IsSpecialName).Select(method =>
                $"{Modifiers(method)}{Name(nullability.Create(method.ReturnParameter))} {method.Name}{Generic(method)}{Parameters(method, nullability)}"))
            .Concat(type.GetProperties(Declared).Where(property => property.GetAccessors(true).Any(IsVisible)).Select(property =>
                $"{Modifiers(property.GetAccessors(true).First(IsVisible))}{Required(property)}{Name(nullability.Create(property))} {property.Name} {{ {Accessors(property)} }}"))
            .Concat(type.GetEvents(Declared).Where(e => IsVisible(e.AddMethod!)).Select(e => $"{Modifiers(e.AddMethod!)}event {Name(e.EventHandlerType!)} {e.Name}"))
            .Concat(type.GetFields(Declared).Where(field => field.IsPublic || field.IsFamily).Select(field =>
                $"{(field.IsLiteral ? "const " : field.IsStatic ? "static " : "")}{Name(nullability.Create(field))} {field.Name}"));
        return members.Order(StringComparer.Ordinal).Select(member => "    " + member);
    }

    static bool IsVisible(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    static bool IsShown(MethodBase method) => IsVisible(method) && !method.IsDefined(typeof(CompilerGeneratedAttribute), false);

    static string Modifiers(MethodBase method) =>
        (method.IsPublic ? "" : "protected ") + (method.IsStatic ? "static " : "")
        + (method is MethodInfo { IsVirtual: true, IsFinal: false } m ? m.GetBaseDefinition() != m ? "override " : m.IsAbstract ? "abstract " : "virtual " : "");

    static string Required(PropertyInfo property) => property.IsDefined(typeof(RequiredMemberAttribute), false) ? "required " : "";

    static string Accessors(PropertyInfo property) => string.Join(' ', property.GetAccessors(true).Where(IsVisible).Select(accessor =>
        accessor.ReturnType != typeof(void) ? "get;" : accessor.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit)) ? "init;" : "set;"));

    static string Generic(MethodInfo method) => method.IsGenericMethod ? $"<{string.Join(", ", method.GetGenericArguments().Select(Name))}>" : "";

    static string Parameters(MethodBase method, NullabilityInfoContext nullability) => "(" + string.Join(", ", method.GetParameters().Select((parameter, index) =>
        (index == 0 && method.IsDefined(typeof(ExtensionAttribute), false) ? "this " : "")
        + (parameter.IsOut ? "out " : parameter.ParameterType.IsByRef ? "ref " : "")
        + $"{Name(nullability.Create(parameter))} {parameter.Name}" + (parameter.HasDefaultValue ? " = " + Value(parameter) : ""))) + ")";

    static string Value(ParameterInfo parameter) => parameter.DefaultValue switch
    {
        null => parameter.ParameterType.IsValueType ? "default" : "null",
        string text => $"\"{text}\"",
        var value => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };

    static string Name(NullabilityInfo info)
    {
        var type = info.Type;
        if (type.IsByRef || Nullable.GetUnderlyingType(type) is not null || !type.IsGenericType)
        {
            return Name(type) + (type is { IsValueType: false, IsGenericParameter: false } && info.ReadState is NullabilityState.Nullable ? "?" : "");
        }

        return $"{Plain(type)}<{string.Join(", ", info.GenericTypeArguments.Select(Name))}>{(info.ReadState is NullabilityState.Nullable ? "?" : "")}";
    }

    static string Name(Type type) =>
        type.IsByRef ? Name(type.GetElementType()!)
        : Keywords.TryGetValue(type, out var keyword) ? keyword
        : Nullable.GetUnderlyingType(type) is { } underlying ? Name(underlying) + "?"
        : type.IsArray ? Name(type.GetElementType()!) + "[]"
        : (type is { IsNested: true, IsGenericParameter: false } ? Name(type.DeclaringType!) + "." : "")
            + (type.IsGenericType ? $"{Plain(type)}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>" : type.Name);

    static string Plain(Type type) => type.Name[..type.Name.IndexOf('`', StringComparison.Ordinal)];
}
