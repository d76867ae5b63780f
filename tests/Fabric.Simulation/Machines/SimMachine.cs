using Fabric.Core;
using Fabric.Machines;
using Fabric.Simulation.Worlds;

namespace Fabric.Simulation.Machines;

/// <summary>
/// A hypervisor's process with a guest in it. It belongs to the host, not to the agent: it runs on when the agent dies and ends with the host. The guest
/// is carried forward only when somebody looks: between two looks it is a function of time.
/// </summary>
internal sealed class SimMachine
{
    private readonly World _world;
    private readonly long[] _versions;
    private readonly List<(int Page, TaskCompletionSource Present)> _waiters = [];
    private TimeSpan _anchor; // when the guest last began to run without a wait
    private long _sinceAnchor; // steps done since
    private bool _faulted;

    internal SimMachine(World world, SimHost host, VmSpec spec, MachineBirth birth, string id)
    {
        (_world, Host, Spec, Id) = (world, host, spec, id);
        _versions = new long[spec.PageCount];
        Missing = new PageBitmap(spec.PageCount);
        if (birth == MachineBirth.Boot)
        {
            Guest = world.Observer.Born(spec);
            for (int page = 0; page < Guest.Present; page++)
                _versions[page] = 1;
        }

        Status = birth == MachineBirth.Boot ? MachineStatus.Paused : MachineStatus.AwaitingState;
    }

    internal SimHost Host { get; }

    internal VmSpec Spec { get; }

    internal string Id { get; }

    internal Guest? Guest { get; private set; }

    internal MachineStatus Status { get; private set; }

    internal bool Gone => Status == MachineStatus.Exited;

    internal bool HoldsDisk { get; private set; }

    /// <summary>Pages that are still to come; the guest waits where it touches one. The map lies in the host's memory and outlives the agent.</summary>
    internal PageBitmap Missing { get; }

    internal bool Sealed { get; set; }

    internal PageBitmap? Dirty { get; set; }

    /// <summary>Whose <see cref="Dirty"/> is.</summary>
    internal DirtyTracking? Tracking { get; set; }

    /// <summary>Per cent of its speed that the guest is left. It belongs to the process and outlives the agent.</summary>
    internal int CpuPercent { get; private set; } = 100;

    internal long? RunsSince { get; private set; }

    internal long? StandsSince { get; private set; }

    internal TaskCompletionSource<string> Exited { get; } = new();

    public override string ToString() => $"{Spec.Name}@{Host.Name}/{Id}";

    internal long Version(long page)
    {
        Advance();
        return _versions[page];
    }

    internal bool IsPresent(long page) => _versions[page] != 0;

    /// <summary>Lets the vCPUs run. The observer is told first: it must see what a bug would do, not what a check here prevents.</summary>
    internal void Continue()
    {
        Require();
        if (Status == MachineStatus.Running)
            return;
        if (Guest is not { } guest)
            throw new FabricException(ErrorCodes.MachineFailed, $"{this} has no device state to run from.");
        TakeDisk();
        CompareMemory("when it is let run");
        Status = MachineStatus.Running;
        (_anchor, _sinceAnchor, _faulted) = (_world.Now, 0, false);
        RunsSince = _world.Clock.GetTimestamp();
        _world.Observer.Runs(this, guest);
    }

    internal void Stop()
    {
        Require();
        if (Status != MachineStatus.Running)
            return;
        Advance();
        Status = MachineStatus.Paused;
        StandsSince = _world.Clock.GetTimestamp();
        _world.Observer.Stands(this, Guest!);
    }

    internal byte[] Save(bool releaseDisks)
    {
        Require();
        if (Guest is not { } guest || Status != MachineStatus.Paused)
            throw new FabricException(ErrorCodes.MachineFailed, $"{this} is {Status} and has no state to save.");
        guest.Saves++;
        _versions[guest.DevicePage]++;
        if (Dirty is { } dirty)
            dirty[guest.DevicePage] = true;
        if (releaseDisks && !_world.Plants.On("keep-disk-lock"))
            ReleaseDisk();
        return guest.Save();
    }

    internal void Load(ReadOnlySpan<byte> state)
    {
        Require();
        if (Status != MachineStatus.AwaitingState || state.Length != Guest.StateBytes)
            throw new FabricException(ErrorCodes.MachineFailed, $"{this} takes no device state now.");
        Guest = Guest.Load(state, _world.Observer.Lives);
        Status = MachineStatus.Paused;
    }

    internal void SetSpeed(int percent)
    {
        Require();
        if (percent == CpuPercent)
            return;
        Advance();
        CpuPercent = percent;
        (_anchor, _sinceAnchor) = (_world.Now, 0);
    }

    internal void TakeDisk()
    {
        Require();
        if (HoldsDisk)
            return;
        HoldsDisk = true;
        _world.Observer.TookDisk(this);
    }

    private void ReleaseDisk()
    {
        if (!HoldsDisk)
            return;
        HoldsDisk = false;
        _world.Observer.LeftDisk(this);
    }

    /// <summary>The process ends. <paramref name="fault"/>: not because its agent said so.</summary>
    internal void End(string how, bool fault)
    {
        if (Gone)
            return;
        Advance();
        bool ran = Status == MachineStatus.Running;
        Status = MachineStatus.Exited;
        ReleaseDisk();
        _world.Observer.MachineEnded(this, ran, fault, how);
        Host.Machines.Remove(this);
        foreach (var (_, present) in _waiters)
            present.TrySetException(new FabricException(ErrorCodes.MachineFailed, $"{this} ended: {how}"));
        _waiters.Clear();
        Exited.TrySetResult(how);
    }

    /// <summary>A page that came over the wire before the guest runs here.</summary>
    internal void Fill(int page, long version) => _versions[page] = version;

    /// <summary>A page that was missing: whoever waits for it goes on.</summary>
    internal void Install(int page, long version)
    {
        if (Gone || !Missing[page])
            return;
        Advance();
        _versions[page] = version;
        Missing[page] = false;
        if (_faulted && Guest!.NextPage == page)
            (_anchor, _sinceAnchor, _faulted) = (_world.Now, 0, false);
        foreach (var (_, present) in _waiters.Where(w => w.Page == page).ToList())
            present.TrySetResult();
        _waiters.RemoveAll(w => w.Page == page);
    }

    internal void Discard(int page) => _versions[page] = 0;

    /// <summary>Pages that the guest or its devices wait for now.</summary>
    internal IEnumerable<int> Wanted()
    {
        Advance();
        if (_faulted)
            yield return Guest!.NextPage;
        foreach (var (page, _) in _waiters)
            yield return page;
    }

    internal Task PresentAsync(int page)
    {
        if (!Missing[page])
            return Task.CompletedTask;
        var present = new TaskCompletionSource();
        _waiters.Add((page, present));
        return present.Task;
    }

    /// <summary>Compares all pages that are here with what the guest's steps say.</summary>
    internal void CompareMemory(string when)
    {
        if (Guest is not { } guest)
            return;
        for (int page = 0; page < _versions.Length; page++)
        {
            if (!Missing[page] && _versions[page] != guest.Expected(page))
            {
                _world.Observer.Violated("I3", $"{this}: page {page} holds {_versions[page]} instead of {guest.Expected(page)} at step {guest.Steps}, {when}");
                return;
            }
        }
    }

    /// <summary>Carries the guest to the present moment.</summary>
    internal void Advance()
    {
        if (Status != MachineStatus.Running || Guest is not { } guest || _faulted)
            return;
        long due = (long)((_world.Now - _anchor).TotalSeconds * guest.StepsPerSecond * CpuPercent / 100) - _sinceAnchor;
        if (due <= 0)
            return;
        if (due >= 2 * guest.Working && Missing.CountSet() == 0)
        {
            CompareMemory("while it runs");
            long sweeps = due / guest.Working;
            for (int page = 0; page < guest.Working; page++)
            {
                _versions[page] += sweeps;
                if (Dirty is { } dirty)
                    dirty[page] = true;
            }

            guest.Steps += sweeps * guest.Working;
            _sinceAnchor += sweeps * guest.Working;
            due -= sweeps * guest.Working;
        }

        for (; due > 0 && Step(guest); due--)
            _sinceAnchor++;
    }

    private bool Step(Guest guest)
    {
        int page = guest.NextPage;
        if (Missing[page])
        {
            _faulted = true;
            return false;
        }

        if (_versions[page] != guest.Expected(page))
            _world.Observer.Violated("I3", $"{this}: the guest finds {_versions[page]} instead of {guest.Expected(page)} in page {page} at step {guest.Steps}");
        guest.Steps++;
        _versions[page] = guest.Expected(page);
        if (Dirty is { } dirty)
            dirty[page] = true;
        return true;
    }

    /// <summary>A planted bug: now and then a written page is not reported.</summary>
    internal void ForgetSomeDirty(PageBitmap tracked)
    {
        if (_world.Plants.On("forget-dirty-page") && tracked.NextSet(0) is >= 0 and var page)
            tracked[page] = false;
    }

    private void Require()
    {
        if (Gone)
            throw new FabricException(ErrorCodes.MachineFailed, $"{this} is gone.");
    }
}
