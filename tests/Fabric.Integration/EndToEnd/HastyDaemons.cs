using System.Collections.ObjectModel;

namespace Fabric.Integration.EndToEnd;

/// <summary>
/// The environment of daemons that live for seconds: they do not compile as carefully as in production, where it costs two thirds of their start, and do not rehearse. Their first moves take longer,
/// so it is not for tests that look at how long a guest stands.
/// </summary>
internal static class HastyDaemons
{
    internal static ReadOnlyDictionary<string, string> Environment { get; } = new(new Dictionary<string, string>
    {
        ["FABRIC_HOST_REHEARSE"] = "false",
        ["DOTNET_TieredCompilation"] = "1",
        ["DOTNET_TieredPGO"] = "0",
        ["DOTNET_TC_CallCounting"] = "0",
    });
}
