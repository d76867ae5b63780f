using Fabric.Core;
using Fabric.Journal;

namespace Fabric.Unit.Supervisor;

/// <summary>A node's way to the shared store, which may be cut for good.</summary>
internal sealed class CutJournal(IJournal store) : ForwardingJournal
{
    private volatile bool _cut;

    public bool IsCut
    {
        get => _cut;
        set => _cut = value;
    }

    protected override IJournal Inner => _cut ? throw new FabricException(ErrorCodes.StoreFailed, "The node is cut off.") : store;

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
