using System.CommandLine;
using Fabric.Cli.Demo;
using Fabric.Cli.Local;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Cli.Commands;

internal static class DemoCommand
{
    public static Command Make(CommandBuilder builder)
    {
        var machine = new Option<string>("--machine") { Description = "qemu (real guests) or synthetic (needs neither root nor QEMU)", DefaultValueFactory = _ => "qemu" };
        var accel = new Option<string>("--accel") { Description = "tcg (runs everywhere), kvm or auto", DefaultValueFactory = _ => "tcg" };
        var hosts = new Option<int>("--hosts") { Description = "Number of hosts, at least 3", DefaultValueFactory = _ => 3 };
        var json = new Option<string?>("--json") { Description = "Write the whole result to a file" };
        return builder.Command("demo", "Boot guests, move them in every mode, empty a host, check everything, leave nothing", [machine, accel, hosts, json], async (run, cancellation) =>
        {
            int count = run.Parsed.GetValue(hosts);
            if (count is < 3 or > ClusterTopology.MostHosts)
                throw new FabricException(ErrorCodes.InvalidArgument, $"--hosts {count} is not accepted.", $"The demo needs 3 to {ClusterTopology.MostHosts}.");
            var options = new DemoOptions(
                Words.Parse<MachineKind>(run.Parsed.GetValue(machine) ?? "qemu", "--machine"), Words.Parse<Accelerator>(run.Parsed.GetValue(accel) ?? "tcg", "--accel"), count, DaemonProgram.Find(run.Context.Environment));
            if (options.Machine == MachineKind.Qemu)
                RequireQemu(run.Context);
            var result = await new DemoRun(run, options).RunAsync(cancellation);
            if (run.Parsed.GetValue(json) is { } path)
                await File.WriteAllBytesAsync(path, result.ToJson(), CancellationToken.None);
            return result.ExitCode;
        });
    }

    /// <summary>Before anything is fetched or started: what is lacking for real guests, and the way without them.</summary>
    private static void RequireQemu(CliContext context)
    {
        var lacking = Preflight.Run(DoctorCommand.Options(context)).Where(c => c is { Required: true, Ok: false }).ToList();
        if (lacking.Count == 0)
            return;
        string list = string.Concat(lacking.Select(c => $"\n  {c.Name}: {c.Detail}" + (c.Remedy is { } remedy ? $"\n    → {remedy}" : "")));
        throw new FabricException(ErrorCodes.Unsupported, $"Real guests cannot be run and moved here. What is lacking:{list}", "Without it: fabric demo --machine synthetic");
    }
}
