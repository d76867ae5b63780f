using Fabric.Core;

namespace Fabric.Benchmarks.Scale;

/// <summary>
/// The size of one scale run. <paramref name="PushSeconds"/>: how long the first round of a push lasts, so that migrations overlap as they do in life.
/// <paramref name="RampSeconds"/>: over which the evacuations are asked for, evenly; 0: all at the same moment.
/// </summary>
internal sealed record ScaleOptions(int Hosts, int Vms, int Concurrent, int PushSeconds, int RampSeconds, string Store, string? Connection, int MemoryMebibytes, string Out)
{
    internal int VmsPerHost => Math.Max(1, (Vms + Hosts - 1) / Hosts);

    /// <summary>Hosts that are emptied, so that at least <see cref="Concurrent"/> VMs have to move.</summary>
    internal int Evacuated => (Concurrent + VmsPerHost - 1) / VmsPerHost;

    /// <exception cref="FabricException">invalid-argument, naming the option.</exception>
    internal static ScaleOptions Parse(IReadOnlyDictionary<string, string> values)
    {
        var options = new ScaleOptions(
            BenchOptions.Number(values, "hosts", 1000, 2, 5000),
            BenchOptions.Number(values, "vms", 20_000, 2, 200_000),
            BenchOptions.Number(values, "concurrent", 2000, 1, 100_000),
            BenchOptions.Number(values, "push-seconds", 30, 0, 600),
            BenchOptions.Number(values, "ramp-seconds", 20, 0, 600),
            values.GetValueOrDefault("store", "sqlite"),
            values.GetValueOrDefault("connection"),
            4096,
            values.GetValueOrDefault("out", Path.Combine("artifacts", "bench")));
        if (options.Store is not ("sqlite" or "postgres"))
            throw Invalid($"'{Label.Shorten(options.Store)}' is no value for --store.", "Use sqlite or postgres.");
        if (options.Vms < options.Hosts)
            throw Invalid($"{options.Vms} VMs leave some of {options.Hosts} hosts empty.", "Give --vms at least as many as --hosts.");
        if (options.Evacuated > options.Hosts / 2)
            throw Invalid($"{options.Concurrent} migrations at once would empty {options.Evacuated} of {options.Hosts} hosts.", "Give a lower --concurrent: half of the hosts must stay.");
        return options;
    }

    private static FabricException Invalid(string message, string hint) => new(ErrorCodes.InvalidArgument, message, hint);
}
