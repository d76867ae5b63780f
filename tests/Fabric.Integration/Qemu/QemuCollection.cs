using Xunit;

namespace Fabric.Integration.Qemu;

/// <summary>What measures time or counts pages of real machines, one after another and after everything else: two cores measure nothing when shared.</summary>
[CollectionDefinition("qemu", DisableParallelization = true)]
public sealed class QemuCollectionDefinition;
