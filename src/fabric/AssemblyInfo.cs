using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("Fabric.Unit")]
[assembly: InternalsVisibleTo("fabric-bench")]
