using Xunit;

namespace Fabric.Integration.Qemu;

/// <summary>Real machines one after another: two cores measure nothing when shared.</summary>
[CollectionDefinition("qemu", DisableParallelization = true)]
public sealed class QemuCollectionDefinition;
