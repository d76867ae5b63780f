using Fabric.Actors;
using Fabric.Core;

namespace Fabric.Host.Disk;

/// <summary>Everything that a VM's disk actor hears.</summary>
public abstract record DiskMessage;

/// <summary>May this VM leave? Fails with the rule that forbids it.</summary>
internal sealed record CheckOutgoing(VmSpec Spec, IReply<bool> Reply) : DiskMessage;

/// <summary>May this VM come? Fails when one of its images cannot be reached from here.</summary>
internal sealed record CheckIncoming(VmSpec Spec, IReply<bool> Reply) : DiskMessage;
