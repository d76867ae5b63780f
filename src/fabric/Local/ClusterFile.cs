using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Cli.Local;

/// <summary>
/// One daemon of a local cluster. <paramref name="Process"/> names it for all time; null while the member is stopped.
/// </summary>
public sealed record MemberRecord(string Name, string Role, ProcessIdentity? Process);

/// <summary>
/// The PostgreSQL server of a local cluster. Its data lies in <paramref name="Directory"/>. <paramref name="Process"/>: null while it is stopped.
/// </summary>
public sealed record StoreRecord(string Directory, int Port, ProcessIdentity? Process);

/// <summary>
/// <c>cluster.json</c>: what is needed to find a local cluster and to take it down, whoever started it. Written before the first process starts
/// and after each change; its existence means that something may have to be cleaned up. <paramref name="Name"/>: of the topology's file; null without one.
/// <paramref name="Store"/>: null when the cluster has no server of its own.
/// </summary>
public sealed record ClusterRecord(int Version, string Id, Uri? ApiUrl, string MemoryDirectory, string MemoryPrefix, IReadOnlyList<MemberRecord> Members, DateTimeOffset CreatedAt,
    IReadOnlyList<Uri>? ApiUrls = null, string? Name = null, StoreRecord? Store = null)
{
    /// <summary>Whether any process of the cluster lives.</summary>
    public bool IsAlive() => Members.Any(static m => m.Process?.IsAlive() == true) || Store?.Process?.IsAlive() == true;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(ClusterRecord))]
internal sealed partial class ClusterJson : JsonSerializerContext;

public static class ClusterFile
{
    public const int Version = 1;

    public static string PathIn(string directory) => Path.Combine(directory, "cluster.json");

    /// <summary>Null when there is none.</summary>
    /// <exception cref="FabricException">malformed: the file cannot be read as a cluster's.</exception>
    public static ClusterRecord? Read(string directory)
    {
        string path = PathIn(directory);
        try
        {
            var record = JsonSerializer.Deserialize(File.ReadAllBytes(path), ClusterJson.Default.ClusterRecord);
            return record is { Version: Version }
                ? record
                : throw new FabricException(ErrorCodes.Malformed, $"'{path}' has version {record?.Version}; this program knows {Version}.", "Take that cluster down with the program that started it.");
        }
        catch (Exception none) when (none is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception unreadable) when (unreadable is JsonException or UnauthorizedAccessException)
        {
            throw new FabricException(ErrorCodes.Malformed, $"'{path}' cannot be read: {unreadable.Message}", "It is no cluster file, or another user's.", unreadable);
        }
    }

    /// <summary>A reader sees the old record or the new one.</summary>
    public static void Write(string directory, ClusterRecord record)
    {
        string path = PathIn(directory);
        File.WriteAllBytes(path + ".new", JsonSerializer.SerializeToUtf8Bytes(record, ClusterJson.Default.ClusterRecord));
        File.Move(path + ".new", path, overwrite: true);
    }
}
