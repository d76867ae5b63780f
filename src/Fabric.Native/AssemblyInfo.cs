using System.Runtime.CompilerServices;

// Every import is blittable; the runtime marshals nothing.
[assembly: DisableRuntimeMarshalling]
[assembly: InternalsVisibleTo("Fabric.Unit")]
