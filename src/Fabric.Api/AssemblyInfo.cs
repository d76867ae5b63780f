using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("Fabric.Unit")]
