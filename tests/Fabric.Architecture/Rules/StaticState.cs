using System.Collections.Immutable;
using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;

namespace Fabric.Architecture.Rules;

/// <summary>
/// No static mutable state: what a process knows is reachable from what it composed at its start. Read from the metadata of
/// the built assemblies, so generated code and auto-properties count as well. A static field must be a constant or read-only, and
/// a read-only one must not hold something that can be changed.
/// </summary>
public static class StaticState
{
    /// <summary>Types whose content can change though the field cannot.</summary>
    private static IReadOnlyList<string> MutableTypes { get; } =
    [
        "List`1", "Dictionary`2", "HashSet`1", "Queue`1", "Stack`1", "SortedDictionary`2", "SortedSet`1", "SortedList`2", "LinkedList`1",
        "PriorityQueue`2", "ConcurrentDictionary`2", "ConcurrentQueue`1", "ConcurrentBag`1", "ConcurrentStack`1", "StringBuilder",
        "MemoryCache", "ConditionalWeakTable`2", "ThreadLocal`1", "AsyncLocal`1", "Random",
    ];

    public static IEnumerable<string> Violations(string assemblyFile)
    {
        using var file = new PEReader(File.OpenRead(assemblyFile));
        var metadata = file.GetMetadataReader();
        string assembly = Path.GetFileNameWithoutExtension(assemblyFile);
        var found = new List<string>();
        foreach (var handle in metadata.FieldDefinitions)
        {
            var field = metadata.GetFieldDefinition(handle);
            string name = metadata.GetString(field.Name);
            string type = FullName(metadata, field.GetDeclaringType());
            if (!field.Attributes.HasFlag(FieldAttributes.Static) || field.Attributes.HasFlag(FieldAttributes.Literal) || IsGenerated(type, name))
                continue;
            string held = field.DecodeSignature(new TypeNames(), genericContext: null);
            if (!field.Attributes.HasFlag(FieldAttributes.InitOnly))
                found.Add($"{assembly}: {type}.{name} is static and can be assigned");
            else if (held.EndsWith("[]", StringComparison.Ordinal) || MutableTypes.Contains(held))
                found.Add($"{assembly}: {type}.{name} is static and its {held} can be changed: use an immutable, frozen or read-only type");
        }

        return found;
    }

    /// <summary>The compiler's caches of lambdas and the tables of source generators; the field behind an auto-property is ours.</summary>
    private static bool IsGenerated(string type, string name) =>
        type.Contains('<', StringComparison.Ordinal)
        || (name.StartsWith('<') && !name.EndsWith("k__BackingField", StringComparison.Ordinal))
        || type.Contains("__", StringComparison.Ordinal);

    private static string FullName(MetadataReader metadata, TypeDefinitionHandle handle)
    {
        var type = metadata.GetTypeDefinition(handle);
        string name = metadata.GetString(type.Name);
        return type.GetDeclaringType().IsNil ? name : FullName(metadata, type.GetDeclaringType()) + "." + name;
    }

    /// <summary>Names of types as far as the rule needs them: generic definitions without arguments, arrays with [].</summary>
    private sealed class TypeNames : ISignatureTypeProvider<string, object?>
    {
        public string GetArrayType(string elementType, ArrayShape shape) => elementType + "[]";

        public string GetByReferenceType(string elementType) => elementType;

        public string GetFunctionPointerType(MethodSignature<string> signature) => "function";

        public string GetGenericInstantiation(string genericType, ImmutableArray<string> typeArguments) => genericType;

        public string GetGenericMethodParameter(object? genericContext, int index) => "T";

        public string GetGenericTypeParameter(object? genericContext, int index) => "T";

        public string GetModifiedType(string modifier, string unmodifiedType, bool isRequired) => unmodifiedType;

        public string GetPinnedType(string elementType) => elementType;

        public string GetPointerType(string elementType) => elementType + "*";

        public string GetPrimitiveType(PrimitiveTypeCode typeCode) => typeCode.ToString();

        public string GetSZArrayType(string elementType) => elementType + "[]";

        public string GetTypeFromDefinition(MetadataReader reader, TypeDefinitionHandle handle, byte rawTypeKind) =>
            reader.GetString(reader.GetTypeDefinition(handle).Name);

        public string GetTypeFromReference(MetadataReader reader, TypeReferenceHandle handle, byte rawTypeKind) =>
            reader.GetString(reader.GetTypeReference(handle).Name);

        public string GetTypeFromSpecification(MetadataReader reader, object? genericContext, TypeSpecificationHandle handle, byte rawTypeKind) =>
            reader.GetTypeSpecification(handle).DecodeSignature(this, genericContext);
    }
}
