namespace Fabric.Machines.Synthetic;

/// <summary>
/// The program that the synthetic guest runs, one operation at a time. An operation touches one page and either happens
/// wholly or not at all: when its page is missing nothing has changed, and it is tried again. So the guest can be stopped
/// between any two operations, also while it waits for a page. One thread at a time.
/// </summary>
internal sealed class SyntheticGuest(Workload workload, SyntheticMemory memory)
{
    private readonly PagePattern _pattern = new(workload);

    internal Registers Registers { get; set; } = new() { Random = PagePattern.Mix(workload.Seed ^ 0x67756573) };

    /// <summary>Runs one operation; false when <paramref name="missing"/> has to come first.</summary>
    internal bool TryOperate(out long missing)
    {
        missing = -1;
        var now = Registers;
        ulong random = PagePattern.Mix(now.Random);
        bool write = random % 10 < WritesOfTen(workload.Kind);
        long page = write ? _pattern.PageAt(now.Position) : (long)((random >> 8) % (ulong)workload.Pages);
        ulong expected = _pattern.Expected(page, now.Sweep, now.Position);
        var reach = memory.TryReach(page, write, out nint address);
        if (reach == Reach.Missing)
        {
            missing = page;
            return false;
        }

        bool right = reach == Reach.Zeros ? expected == 0 : _pattern.Matches(address, page, expected);
        if (!right)
            now.Errors++;
        if (write)
        {
            _pattern.Write(address, page, now.Sweep);
            memory.MarkDirty(page);
            if (++now.Position == workload.Pages)
            {
                now.Position = 0;
                now.Sweep++;
            }
        }

        now.Random = random;
        now.Operations++;
        return true;
    }

    /// <summary>Pages whose content is not what the registers say, over the whole workload and the holes beyond it. With the guest standing.</summary>
    internal long CountWrongPages()
    {
        long wrong = 0;
        for (long page = 0; page < memory.PageCount; page++)
        {
            ulong expected = page < workload.Pages ? _pattern.Expected(page, Registers.Sweep, Registers.Position) : 0;
            if (!_pattern.Matches(memory.AddressOf(page), page, expected))
                wrong++;
        }

        return wrong;
    }

    private static ulong WritesOfTen(WorkloadKind kind) => kind switch
    {
        WorkloadKind.Idle => 5,
        WorkloadKind.ReadHeavy => 1,
        WorkloadKind.WriteHeavy => 9,
        WorkloadKind.Oracle => 8,
        _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "not a workload"),
    };
}
