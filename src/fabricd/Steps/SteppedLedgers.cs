using Fabric.Core;
using Fabric.Host.Ledger;

namespace Fabric.Daemon.Steps;

/// <summary>Every record of every VM's ledger passes the gate before it is written and after it is durable.</summary>
internal sealed class SteppedLedgers(ILedgerStore inner, StepGate gate) : ILedgerStore
{
    public IReadOnlyList<VmName> List() => inner.List();

    public IVmLedger Open(VmName vm) => new SteppedLedger(vm, inner.Open(vm), gate);

    private sealed class SteppedLedger(VmName vm, IVmLedger inner, StepGate gate) : IVmLedger
    {
        public VmLedgerState State => inner.State;

        public void Append(params ReadOnlySpan<VmRecord> records)
        {
            foreach (var record in records)
                gate.Pass("before", VmRecord.KindOf(record), vm.Value);
            inner.Append(records);
            foreach (var record in records)
                gate.Pass("after", VmRecord.KindOf(record), vm.Value);
        }

        public void Dispose() => inner.Dispose();
    }
}
