using System.CommandLine;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Commands;

internal static class EvacuationCommands
{
    public static IEnumerable<Command> Make(CommandBuilder builder) =>
        [Evacuate(builder), CommandBuilder.Group("evacuation", "Evacuations: past and present", [List(builder), Show(builder)])];

    private static Command Evacuate(CommandBuilder builder)
    {
        var host = new Argument<string>("host") { Description = "Host to empty; it is cordoned first" };
        var parallel = new Option<int?>("--parallel") { Description = "Moves at once (default: the cluster's limits)" };
        var dryRun = new Option<bool>("--dry-run") { Description = "Only show what would move where, and what cannot" };
        var options = new MoveOptions();
        return builder.Command("evacuate", "Move every VM off a host", [host, parallel, dryRun, .. options.All], async (run, cancellation) =>
        {
            var limit = options.Limit(run.Parsed);
            var request = new EvacuateRequest(
                HostName.Parse(run.Parsed.GetValue(host)), run.Parsed.GetValue(parallel), run.Parsed.GetValue(dryRun), options.Read(run.Parsed), MigrateCommand.NewRequestId(run.Context.Random));
            using var client = run.Connect();
            var evacuation = await client.EvacuateAsync(request, cancellation);
            if (run.Parsed.GetValue(options.Wait) && !request.DryRun)
                return await new EvacuationWatch(run, client).RunAsync(evacuation, limit, cancellation);
            if (!request.DryRun)
                run.Context.Say($"host {evacuation.Host} is being emptied: fabric evacuation show {evacuation.Id}");
            run.Printer.One(evacuation, Views.Evacuation, e => e.Id, api => api.EvacuationReport);
            return ExitCode.Of(evacuation) is var code && evacuation.State == "running" ? ExitCode.Done : code;
        });
    }

    private static Command List(CommandBuilder builder) => builder.Command("list", "All evacuations", [], async (run, cancellation) =>
    {
        using var client = run.Connect();
        run.Printer.List(await client.EvacuationsAsync(cancellation), Views.Evacuations, e => e.Id, api => api.EvacuationReport);
        return ExitCode.Done;
    });

    private static Command Show(CommandBuilder builder)
    {
        var id = new Argument<string>("id") { Description = "Id, or a unique beginning of one" };
        return builder.Command("show", "One evacuation", [id], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var evacuation = await client.EvacuationAsync(run.Parsed.GetValue(id)!, cancellation);
            run.Printer.One(evacuation, Views.Evacuation, e => e.Id, api => api.EvacuationReport);
            return ExitCode.Done;
        });
    }
}
