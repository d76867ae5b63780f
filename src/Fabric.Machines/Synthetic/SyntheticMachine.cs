using System.Text.Json;
using Fabric.Core;

namespace Fabric.Machines.Synthetic;

/// <summary>
/// A guest without a hypervisor: the same seams as a real machine, memory that checks itself, and no need of root, QEMU or a special kernel.
/// It lives inside its agent: when the agent ends, or lets go of it, it is gone and cannot be adopted.
/// </summary>
public sealed class SyntheticMachine : IMachine
{
    private readonly Workload _workload;
    private readonly SyntheticMemory _memory;
    private readonly SyntheticGuest _guest;
    private readonly SyntheticVcpu _vcpu;
    private readonly SyntheticConsole _console;
    private readonly TaskCompletionSource<string> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _awaitsState;
    private int _ended;

    internal SyntheticMachine(VmSpec spec, MachineBirth birth, string consoleLog, TimeProvider time, bool live)
    {
        Spec = spec;
        _workload = Workload.Parse(spec.Workload, spec.MemoryBytes);
        _console = new SyntheticConsole(consoleLog);
        try
        {
            _memory = new SyntheticMemory(spec.PageCount, directWrites: birth == MachineBirth.Incoming);
        }
        catch
        {
            _console.Dispose();
            File.Delete(consoleLog);
            throw;
        }

        _guest = new SyntheticGuest(_workload, _memory);
        _vcpu = new SyntheticVcpu(_guest, _memory, _console, time, spec.Name, _workload.Rate, live);
        Throttle = new SyntheticThrottle(_vcpu);
        _awaitsState = birth == MachineBirth.Incoming;
        if (!_awaitsState)
            _vcpu.Order(SyntheticVcpu.Run.Running);
    }

    public VmSpec Spec { get; }

    public IGuestMemory Memory => _memory;

    /// <summary>None: this guest gives no memory back by itself.</summary>
    public IBalloon? Balloon => null;

    public IThrottle? Throttle { get; }

    public string AdoptionRecord => JsonSerializer.Serialize(new { kind = "synthetic", name = Spec.Name.Value });

    public int? ProcessId => null;

    public Task<string> Exited => _exited.Task;

    public string ConsoleLog => _console.Path;

    /// <summary>Pages that the guest itself found wrong so far. Exact while the guest stands.</summary>
    public long Errors => _guest.Registers.Errors;

    /// <summary>Operations of the guest so far, at all its hosts. Exact while the guest stands.</summary>
    public long Operations => _guest.Registers.Operations;

    public ValueTask<MachineStatus> QueryStatusAsync(CancellationToken cancellation) => ValueTask.FromResult(Status);

    public ValueTask StopAsync(CancellationToken cancellation)
    {
        RequireAlive();
        if (!_awaitsState)
            _vcpu.Order(SyntheticVcpu.Run.Standing);
        return ValueTask.CompletedTask;
    }

    public ValueTask ContinueAsync(CancellationToken cancellation)
    {
        RequireAlive();
        if (_awaitsState)
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{Spec.Name}' waits for its device state and cannot run.", "Load the state first.");
        _vcpu.Order(SyntheticVcpu.Run.Running);
        return ValueTask.CompletedTask;
    }

    public ValueTask<byte[]> SaveDeviceStateAsync(bool releaseDisks, CancellationToken cancellation)
    {
        RequireStanding("Its device state cannot be saved.");
        return ValueTask.FromResult(_guest.Registers.Encode(_workload, Spec.PageCount));
    }

    public ValueTask LoadDeviceStateAsync(ReadOnlyMemory<byte> state, CancellationToken cancellation)
    {
        RequireAlive();
        if (!_awaitsState)
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{Spec.Name}' has its state already.", "Only a machine born incoming loads one, once.");
        _guest.Registers = Registers.Decode(state.Span, _workload, Spec.PageCount);
        _awaitsState = false;
        return ValueTask.CompletedTask;
    }

    /// <summary>There are no disks.</summary>
    public ValueTask ReclaimDisksAsync(CancellationToken cancellation) => ValueTask.CompletedTask;

    public ValueTask KillAsync(CancellationToken cancellation)
    {
        if (End("it was killed"))
            File.Delete(_console.Path);
        return ValueTask.CompletedTask;
    }

    /// <summary>Ends the guest, since nobody else could hold it; its console log stays.</summary>
    public ValueTask DisposeAsync()
    {
        End("its agent let go of it");
        return ValueTask.CompletedTask;
    }

    /// <summary>
    /// Manual mode: runs up to so many operations on the calling thread and returns how many were done; fewer when the next one needs a page
    /// that is missing (its fault has been raised) or the machine does not run.
    /// </summary>
    public int Step(int operations)
    {
        RequireAlive();
        return _vcpu.Step(operations);
    }

    /// <summary>
    /// Compares all of memory with what the registers say it must hold, from outside the guest; the machine stands. Returns the number of wrong pages.
    /// </summary>
    public long CountWrongPages()
    {
        RequireStanding("Its memory cannot be compared.");
        return _guest.CountWrongPages();
    }

    private MachineStatus Status =>
        _vcpu.State == SyntheticVcpu.Run.Ended ? MachineStatus.Exited
        : _awaitsState ? MachineStatus.AwaitingState
        : _vcpu.State == SyntheticVcpu.Run.Running ? MachineStatus.Running
        : MachineStatus.Paused;

    private bool End(string how)
    {
        if (Interlocked.Exchange(ref _ended, 1) != 0)
            return false;
        _vcpu.Order(SyntheticVcpu.Run.Ended);
        _memory.Dispose();
        _console.Dispose();
        _exited.TrySetResult($"The synthetic machine '{Spec.Name}' ended: {how}.");
        return true;
    }

    private void RequireAlive()
    {
        if (Status == MachineStatus.Exited)
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{Spec.Name}' is gone.");
    }

    private void RequireStanding(string why)
    {
        if (Status is not MachineStatus.Paused)
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{Spec.Name}' is {Status}. {why}", "Stop it first.");
    }
}
