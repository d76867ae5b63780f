using System.Globalization;
using System.Text.Json;
using Fabric.Core;
using Fabric.Native;
using Microsoft.Extensions.Logging;

namespace Fabric.Machines.Qemu;

/// <summary>
/// One QEMU process. The switch-over's steps here are <see cref="StopAndSaveAsync"/> at the source,
/// <see cref="LoadDeviceStateAsync"/> and <see cref="ContinueAsync"/> at the destination. Files: this one, .State (what is saved and loaded).
/// </summary>
internal sealed partial class QemuMachine : IMachine
{
    private readonly QemuOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly MachineFiles _files;
    private readonly ProcessHandle _process;
    private readonly QmpSession _qmp;
    private readonly QemuMemory _memory;
    private readonly Func<int?> _exitCode;
    private readonly DeathWatch _deaths;
    private readonly Task _death;
    private readonly EventWatch _events;
    private IReadOnlyList<LateFrames> _late = [];
    private volatile bool _awaitingState;
    private volatile bool _killed;
    private int _disposed;

    internal QemuMachine(
        AdoptionRecord record, QemuOptions options, TimeProvider time, ILogger log, ProcessHandle process, QmpSession qmp, EventWatch events,
        QemuMemory memory, DeathWatch deaths, Func<int?> exitCode)
    {
        Spec = record.Spec;
        AdoptionRecord = record.ToJson();
        _options = options;
        _time = time;
        _log = log;
        _files = record.Files;
        _process = process;
        _qmp = qmp;
        _events = events;
        _memory = memory;
        _exitCode = exitCode;
        Balloon = new QemuBalloon(qmp, options, Spec.MemoryBytes);
        Throttle = new QemuThrottle(qmp, process, options);
        _deaths = deaths;
        _death = deaths.WhenExited(process);
        Exited = DescribeDeathAsync();
    }

    public VmSpec Spec { get; }

    public IGuestMemory Memory => _memory;

    public IBalloon? Balloon { get; }

    public IThrottle? Throttle { get; }

    public string AdoptionRecord { get; }

    public int? ProcessId => _process.Identity.ProcessId;

    public Task<string> Exited { get; }

    public string ConsoleLog => _files.ConsoleLog;

    public long? RunsSince => _events.ResumedAt;

    public long? StandsSince => _events.StoppedAt;

    public async ValueTask<MachineStatus> QueryStatusAsync(CancellationToken cancellation)
    {
        if (_process.HasExited)
            return MachineStatus.Exited;
        string? status;
        try
        {
            status = QmpJson.Text(await _qmp.ExecuteAsync("query-status", null, _options.CommandDeadline, cancellation), "status");
        }
        catch (FabricException) when (_process.HasExited)
        {
            return MachineStatus.Exited;
        }

        return status switch
        {
            "running" => MachineStatus.Running,
            "inmigrate" => MachineStatus.AwaitingState,
            "shutdown" or "guest-panicked" or "internal-error" => MachineStatus.Exited,
            null => throw new FabricException(ErrorCodes.MachineFailed, "QEMU answered 'query-status' without a status."),
            _ => MachineStatus.Paused,
        };
    }

    public async ValueTask StopAsync(CancellationToken cancellation)
    {
        WatchLateFrames();
        await CommandAsync("stop", null, _options.StateDeadline, cancellation);
    }

    public async ValueTask ContinueAsync(CancellationToken cancellation)
    {
        // QEMU would take "cont" as a wish and start by itself as soon as a state is loaded: nobody but the owner of the run token decides that.
        if (_awaitingState)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{Spec.Name}' waits for its device state and cannot run yet.", "Load the device state first.");
        DropLateFrames();
        await CommandAsync("cont", null, _options.StateDeadline, cancellation);
    }

    public async ValueTask AnnounceAsync(CancellationToken cancellation)
    {
        if (Spec.Nics.Count > 0)
            await CommandAsync("announce-self", Write, _options.CommandDeadline, cancellation);

        // Milliseconds. Often at first, since every frame that comes before a switch has learned is lost; then again, since an announcement may be lost itself.
        static void Write(Utf8JsonWriter writer)
        {
            writer.WriteNumber("initial", 50);
            writer.WriteNumber("max", 550);
            writer.WriteNumber("rounds", 5);
            writer.WriteNumber("step", 100);
        }
    }

    public async ValueTask ReclaimDisksAsync(CancellationToken cancellation)
    {
        // "cont" would take the locks too, but it also runs the guest. Exporting a node activates it and takes its locks, and nothing else; the
        // export is gone before anybody could connect to it.
        if (Spec.Disks.Count == 0)
            return;
        await CommandAsync("nbd-server-start", WriteServer, _options.CommandDeadline, cancellation);
        try
        {
            for (int i = 0; i < Spec.Disks.Count; i++)
            {
                string node = QemuCommandLine.DiskNode(i);
                await CommandAsync("block-export-add", writer => WriteExport(writer, node), _options.StateDeadline, cancellation);
                await CommandAsync("block-export-del", writer => writer.WriteString("id", "reclaim-" + node), _options.CommandDeadline, cancellation);

                // QEMU ignores a failure of this activation; the kernel knows whether the lock is really held.
                if (!DiskLocks.IsHeld(_process.Identity.ProcessId, Spec.Disks[i].Path))
                {
                    throw new FabricException(
                        ErrorCodes.Conflict, $"VM '{Spec.Name}' cannot take the lock of '{Spec.Disks[i].Path}' again: somebody else holds it.", "Find out where the VM runs before anything else.");
                }
            }
        }
        finally
        {
            await CommandAsync("nbd-server-stop", null, _options.CommandDeadline, CancellationToken.None);
            File.Delete(_files.Reclaim);
        }

        void WriteServer(Utf8JsonWriter writer)
        {
            writer.WriteStartObject("addr");
            writer.WriteString("type", "unix");
            writer.WriteStartObject("data");
            writer.WriteString("path", _files.Reclaim);
            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        static void WriteExport(Utf8JsonWriter writer, string node)
        {
            writer.WriteString("type", "nbd");
            writer.WriteString("id", "reclaim-" + node);
            writer.WriteString("node-name", node);
            writer.WriteBoolean("writable", false);
        }
    }

    public async ValueTask KillAsync(CancellationToken cancellation)
    {
        if (!_process.HasExited)
        {
            _killed = true;
            _process.SendKill();
        }

        try
        {
            await _death.WaitAsync(_options.KillDeadline, _time, cancellation);
        }
        catch (TimeoutException error)
        {
            throw new FabricException(
                ErrorCodes.DeadlineExceeded, $"QEMU process {ProcessId} of VM '{Spec.Name}' did not end within {_options.KillDeadline.TotalSeconds:0} s of SIGKILL.", "It may wait for a disk that does not answer.", error);
        }

        // Exited's sentence quotes the log that is about to go.
        await Exited.WaitAsync(_options.KillDeadline, _time, cancellation);
        _files.Remove();
    }

    public ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return ValueTask.CompletedTask;
        // A guest that this agent lets go of runs on: not at the speed of a migration that nobody drives any more.
        Throttle?.Lift();
        if (!_killed)
            DropLateFrames();
        _qmp.Dispose();
        _memory.Dispose();
        _deaths.Release(_process);
        return ValueTask.CompletedTask;
    }

    /// <summary>Readies a machine that was born to wait: QEMU reports the end of the load, takes no disk lock before "cont", and has no page.</summary>
    internal async Task PrepareIncomingAsync(CancellationToken cancellation)
    {
        await CommandAsync("migrate-set-capabilities", WriteCapabilities, _options.CommandDeadline, cancellation);
        // Whatever QEMU put into RAM while it started is not the guest's.
        for (long page = 0; page < _memory.PageCount;)
        {
            int count = (int)Math.Min(_memory.PageCount - page, int.MaxValue);
            _memory.Discard(new PageRun(page, count));
            page += count;
        }

        _awaitingState = true;

        static void WriteCapabilities(Utf8JsonWriter writer)
        {
            writer.WriteStartArray("capabilities");
            foreach (string name in new[] { "events", "late-block-activate" })
            {
                writer.WriteStartObject();
                writer.WriteString("capability", name);
                writer.WriteBoolean("state", true);
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
        }
    }

    /// <summary>Asks QEMU what an adopted machine is doing.</summary>
    internal async Task RecallAsync(CancellationToken cancellation) =>
        _awaitingState = await QueryStatusAsync(cancellation) == MachineStatus.AwaitingState;

    private void WatchLateFrames()
    {
        DropLateFrames();
        _late = LateFrames.Begin(Spec, _files, _time, _log);
    }

    private void DropLateFrames()
    {
        foreach (var late in _late)
            late.Drop();
        _late = [];
    }

    private ValueTask<JsonElement> CommandAsync(string command, Action<Utf8JsonWriter>? arguments, TimeSpan deadline, CancellationToken cancellation) =>
        OutcomeAsync(command, _qmp.ExecuteAsync(command, arguments, deadline, cancellation), cancellation);

    private async ValueTask<JsonElement> OutcomeAsync(string command, ValueTask<JsonElement> answer, CancellationToken cancellation)
    {
        try
        {
            return await answer;
        }
        catch (FabricException error) when (_process.HasExited)
        {
            string how = await Exited.WaitAsync(_options.CommandDeadline, _time, cancellation);
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{Spec.Name}': '{command}' failed because the machine is gone: {how}", cause: error);
        }
    }

    private async Task<string> DescribeDeathAsync()
    {
        await _death;
        string words = _files.LastWords();
        string quote = words.Length == 0 ? "" : $" Last words: {words}";
        string how = _killed ? "was ended by this agent" : _events.ShutdownReason is { } reason ? $"ended because the guest shut down ({reason})" : "ended";
        string status = !_killed && _exitCode() is { } code ? $" with status {code.ToString(CultureInfo.InvariantCulture)}" : "";
        string sentence = $"QEMU process {ProcessId} {how}{status}.{quote}";
        LogExited(Spec.Name.Value, sentence);
        return sentence;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm}: {Sentence}")]
    private partial void LogExited(string vm, string sentence);

    // The guest stands while this is written, and a line costs a third of a millisecond.
    [LoggerMessage(Level = LogLevel.Debug, Message = "VM {Vm}: device state of {Bytes} bytes loaded in {Milliseconds} ms")]
    private partial void LogLoaded(string vm, int bytes, double milliseconds);
}
