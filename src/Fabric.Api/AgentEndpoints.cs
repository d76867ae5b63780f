using Fabric.Core;
using Fabric.Host;
using Fabric.Migration;
using Fabric.Wire.Agent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace Fabric.Api;

/// <summary>What control nodes ask of a host agent, under /agent/v1 (docs/PROTOCOL.md §1).</summary>
public static class AgentEndpoints
{
    public static void MapAgentApi(this IEndpointRouteBuilder routes, IHostAgent agent)
    {
        ArgumentNullException.ThrowIfNull(routes);
        ArgumentNullException.ThrowIfNull(agent);
        routes.MapPost("/agent/v1/commands", async context =>
        {
            var command = await JsonBodies.ReadAsync(context, AgentJson.Default.AgentCommand, "{kind: 'create-vm' | 'delete-vm' | …, header: {id, vm, shard_epoch, run_epoch}, …}");
            Check(command);

            // A command that was read is carried out and recorded whether or not its sender waits: its answer is asked for by the same id.
            var result = await agent.ExecuteAsync(command, CancellationToken.None).WaitAsync(context.RequestAborted);
            await JsonBodies.WriteAsync(context, result, AgentJson.Default.CommandResult);
        });
        routes.MapGet("/agent/v1/facts", async context =>
        {
            long after = RequestInput.Number(context, "after", 0, -1, long.MaxValue);
            var facts = await agent.FactsAsync(after, RequestInput.Wait(context), context.RequestAborted);
            await JsonBodies.WriteAsync(context, facts, AgentJson.Default.HostFacts);
        });
        routes.MapGet("/agent/v1/vms/{id}/console", async context =>
        {
            var vm = RequestInput.Vm(context);
            long offset = RequestInput.Number(context, "offset", 0, 0, long.MaxValue);
            int most = (int)RequestInput.Number(context, "most", 64 * 1024, 1, RequestInput.ConsoleBytes);
            byte[] text = await agent.ConsoleAsync(vm, offset, most, context.RequestAborted)
                ?? throw new FabricException(ErrorCodes.NotFound, $"There is no VM '{vm}' on this host.");
            context.Response.ContentType = "application/octet-stream";
            await context.Response.Body.WriteAsync(text, context.RequestAborted);
        });
    }

    private static void Check(AgentCommand command)
    {
        // A body may leave the name's text out of reach of its type: a default name is refused before an actor is looked up by it.
        if (command.Header is not { } header || string.IsNullOrEmpty(header.Vm.ToString()))
            throw new FabricException(ErrorCodes.Malformed, "The command names no VM.");
        switch (command)
        {
            case CreateVm create:
                CheckNames(header, create.Spec);
                break;
            case PrepareIncoming prepare:
                CheckNames(header, prepare.Spec);
                RequestInput.Check(prepare.Options);
                Check(prepare.Ticket);
                break;
            case StartPush push:
                RequestInput.Check(push.Options);
                Check(push.Ticket);
                Check(push.Endpoint);
                break;
            case ServePull pull:
                Check(pull.Ticket);
                Check(pull.Endpoint);
                break;
            case HandOver { Mode: not (MigrationMode.PreCopy or MigrationMode.PostCopy) }:
                throw new FabricException(ErrorCodes.InvalidArgument, "A hand-over is pre-copy or post-copy.");
            case SetBalloon { Bytes: < 0 }:
                throw new FabricException(ErrorCodes.InvalidArgument, "A balloon target below zero is not accepted.");
        }
    }

    private static void CheckNames(CommandHeader header, VmSpec spec)
    {
        RequestInput.Check(spec);
        if (spec.Name != header.Vm)
            throw new FabricException(ErrorCodes.InvalidArgument, $"The command is for VM '{header.Vm}' but its spec names '{spec.Name}'.");
    }

    private static void Check(Ticket ticket)
    {
        if (ticket.Hex.Length != 2 * Ticket.Bytes || !ticket.Hex.All(char.IsAsciiHexDigit))
            throw new FabricException(ErrorCodes.Malformed, $"The ticket is not {Ticket.Bytes} bytes in hex.");
    }

    private static void Check(DataEndpoint endpoint)
    {
        if (endpoint.Port is < 1 or > 65535 || endpoint.Address.Length is 0 or > 255)
            throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(endpoint.Address)}:{endpoint.Port}' is not an address and a port.");
    }
}
