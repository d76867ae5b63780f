namespace Fabric.Machines.Synthetic;

/// <summary>Holds the synthetic guest back: fewer operations in each tick of a guest that has a thread of its own.</summary>
internal sealed class SyntheticThrottle(SyntheticVcpu vcpu) : IThrottle
{
    public ValueTask SetAsync(int percent, CancellationToken cancellation)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(percent, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(percent, 99);
        vcpu.CpuPercent = percent;
        return ValueTask.CompletedTask;
    }

    public void Lift() => vcpu.CpuPercent = 100;
}
