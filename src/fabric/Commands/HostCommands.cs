using System.CommandLine;
using Fabric.Cli.Output;
using Fabric.Core;

namespace Fabric.Cli.Commands;

internal static class HostCommands
{
    public static Command Make(CommandBuilder builder)
    {
        return CommandBuilder.Group("host", "Hosts that run virtual machines", [List(builder), Show(builder), Cordon(builder, "cordon", true), Cordon(builder, "uncordon", false)]);
    }

    private static Command List(CommandBuilder builder) => builder.Command("list", "All hosts", [], async (run, cancellation) =>
    {
        using var client = run.Connect();
        run.Printer.List(await client.HostsAsync(cancellation), Views.Hosts(run.Context.Time), h => h.Name.Value, api => api.HostReport);
        return ExitCode.Done;
    });

    private static Command Show(CommandBuilder builder)
    {
        var host = new Argument<string>("host") { Description = "Name of the host" };
        return builder.Command("show", "One host", [host], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var report = await client.HostAsync(HostName.Parse(run.Parsed.GetValue(host)), cancellation);
            run.Printer.One(report, Views.Host(run.Context.Time), h => h.Name.Value, api => api.HostReport);
            return ExitCode.Done;
        });
    }

    private static Command Cordon(CommandBuilder builder, string verb, bool cordoned)
    {
        var host = new Argument<string>("host") { Description = "Name of the host" };
        var reason = new Option<string?>("--reason") { Description = "Kept with the cordon" };
        return builder.Command(verb, cordoned ? "Place nothing new on a host; what runs there stays" : "Let a host be chosen again", cordoned ? [host, reason] : [host], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var report = await client.SetCordonedAsync(HostName.Parse(run.Parsed.GetValue(host)), cordoned, cordoned ? run.Parsed.GetValue(reason) : null, cancellation);
            if (run.Format is OutputFormat.Table or OutputFormat.Wide)
                run.Context.Say($"host {report.Name} is {report.State}");
            else
                run.Printer.One(report, Views.Hosts(run.Context.Time), h => h.Name.Value, api => api.HostReport);
            return ExitCode.Done;
        });
    }
}
