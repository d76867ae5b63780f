namespace Fabric.Benchmarks.Compare;

/// <summary>Moves the guest through two host agents of this process's build.</summary>
public sealed class FabricMover : IMover
{
    public string Name => "fabric";

    public string? Unavailable => "the host agents are not connected to this benchmark yet";

    public Task<MoveResult> MoveAsync(GuestImage guest, MoveMode mode, CancellationToken cancellation) =>
        Task.FromResult(MoveResult.Failed(Name, mode, Unavailable!));
}
