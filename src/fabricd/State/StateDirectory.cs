using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Core;
using Fabric.Migration;

namespace Fabric.Daemon.State;

/// <summary>
/// What a serving daemon says of itself in <c>ready.json</c>. <paramref name="StartTime"/> is field 22 of /proc/PID/stat (clock ticks after
/// boot): with the pid it names one process for ever. URLs of roles that the daemon does not have are null.
/// </summary>
public sealed record ReadyRecord(
    int Pid, long StartTime, HostName Name, Guid Incarnation, string Version, Uri? ApiUrl, Uri? ClusterUrl, Uri? AgentUrl, DataEndpoint? Data, DateTimeOffset Since);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(ReadyRecord))]
[JsonSerializable(typeof(Dictionary<string, int>))]
internal sealed partial class StateJson : JsonSerializerContext;

/// <summary>
/// A daemon's directory: locked while the daemon lives, with <c>ready.json</c> only while it serves and <c>ports.json</c> across restarts, so that
/// a restarted daemon is found where it was. The lock is the kernel's (flock): it ends with the process, however that ends.
/// </summary>
public sealed class StateDirectory : IDisposable
{
    private readonly FileStream _lock;
    private readonly Dictionary<string, int> _ports;

    private StateDirectory(string path, FileStream held)
    {
        Root = path;
        _lock = held;
        _ports = ReadPorts();
    }

    public string Root { get; }

    private string ReadyPath => Path.Combine(Root, "ready.json");

    private string PortsPath => Path.Combine(Root, "ports.json");

    /// <exception cref="FabricException">conflict: another daemon holds the directory; invalid-argument: it cannot be made or written.</exception>
    public static StateDirectory Open(string path)
    {
        try
        {
            Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        catch (Exception denied) when (denied is IOException or UnauthorizedAccessException)
        {
            throw new FabricException(ErrorCodes.InvalidArgument, $"The state directory '{path}' cannot be made: {denied.Message}", "Choose a directory that this user may write.", denied);
        }

        FileStream held;
        try
        {
            held = new FileStream(Path.Combine(path, "lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException taken)
        {
            throw new FabricException(
                ErrorCodes.Conflict, $"Another fabricd uses the state directory '{path}'{Holder(path)}.", "One directory, one daemon: stop the other or use another --dir.", taken);
        }
        catch (UnauthorizedAccessException denied)
        {
            throw new FabricException(ErrorCodes.InvalidArgument, $"The state directory '{path}' cannot be written: {denied.Message}", "Run as its owner.", denied);
        }

        var directory = new StateDirectory(path, held);
        directory.RemoveReady();
        return directory;
    }

    /// <summary>The port to ask for where the configuration says 0: the one of last time, if there was one.</summary>
    public int StickyPort(string key, int configured) => configured != 0 ? configured : _ports.GetValueOrDefault(key);

    public void RememberPorts(IReadOnlyDictionary<string, int> ports)
    {
        foreach (var (key, port) in ports)
            _ports[key] = port;
        WriteAtomically(PortsPath, JsonSerializer.SerializeToUtf8Bytes(_ports, StateJson.Default.DictionaryStringInt32));
    }

    public void WriteReady(ReadyRecord ready) => WriteAtomically(ReadyPath, JsonSerializer.SerializeToUtf8Bytes(ready, StateJson.Default.ReadyRecord));

    public void RemoveReady() => File.Delete(ReadyPath);

    public void Dispose()
    {
        RemoveReady();
        _lock.Dispose();
    }

    /// <summary>Readers see the old file or the new one, never a half.</summary>
    private static void WriteAtomically(string path, byte[] content)
    {
        string temporary = path + ".new";
        using (var file = new FileStream(temporary, FileMode.Create, FileAccess.Write, FileShare.None))
        {
            file.Write(content);
            file.Flush(flushToDisk: true);
        }

        File.Move(temporary, path, overwrite: true);
    }

    private static string Holder(string path)
    {
        try
        {
            using var ready = JsonDocument.Parse(File.ReadAllText(Path.Combine(path, "ready.json")));
            return ready.RootElement.TryGetProperty("pid", out var pid) ? $" (pid {pid})" : "";
        }
        catch (Exception unreadable) when (unreadable is IOException or JsonException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private Dictionary<string, int> ReadPorts()
    {
        try
        {
            var ports = JsonSerializer.Deserialize(File.ReadAllBytes(PortsPath), StateJson.Default.DictionaryStringInt32);
            return ports?.Where(p => p.Value is > 0 and <= 65535).ToDictionary(StringComparer.Ordinal) ?? [];
        }
        catch (Exception none) when (none is IOException or JsonException)
        {
            // A torn or missing file costs only the old port numbers.
            return new Dictionary<string, int>(StringComparer.Ordinal);
        }
    }
}
