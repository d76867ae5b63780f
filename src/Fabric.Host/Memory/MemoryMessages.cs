using Fabric.Actors;
using Fabric.Core;
using Fabric.Host.Link;
using Fabric.Machines;
using Fabric.Migration;
using Fabric.Transfer;

namespace Fabric.Host.Memory;

/// <summary>Everything that a VM's memory actor hears. Orders come from the VM's actor, the rest from work that it started itself.</summary>
public abstract record MemoryMessage;

/// <summary>Source: connect and copy in rounds. <paramref name="Throttle"/>: what may hold the guest back meanwhile, if anything can.</summary>
internal sealed record BeginPush(OutgoingRoute Route, MigrationOptions Options, IGuestMemory Memory, IThrottle? Throttle) : MemoryMessage;

/// <summary>Source: finish the round under way and start no other. Answered when the stream is quiet.</summary>
internal sealed record StopRounds(HandOverKind Kind, IReply<bool> Reply) : MemoryMessage;

/// <summary>Source, VM stopped: see <see cref="IOutgoingTransfer.FinishStoppedAsync"/>.</summary>
internal sealed record FinishStopped(HandOverKind Kind, Task<byte[]> DeviceState, IReply<bool> Reply, CancellationToken Cancellation) : MemoryMessage;

internal sealed record PassToken(Epoch Epoch, IReply<long> Reply) : MemoryMessage;

/// <summary>Source: answer what the destination misses, over the present stream.</summary>
internal sealed record ServePulling : MemoryMessage;

/// <summary>Source: connect again and again until the destination has everything.</summary>
internal sealed record ResumeServing(OutgoingRoute Route, IGuestMemory Memory) : MemoryMessage;

/// <summary>Let go of the outgoing stream.</summary>
internal sealed record EndOutgoing : MemoryMessage;

/// <summary>Destination: let the source in. Answered when the door is open.</summary>
internal sealed record ExpectIncoming(IncomingRoute Route, IMachine Machine, IReply<bool> Reply) : MemoryMessage;

/// <summary>Destination: close the door and drop the stream.</summary>
internal sealed record EndIncoming : MemoryMessage;

/// <summary>Destination: the broken stream is closed; take the next one.</summary>
internal sealed record ReceiveAgain(MigrationId Migration) : MemoryMessage;

internal sealed record IncomingFinished(IIncomingTransfer Transfer, FabricError? Error) : MemoryMessage;

internal sealed record Connected(MigrationId Migration, IOutgoingTransfer Transfer) : MemoryMessage;

internal sealed record ConnectFailed(MigrationId Migration, FabricError Error) : MemoryMessage;

/// <summary><paramref name="Verdict"/>: what was decided in the middle of the round, which ended it; null when it came to its own end.</summary>
internal sealed record RoundEnded(IOutgoingTransfer Transfer, RoundReport Report, ConvergenceDecision? Verdict) : MemoryMessage;

/// <summary>The guest has the speed that was asked for, or (<paramref name="Error"/>) could not be given it.</summary>
internal sealed record SpeedChanged(IOutgoingTransfer Transfer, FabricError? Error) : MemoryMessage;

internal sealed record NextRound(IOutgoingTransfer Transfer) : MemoryMessage;

internal sealed record OutgoingBroke(IOutgoingTransfer Transfer, FabricError Error) : MemoryMessage;

/// <summary>The stream ended with an error, whatever was under way on it.</summary>
internal sealed record OutgoingOver(IOutgoingTransfer Transfer, FabricError Error) : MemoryMessage;

internal sealed record Served(IOutgoingTransfer Transfer) : MemoryMessage;

internal sealed record ConnectAgain(MigrationId Migration) : MemoryMessage;

internal sealed record ReportProgress : MemoryMessage;

/// <summary>Nothing is to be done: the end of work whose result nobody needs.</summary>
internal sealed record Ignore : MemoryMessage;
