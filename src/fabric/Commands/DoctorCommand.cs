using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Serialization;
using Fabric.Cli.Output;
using Fabric.Native;

namespace Fabric.Cli.Commands;

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true)]
[JsonSerializable(typeof(IReadOnlyList<PreflightCheck>))]
internal sealed partial class DoctorJson : JsonSerializerContext;

/// <summary>Says what this machine lacks, and what to do about it. Exit 0 when QEMU machines can be run and moved here, else 1.</summary>
internal static class DoctorCommand
{
    public static Command Make(CommandBuilder builder) => builder.Command("doctor", "What this machine lacks for running and moving VMs", [], (run, _) =>
    {
        var checks = Preflight.Run(Options(run.Context));
        switch (run.Format)
        {
            case OutputFormat.Json:
                run.Context.Out.WriteLine(JsonSerializer.Serialize(checks, DoctorJson.Default.IReadOnlyListPreflightCheck));
                break;
            case OutputFormat.Yaml:
                run.Context.Out.Write(YamlText.Of(JsonSerializer.SerializeToElement(checks, DoctorJson.Default.IReadOnlyListPreflightCheck)));
                break;
            default:
                Print(run, checks);
                break;
        }

        return Task.FromResult(Preflight.WhyNot(checks) is null ? ExitCode.Done : ExitCode.Failed);
    });

    public static PreflightOptions Options(CliContext context) => new() { QemuBinary = context.Environment("FABRIC_HOST_QEMU") ?? "qemu-system-x86_64" };

    private static void Print(Invocation run, IReadOnlyList<PreflightCheck> checks)
    {
        int width = checks.Max(c => c.Name.Length);
        foreach (var check in checks)
        {
            string verdict = check.Ok ? "ok  " : check.Required ? "LACK" : "slow";
            run.Context.Out.WriteLine($"{verdict}  {check.Name.PadRight(width)}  {check.Detail}");
            if (check is { Ok: false, Remedy: { } remedy })
                run.Context.Out.WriteLine($"      {new string(' ', width)}  → {remedy}");
        }

        bool able = Preflight.WhyNot(checks) is null;
        run.Context.Say(able ? "QEMU machines can be run and moved here." : "QEMU machines cannot be moved here; synthetic ones can: fabric demo --machine synthetic");
    }
}
