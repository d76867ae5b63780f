using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Fabric.Benchmarks.Compare;
using Fabric.Core;
using Fabric.Machines.Qemu;

namespace Fabric.Benchmarks.Qemu;

/// <summary>
/// A plain QEMU as its manual starts it: anonymous RAM, or on demand a shared memory file, and nothing preloaded. Owns the process: disposing ends it.
/// Notes when the events that matter arrive.
/// </summary>
internal sealed class QemuProcess : IAsyncDisposable
{
    private static readonly TimeSpan CallDeadline = TimeSpan.FromSeconds(30);
    private readonly Process _process;
    private readonly TimeProvider _time;
    private QmpClient? _qmp;
    private long _stoppedAt;
    private long _resumedAt;
    private long _standsAt;

    private QemuProcess(Process process, string consoleLog, TimeProvider time)
    {
        _process = process;
        _time = time;
        ConsoleLog = consoleLog;
    }

    public string ConsoleLog { get; }

    /// <summary>When the vCPUs stood (timestamp of the time provider); 0 before.</summary>
    public long StoppedAt => Volatile.Read(ref _stoppedAt);

    /// <summary>When the vCPUs began to run after a migration; 0 before.</summary>
    public long ResumedAt => Volatile.Read(ref _resumedAt);

    /// <summary>Completes with the last state of the migration (completed, failed, cancelled) and notes when.</summary>
    public TaskCompletionSource<string> MigrationEnded { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public TaskCompletionSource MigrationActive { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public TaskCompletionSource Resumed { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public long MigrationEndedAt => Volatile.Read(ref _standsAt);

    /// <summary>Where the machine of that name writes what its guest says.</summary>
    public static string ConsoleLogOf(string name, string directory) => Path.Combine(directory, name + ".log");

    /// <param name="guest">What is booted, or awaited.</param>
    /// <param name="name">Of its files.</param>
    /// <param name="directory">For them.</param>
    /// <param name="enter">Words before the command, which must give way to it: where it runs.</param>
    /// <param name="incoming">It waits for a migration.</param>
    /// <param name="shared">Its memory is a file that other processes may map.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="FabricException">machine-failed, with QEMU's words.</exception>
    public static async Task<QemuProcess> StartAsync(
        GuestImage guest, string name, string directory, IReadOnlyList<string> enter, bool incoming, bool shared, TimeProvider time, CancellationToken cancellation)
    {
        string qmp = Path.Combine(directory, name + ".qmp"), log = ConsoleLogOf(name, directory), errors = Path.Combine(directory, name + ".err");
        List<string> command = [.. enter, "qemu-system-x86_64", .. Arguments(guest, name, qmp, log, incoming, shared)];
        var start = new ProcessStartInfo(command[0], command.Skip(1)) { UseShellExecute = false, RedirectStandardError = true, RedirectStandardInput = true };
        var process = Process.Start(start) ?? throw new FabricException(ErrorCodes.MachineFailed, "QEMU did not start.");
        process.StandardInput.Close();
        process.ErrorDataReceived += (_, line) => AppendLine(errors, line.Data);
        process.BeginErrorReadLine();
        var machine = new QemuProcess(process, log, time);
        try
        {
            machine._qmp = await machine.ConnectAsync(qmp, errors, cancellation);
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <param name="arguments">A JSON object; null for none.</param>
    public async Task<JsonElement> ExecuteAsync(string command, string? arguments, CancellationToken cancellation)
    {
        if (arguments is null)
            return await _qmp!.ExecuteAsync(command, null, CallDeadline, cancellation);
        using var document = JsonDocument.Parse(arguments);
        return await _qmp!.ExecuteAsync(command, Write, CallDeadline, cancellation);

        void Write(Utf8JsonWriter writer)
        {
            foreach (var member in document.RootElement.EnumerateObject())
                member.WriteTo(writer);
        }
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            _process.Kill();
        }
        catch (InvalidOperationException)
        {
            // It has ended by itself.
        }

        await _process.WaitForExitAsync(CancellationToken.None);
        if (_qmp is not null)
            _qmp.Dispose();
        _process.Dispose();
    }

    private static List<string> Arguments(GuestImage guest, string name, string qmp, string log, bool incoming, bool shared)
    {
        string megabytes = (guest.MemoryBytes / ByteSize.Mebi).ToString(CultureInfo.InvariantCulture) + "M";
        List<string> arguments =
        [
            "-name", name, "-machine", shared ? "q35,memory-backend=ram" : "q35", "-accel", guest.Accelerator, "-cpu", "qemu64", "-smp", "1", "-m", megabytes,
            "-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
            "-kernel", guest.Kernel, "-initrd", guest.Initrd, "-append", "console=ttyS0 quiet panic=1 tsc=unstable " + guest.Append,
            "-serial", "file:" + log, "-device", "virtio-balloon-pci,id=balloon0,free-page-reporting=on",
            "-qmp", $"unix:{qmp},server=on,wait=off",
        ];
        if (shared)
            arguments.AddRange(["-object", $"memory-backend-memfd,id=ram,size={megabytes},share=on"]);
        if (incoming)
            arguments.AddRange(["-incoming", "defer"]);
        return arguments;
    }

    private async Task<QmpClient> ConnectAsync(string path, string errors, CancellationToken cancellation)
    {
        long begun = _time.GetTimestamp();
        while (true)
        {
            try
            {
                return await QmpClient.ConnectAsync(path, CallDeadline, _time, OnEvent, cancellation);
            }
            catch (FabricException error) when (error.Error.Code == ErrorCodes.Unreachable)
            {
                // The socket appears when QEMU has read its arguments.
                if (_process.HasExited || _time.GetElapsedTime(begun) > TimeSpan.FromSeconds(20))
                    throw new FabricException(ErrorCodes.MachineFailed, $"QEMU did not come up: {(File.Exists(errors) ? await File.ReadAllTextAsync(errors, cancellation) : "it said nothing")}");
                await Task.Delay(TimeSpan.FromMilliseconds(20), _time, cancellation);
            }
        }
    }

    /// <summary>On the QMP read loop.</summary>
    private void OnEvent(QmpEvent reported)
    {
        long now = _time.GetTimestamp();
        switch (reported.Name)
        {
            case "STOP":
                Volatile.Write(ref _stoppedAt, now);
                break;
            case "RESUME":
                Volatile.Write(ref _resumedAt, now);
                Resumed.TrySetResult();
                break;
            case "MIGRATION":
                string status = QmpJson.Text(reported.Data, "status") ?? "";
                if (status == "active")
                    MigrationActive.TrySetResult();
                if (status is not ("completed" or "failed" or "cancelled"))
                    break;
                Volatile.Write(ref _standsAt, now);
                MigrationActive.TrySetResult();
                MigrationEnded.TrySetResult(status);
                break;
            default:
                break;
        }
    }

    private static void AppendLine(string file, string? line)
    {
        if (line is not null)
            File.AppendAllText(file, line + "\n");
    }
}
