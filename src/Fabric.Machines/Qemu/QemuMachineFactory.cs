using Fabric.Core;
using Fabric.Native;
using Microsoft.Extensions.Logging;

namespace Fabric.Machines.Qemu;

/// <summary>
/// Makes and adopts QEMU machines. Disposing it ends the watch over their processes, not the processes; dispose machines first.
/// </summary>
public sealed partial class QemuMachineFactory : IMachineFactory, IDisposable
{
    private readonly QemuOptions _options;
    private readonly TimeProvider _time;
    private readonly Random _random;
    private readonly ILogger<QemuMachineFactory> _log;
    private readonly Lock _randomGate = new();
    private readonly DeathWatch _deaths = new();
    private readonly QemuLauncher _launcher;

    /// <exception cref="FabricException">invalid-argument: a setting that cannot work.</exception>
    public QemuMachineFactory(QemuOptions options, TimeProvider time, Random random, ILogger<QemuMachineFactory> log)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Validate() is { } error)
            throw new FabricException(error);
        _options = options;
        _time = time;
        _random = random;
        _log = log;
        _launcher = new QemuLauncher(options, time);
    }

    public MachineKind Kind => MachineKind.Qemu;

    public async ValueTask<IMachine> CreateAsync(VmSpec spec, MachineBirth birth, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(spec);
        if ((spec.Validate() ?? CheckHost(spec)) is { } error)
            throw new FabricException(error);
        MachineFiles files;
        lock (_randomGate)
            files = MachineFiles.For(_options, spec.Name, _random);
        var arguments = QemuCommandLine.Build(spec, birth, files, _options.MachineType, _options.CpuModel);
        LaunchedQemu? launched = null;
        try
        {
            files.Create();
            SparseFile.Create(files.Ram, spec.MemoryBytes).Dispose();
            long began = _time.GetTimestamp();
            launched = await _launcher.LaunchAsync(arguments, files, cancellation);
            var machine = await OpenAsync(launched, spec, birth, files, cancellation);
            LogStarted(spec.Name.Value, launched.Process.Identity.ProcessId, birth, _time.GetElapsedTime(began).TotalMilliseconds);
            return machine;
        }
        catch (Exception failure)
        {
            var explained = await CleanUpAsync(launched, spec, files, failure);
            if (explained is not null)
                throw explained;
            throw;
        }
    }

    public async ValueTask<IMachine?> AdoptAsync(string adoptionRecord, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(adoptionRecord);
        var record = Qemu.AdoptionRecord.Parse(adoptionRecord);
        var process = ProcessHandle.TryOpen(record.Process);
        if (process is null)
        {
            record.Files.Remove();
            LogGone(record.Spec.Name.Value, record.Process.ProcessId);
            return null;
        }

        var events = new EventWatch(_time);
        var qmp = new QmpSession(record.Files.Qmp, _options, _time, events.OnEvent);
        QemuMemory? memory = null;
        try
        {
            bool answers = await AnswersAsync(qmp, process, record, cancellation);
            memory = QemuMemory.Open(record.Files.Ram, process, TakeFault(process, record), record.FaultFeatures, Watch(process, record.Unmap, record.Spec, qmp), withModes: true);
            var machine = new QemuMachine(record, _options, _time, _log, process, qmp, events, memory, _deaths, static () => null);
            if (answers)
                await machine.RecallAsync(cancellation);
            // An agent that died may have held the guest back or had its code translated anew, and nothing else would give it its speed again.
            machine.Throttle?.Lift();
            if (answers && memory.Translations is { } translations)
                await translations.EndAsync(cancellation);
            LogAdopted(record.Spec.Name.Value, record.Process.ProcessId);
            return machine;
        }
        catch
        {
            qmp.Dispose();
            memory?.Dispose();
            process.Dispose();
            throw;
        }
    }

    public void Dispose() => _deaths.Dispose();

    /// <summary>
    /// False: QEMU does not answer. In the middle of a pull its main loop may wait for a page that only the agent which adopts it can bring,
    /// so a silent machine is taken all the same; the next QMP command connects again.
    /// </summary>
    private async Task<bool> AnswersAsync(QmpSession qmp, ProcessHandle process, AdoptionRecord record, CancellationToken cancellation)
    {
        try
        {
            await qmp.OpenAsync(_options.AdoptionDeadline, () => !process.HasExited, cancellation);
            return true;
        }
        catch (FabricException error) when (error.Error.Code is ErrorCodes.DeadlineExceeded or ErrorCodes.Unreachable && !process.HasExited)
        {
            LogSilent(record.Spec.Name.Value, record.Process.ProcessId, error.Error.Message);
            return false;
        }
    }

    private static UserFault TakeFault(ProcessHandle process, AdoptionRecord record)
    {
        string link = $"/proc/{record.Process.ProcessId}/fd/{record.FaultDescriptor}";
        string? target = new FileInfo(link).LinkTarget;
        return target == "anon_inode:[userfaultfd]"
            ? new UserFault(process.DuplicateDescriptor(record.FaultDescriptor))
            : throw new FabricException(ErrorCodes.MachineFailed, $"{link} is '{Label.Shorten(target)}', not the userfaultfd that the adoption record names.");
    }

    private TouchWatch Watch(ProcessHandle process, int? unmap, VmSpec spec, QmpSession qmp) =>
        new(TakeUnmapper(process, unmap), spec.Accelerator == Accelerator.Tcg ? new GuestTranslations(qmp, _options, _time, _log) : null);

    /// <summary>Null: a machine of an agent before this one, whose shim had no thread. Its touches cannot be watched; nothing else is lost.</summary>
    private PageUnmapper? TakeUnmapper(ProcessHandle process, int? descriptor)
    {
        if (descriptor is not { } number)
            return null;
        lock (_randomGate)
            return new PageUnmapper(process.DuplicateDescriptor(number), (ulong)_random.NextInt64());
    }

    private async Task<QemuMachine> OpenAsync(LaunchedQemu launched, VmSpec spec, MachineBirth birth, MachineFiles files, CancellationToken cancellation)
    {
        var events = new EventWatch(_time);
        var qmp = new QmpSession(files.Qmp, _options, _time, events.OnEvent);
        QemuMachine? machine = null;
        QemuMemory? memory = null;
        try
        {
            await qmp.OpenAsync(_options.LaunchDeadline, () => !launched.Process.HasExited, cancellation);
            PlugNics(spec, files);
            memory = QemuMemory.Open(files.Ram, launched.Process, launched.Fault, launched.Hello.Features, Watch(launched.Process, launched.Hello.Unmap, spec, qmp), withModes: false);
            var record = new AdoptionRecord(
                Qemu.AdoptionRecord.CurrentVersion, launched.Process.Identity, files, launched.Hello.Descriptor, launched.Hello.Features, _options.MachineType, spec, launched.Hello.Unmap);
            machine = new QemuMachine(record, _options, _time, _log, launched.Process, qmp, events, memory, _deaths, launched.ExitCode);
            if (birth == MachineBirth.Incoming)
                await machine.PrepareIncomingAsync(cancellation);
            else
                await machine.ContinueAsync(cancellation);
            return machine;
        }
        catch
        {
            qmp.Dispose();
            memory?.Dispose();
            throw;
        }
    }

    /// <summary>Ends what was started and removes what was made; returns a better explanation where QEMU gave one.</summary>
    private async Task<FabricException?> CleanUpAsync(LaunchedQemu? launched, VmSpec spec, MachineFiles files, Exception failure)
    {
        FabricException? explained = null;
        if (launched is { Process: var process })
        {
            var death = _deaths.WhenExited(process);
            bool endedByItself = failure is FabricException && await EndsByItselfAsync(death);
            if (!endedByItself)
                process.SendKill();
            await death.WaitAsync(_options.KillDeadline, _time);
            string words = files.LastWords();
            if (endedByItself)
                explained = new FabricException(ErrorCodes.MachineFailed, $"QEMU for VM '{spec.Name}' ended with status {launched.ExitCode()}: {words}", cause: failure);
            launched.Fault.Dispose();
            _deaths.Release(process);
        }

        if (failure is not FabricException { Error.Code: ErrorCodes.AlreadyExists })
            files.Remove();
        return explained;
    }

    /// <summary>A QEMU that refuses its arguments closes its sockets a moment before it ends; its own words are worth that moment.</summary>
    private async Task<bool> EndsByItselfAsync(Task death)
    {
        try
        {
            await death.WaitAsync(TimeSpan.FromMilliseconds(500), _time);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    private FabricError? CheckHost(VmSpec spec)
    {
        foreach (string? path in spec.Disks.Select(d => d.Path).Append(spec.Kernel).Append(spec.Initrd))
        {
            if (path is not null && !File.Exists(path))
                return new FabricError(ErrorCodes.NotFound, $"VM '{spec.Name}' needs '{path}', which is not on this host.", "Shared disks and kernels have the same path on every host.");
        }

        if (CheckNetwork(spec) is { } lacking)
            return lacking;
        long free = new DriveInfo(_options.MemoryDirectory).AvailableFreeSpace;
        return free >= spec.MemoryBytes
            ? null
            : new FabricError(
                ErrorCodes.Exhausted,
                $"VM '{spec.Name}' needs {ByteSize.Format(spec.MemoryBytes)} of RAM; {_options.MemoryDirectory} has {ByteSize.Format(free)} free.",
                "Enlarge the tmpfs (mount -o remount,size=…) or choose another host.");
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm}: QEMU process {Pid} started ({Birth}) in {Milliseconds} ms")]
    private partial void LogStarted(string vm, int pid, MachineBirth birth, double milliseconds);

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm}: QEMU process {Pid} adopted")]
    private partial void LogAdopted(string vm, int pid);

    [LoggerMessage(Level = LogLevel.Warning, Message = "VM {Vm}: QEMU process {Pid} does not answer and is adopted all the same: {Why}")]
    private partial void LogSilent(string vm, int pid, string why);

    [LoggerMessage(Level = LogLevel.Warning, Message = "VM {Vm}: QEMU process {Pid} is gone; removed what it left")]
    private partial void LogGone(string vm, int pid);
}
