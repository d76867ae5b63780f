using Fabric.Core;
using Fabric.Host;
using Fabric.Host.Ledger;
using Fabric.Migration;
using Fabric.Unit.Migration;
using Xunit;

namespace Fabric.Unit.Host;

/// <summary>What a VM asks for is counted from the moment when it is granted, not only when its ledger says so; and no longer than its ledger says.</summary>
public sealed class AdmissionTests
{
    private const long Room = 3 * 64 * ByteSize.Mebi;

    private static readonly HostName Alpha = HostName.Parse("alpha");
    private static readonly HostName Gamma = HostName.Parse("gamma");
    private static readonly BatchLimits Limits = new(PerSource: 2, PerDestination: 2, PerLink: 1);

    private readonly Admission _admission = new(HostName.Parse("beta"), Room);

    [Fact]
    public void Memory_is_given_once_although_nobody_shows_it_yet()
    {
        _admission.Enter(Spec("a"));
        _admission.EnterIncoming(Spec("b"), Alpha, null);
        _admission.Enter(Spec("c"));
        Assert.Equal(0, _admission.MemoryFree());
        Assert.Equal(ErrorCodes.Exhausted, Refused(() => _admission.Enter(Spec("d"))));
        _admission.Show(VmName.Parse("b"), null, VmLedgerState.Empty); // nothing came of it
        Assert.Equal(64 * ByteSize.Mebi, _admission.MemoryFree());
        _admission.Enter(Spec("d"));
    }

    [Fact]
    public void A_host_takes_in_as_many_as_the_limits_allow_from_each_and_from_all()
    {
        _admission.EnterIncoming(Spec("a"), Alpha, Limits);
        Assert.Equal(ErrorCodes.Busy, Refused(() => _admission.EnterIncoming(Spec("b"), Alpha, Limits)));
        _admission.EnterIncoming(Spec("c"), Gamma, Limits);
        Assert.Equal(ErrorCodes.Busy, Refused(() => _admission.EnterIncoming(Spec("d"), HostName.Parse("delta"), Limits)));
        Assert.Equal(64 * ByteSize.Mebi, _admission.MemoryFree()); // a refused one takes nothing
        _admission.EnterIncoming(Spec("d"), Alpha, null); // a move of its own waits for nothing
    }

    [Fact]
    public void A_move_out_counts_until_the_destination_needs_nothing_more()
    {
        var vm = VmName.Parse("a");
        _admission.EnterOutgoing(vm, Gamma, Limits);
        Assert.Equal(ErrorCodes.Busy, Refused(() => _admission.EnterOutgoing(VmName.Parse("b"), Gamma, Limits)));
        foreach (var phase in Enum.GetValues<SourcePhase>().Where(static phase => phase != SourcePhase.Converged)) // which no ledger holds
        {
            _admission.Show(vm, null, VmLedgerState.Empty with { Outgoing = new OutgoingEntry(Samples.Plan.Id, phase, Gamma, default!, Samples.Plan.Ticket, MigrationOptions.Default) });
            bool moves = phase is SourcePhase.Pushing or SourcePhase.HandingOver or SourcePhase.TokenSent or SourcePhase.HandedOver;
            Assert.Equal(moves ? ErrorCodes.Busy : null, Refused(() => _admission.EnterOutgoing(VmName.Parse("b"), Gamma, Limits)));
            _admission.Show(VmName.Parse("b"), null, null);
        }
    }

    [Fact]
    public void A_move_in_counts_until_all_of_it_is_here()
    {
        var vm = VmName.Parse("a");
        foreach (var step in Enum.GetValues<IncomingStep>())
        {
            _admission.Show(vm, null, VmLedgerState.Empty with { Incoming = new IncomingEntry(Samples.Plan.Id, step, new Epoch(5), Alpha, null, MigrationOptions.Default) });
            bool moves = step is IncomingStep.Expected or IncomingStep.Accepted;
            Assert.Equal(moves ? ErrorCodes.Busy : null, Refused(() => _admission.EnterIncoming(Spec("b"), Alpha, Limits)));
            _admission.Show(VmName.Parse("b"), null, null);
        }
    }

    private static VmSpec Spec(string name) => new() { Name = VmName.Parse(name), MemoryBytes = 64 * ByteSize.Mebi };

    private static string? Refused(Action action) => Record.Exception(action) is { } refusal ? Assert.IsType<FabricException>(refusal).Error.Code : null;
}
