using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Fabric.Api;

/// <summary>What control nodes ask each other besides the API: whether exactly that life of the node is there.</summary>
public static class PeerEndpoints
{
    /// <param name="routes">Where to map; only on the port for nodes.</param>
    /// <param name="node">This life's id, or null between two.</param>
    public static void MapPeerApi(this IEndpointRouteBuilder routes, Func<Guid?> node)
    {
        ArgumentNullException.ThrowIfNull(routes);
        ArgumentNullException.ThrowIfNull(node);
        routes.MapGet("/cluster/v1/probe/{node:guid}", context =>
        {
            bool me = Guid.TryParse(context.Request.RouteValues["node"] as string, out var asked) && node() == asked;
            context.Response.StatusCode = me ? StatusCodes.Status204NoContent : StatusCodes.Status404NotFound;
            return Task.CompletedTask;
        });
    }
}
