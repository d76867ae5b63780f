using Fabric.Core;
using Fabric.Supervisor;
using Fabric.Wire.Agent;
using Fabric.Wire.Api;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Fabric.Api;

/// <summary>The operators' API under /v1: every endpoint is one call of <see cref="IControlPlane"/> between checked input and typed output.</summary>
public static class ControlEndpoints
{
    /// <param name="routes">Where to map.</param>
    /// <param name="control">What answers now; throws unreachable while this node is not in its cluster.</param>
    /// <param name="nodes">Where hosts can register, this node among them.</param>
    /// <param name="automatic">What a VM that asks for <see cref="Accelerator.Auto"/> gets. It is decided here, once, before anything is journaled, and then travels with the VM.</param>
    public static void MapControlApi(
        this IEndpointRouteBuilder routes, Func<IControlPlane> control, Func<IReadOnlyList<Uri>> nodes, Accelerator automatic = Accelerator.Tcg)
    {
        ArgumentNullException.ThrowIfNull(routes);
        ArgumentNullException.ThrowIfNull(control);
        MapHosts(routes, control, nodes);
        MapVms(routes, control, automatic);
        MapMigrations(routes, control);
        MapEvacuations(routes, control);
        routes.MapRecordApi(control);
        routes.MapGet("/v1/changes", async context =>
        {
            long after = RequestInput.Number(context, "after", 0, 0, long.MaxValue);
            long version = await control().WaitChangeAsync(after, RequestInput.Wait(context), context.RequestAborted);
            await JsonBodies.WriteAsync(context, new ChangeReport(version), ApiJson.Default.ChangeReport);
        });
    }

    private static void MapHosts(IEndpointRouteBuilder routes, Func<IControlPlane> control, Func<IReadOnlyList<Uri>> nodes)
    {
        var trusted = routes.ServiceProvider.GetRequiredService<TrustedNetwork>();
        routes.MapPost("/v1/hosts", async context =>
        {
            var registration = await JsonBodies.ReadAsync(context, AgentJson.Default.HostRegistration, "{name, incarnation, agent_url, data, memory_bytes, cpus, machines, version}");
            RequestInput.Check(registration, trusted);
            await control().RegisterHostAsync(registration, context.RequestAborted);
            await JsonBodies.WriteAsync(context, new RegistrationAnswer(nodes()), AgentJson.Default.RegistrationAnswer);
        });
        routes.MapGet("/v1/hosts", async context =>
            await JsonBodies.WriteAsync(context, new Listing<HostReport>(await control().ListHostsAsync(context.RequestAborted)), ApiJson.Default.ListingHostReport));
        routes.MapGet("/v1/hosts/{id}", async context =>
        {
            var host = await control().GetHostAsync(RequestInput.Host(context), context.RequestAborted);
            await JsonBodies.WriteAsync(context, host, ApiJson.Default.HostReport);
        });
        MapCordon("cordon", cordoned: true);
        MapCordon("uncordon", cordoned: false);

        void MapCordon(string verb, bool cordoned) => routes.MapPost("/v1/hosts/{id}/" + verb, async context =>
        {
            string? reason = context.Request.ContentType is null ? null : (await JsonBodies.ReadAsync(context, ApiJson.Default.CordonRequest, "{reason}")).Reason;
            var host = await control().SetCordonedAsync(RequestInput.Host(context), cordoned, reason, context.RequestAborted);
            await JsonBodies.WriteAsync(context, host, ApiJson.Default.HostReport);
        });
    }

    private static void MapVms(IEndpointRouteBuilder routes, Func<IControlPlane> control, Accelerator automatic)
    {
        routes.MapGet("/v1/vms", async context =>
            await JsonBodies.WriteAsync(context, new Listing<VmReport>(await control().ListVmsAsync(context.RequestAborted)), ApiJson.Default.ListingVmReport));
        routes.MapPost("/v1/vms", async context =>
        {
            var request = await JsonBodies.ReadAsync(context, ApiJson.Default.CreateVmRequest, "{spec: {name, memory_bytes, kernel, …}, host}");
            RequestInput.Check(request.Spec);
            if (request.Spec.Accelerator == Accelerator.Auto)
                request = request with { Spec = request.Spec with { Accelerator = automatic } };
            var vm = await control().CreateVmAsync(request, context.RequestAborted);
            context.Response.Headers.Location = $"/v1/vms/{vm.Name}";
            await JsonBodies.WriteAsync(context, vm, ApiJson.Default.VmReport, StatusCodes.Status201Created);
        });
        routes.MapGet("/v1/vms/{id}", async context =>
        {
            var name = RequestInput.Vm(context);
            var vm = (await control().ListVmsAsync(context.RequestAborted)).FirstOrDefault(v => v.Name == name)
                ?? throw new FabricException(ErrorCodes.NotFound, $"There is no VM '{name}'.", "fabric vm list");
            await JsonBodies.WriteAsync(context, vm, ApiJson.Default.VmReport);
        });
        routes.MapDelete("/v1/vms/{id}", async context =>
        {
            await control().DeleteVmAsync(RequestInput.Vm(context), RequestInput.Flag(context, "force"), context.RequestAborted);
            context.Response.StatusCode = StatusCodes.Status204NoContent;
        });
        routes.MapPost("/v1/vms/{id}/repair", async context =>
        {
            var request = await JsonBodies.ReadAsync(context, ApiJson.Default.RepairRequest, "{reason}");
            if (request.Reason is { Length: > Limits.ReasonCharacters })
                throw new FabricException(ErrorCodes.InvalidArgument, "The reason is too long.", $"Use at most {Limits.ReasonCharacters} characters.");
            var report = await control().RepairAsync(RequestInput.Vm(context), request.Reason, context.RequestAborted);
            await JsonBodies.WriteAsync(context, report, ApiJson.Default.RepairReport);
        });
        routes.MapGet("/v1/vms/{id}/console", async context =>
        {
            long offset = RequestInput.Number(context, "offset", 0, 0, long.MaxValue);
            int most = (int)RequestInput.Number(context, "most", 64 * 1024, 1, RequestInput.ConsoleBytes);
            var chunk = await control().ReadConsoleAsync(RequestInput.Vm(context), offset, most, context.RequestAborted);
            await JsonBodies.WriteAsync(context, chunk, ApiJson.Default.ConsoleChunk);
        });
    }

    private static void MapMigrations(IEndpointRouteBuilder routes, Func<IControlPlane> control)
    {
        routes.MapPost("/v1/migrations", async context =>
        {
            var request = await JsonBodies.ReadAsync(context, ApiJson.Default.MigrateRequest, "{vm, destination, options: {mode, verify, …}, request_id}");
            RequestInput.Check(request.Options);
            var migration = await control().MigrateAsync(request, context.RequestAborted);
            context.Response.Headers.Location = $"/v1/migrations/{migration.Id}";
            await JsonBodies.WriteAsync(context, migration, ApiJson.Default.MigrationReport, StatusCodes.Status202Accepted);
        });
        routes.MapGet("/v1/migrations", async context =>
            await JsonBodies.WriteAsync(
                context, new Listing<MigrationReport>(await control().ListMigrationsAsync(context.RequestAborted)), ApiJson.Default.ListingMigrationReport));
        routes.MapGet("/v1/migrations/{id}", async context =>
            await JsonBodies.WriteAsync(context, await control().GetMigrationAsync(RequestInput.Id(context), context.RequestAborted), ApiJson.Default.MigrationReport));
        routes.MapPost("/v1/migrations/{id}/abort", async context =>
        {
            var request = await JsonBodies.ReadAsync(context, ApiJson.Default.AbortRequest, "{reason}");
            if (request.Reason is { Length: > Limits.ReasonCharacters })
                throw new FabricException(ErrorCodes.InvalidArgument, "The reason is too long.", $"Use at most {Limits.ReasonCharacters} characters.");
            var migration = await control().AbortMigrationAsync(RequestInput.Id(context), request.Reason, context.RequestAborted);
            await JsonBodies.WriteAsync(context, migration, ApiJson.Default.MigrationReport);
        });
    }

    private static void MapEvacuations(IEndpointRouteBuilder routes, Func<IControlPlane> control)
    {
        routes.MapPost("/v1/evacuations", async context =>
        {
            var request = await JsonBodies.ReadAsync(context, ApiJson.Default.EvacuateRequest, "{host, parallel, dry_run, options: {mode, …}, request_id}");
            RequestInput.Check(request.Options);
            if (request.Parallel is < 1 or > Limits.VmsPerHost)
                throw new FabricException(ErrorCodes.InvalidArgument, $"{request.Parallel} moves at once are not accepted.", $"Use 1 to {Limits.VmsPerHost}.");
            var evacuation = await control().EvacuateAsync(request, context.RequestAborted);
            context.Response.Headers.Location = $"/v1/evacuations/{evacuation.Id}";
            await JsonBodies.WriteAsync(
                context, evacuation, ApiJson.Default.EvacuationReport, request.DryRun ? StatusCodes.Status200OK : StatusCodes.Status202Accepted);
        });
        routes.MapGet("/v1/evacuations", async context =>
            await JsonBodies.WriteAsync(
                context, new Listing<EvacuationReport>(await control().ListEvacuationsAsync(context.RequestAborted)), ApiJson.Default.ListingEvacuationReport));
        routes.MapGet("/v1/evacuations/{id}", async context =>
            await JsonBodies.WriteAsync(context, await control().GetEvacuationAsync(RequestInput.Id(context), context.RequestAborted), ApiJson.Default.EvacuationReport));
    }
}
