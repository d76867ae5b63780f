using System.Text.Json;
using Fabric.Core;
using Fabric.Wire.Agent;
using Microsoft.AspNetCore.Http;

namespace Fabric.Api;

/// <summary>Which HTTP status says which stable error code. Clients read the code in the body; the status is for proxies and curl.</summary>
public static class ErrorAnswers
{
    public static int StatusOf(string code) => code switch
    {
        ErrorCodes.InvalidArgument or ErrorCodes.Malformed => StatusCodes.Status400BadRequest,
        ErrorCodes.NotFound => StatusCodes.Status404NotFound,
        ErrorCodes.AlreadyExists or ErrorCodes.Ambiguous or ErrorCodes.Conflict or ErrorCodes.Incompatible or ErrorCodes.Cancelled or ErrorCodes.NotConverging => StatusCodes.Status409Conflict,
        ErrorCodes.Lost => StatusCodes.Status410Gone,
        ErrorCodes.RefusedByEpoch or ErrorCodes.RefusedBySafety => StatusCodes.Status412PreconditionFailed,
        ErrorCodes.Unsupported => StatusCodes.Status501NotImplemented,
        ErrorCodes.Unreachable or ErrorCodes.NotHeld or ErrorCodes.Exhausted or ErrorCodes.Busy or ErrorCodes.StoreFailed => StatusCodes.Status503ServiceUnavailable,
        ErrorCodes.DeadlineExceeded => StatusCodes.Status504GatewayTimeout,
        _ => StatusCodes.Status500InternalServerError,
    };

    /// <summary>Writes the one error object. Once an answer has begun, the connection is cut instead: half an answer must not look whole.</summary>
    public static async Task WriteAsync(HttpContext context, FabricError error, int? status = null)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(error);
        if (context.Response.HasStarted)
        {
            context.Abort();
            return;
        }

        context.Response.Clear();
        context.Response.StatusCode = status ?? StatusOf(error.Code);
        context.Response.ContentType = JsonBodies.ContentType;
        var body = new ErrorBody(error.Code, error.Message, error.Hint, context.TraceIdentifier);
        await JsonSerializer.SerializeAsync(context.Response.Body, body, AgentJson.Default.ErrorBody, context.RequestAborted);
    }
}
