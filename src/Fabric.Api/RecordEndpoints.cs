using Fabric.Core;
using Fabric.Supervisor;
using Fabric.Wire.Api;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;

namespace Fabric.Api;

/// <summary>The record: what was decided, by whom, at which epoch; and who is in charge of what.</summary>
internal static class RecordEndpoints
{
    /// <summary>Longest cursor that is looked at: more does not fit into the line of a request.</summary>
    private const int CursorCharacters = 4096;

    public static void MapRecordApi(this IEndpointRouteBuilder routes, Func<IControlPlane> control)
    {
        routes.MapGet("/v1/migrations/{id}/log", async context => await JsonBodies.WriteAsync(
            context, new Listing<EventReport>(await control().MigrationLogAsync(RequestInput.Id(context), context.RequestAborted)), ApiJson.Default.ListingEventReport));
        routes.MapGet("/v1/events", async context =>
        {
            string after = context.Request.Query["after"].ToString();
            if (after.Length > CursorCharacters)
                throw new FabricException(ErrorCodes.InvalidArgument, "The cursor is too long.", "Use the one of the last answer, or none to begin.");
            int most = (int)RequestInput.Number(context, "most", 256, 1, 1024);
            await JsonBodies.WriteAsync(context, await control().EventsAsync(after, most, context.RequestAborted), ApiJson.Default.EventPage);
        });
        routes.MapGet("/v1/shards", async context => await JsonBodies.WriteAsync(
            context, new Listing<ShardReport>(await control().ListShardsAsync(context.RequestAborted)), ApiJson.Default.ListingShardReport));
        routes.MapGet("/v1/nodes", async context => await JsonBodies.WriteAsync(
            context, new Listing<NodeReport>(await control().ListNodesAsync(context.RequestAborted)), ApiJson.Default.ListingNodeReport));
    }
}
