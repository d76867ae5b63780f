using Fabric.Core;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Fabric.Api;

/// <summary>
/// Stands before every endpoint: refuses what a web page could send, gives each request a deadline, and turns whatever goes wrong
/// behind it into the one error object. Nothing that arrives here may end the process or show a stack trace.
/// </summary>
internal sealed class RequestGate(RequestDelegate next, TrustedNetwork trusted, TimeProvider time, IHostApplicationLifetime life, ILogger<RequestGate> log)
{
    /// <summary>Longer than the longest long poll (20 s) and than starting a machine; a client that waits longer asks again.</summary>
    public static readonly TimeSpan Deadline = TimeSpan.FromMinutes(2);

    public async Task InvokeAsync(HttpContext context)
    {
        using var deadline = new CancellationTokenSource(Deadline, time);
        var connection = context.RequestAborted;
        using var either = CancellationTokenSource.CreateLinkedTokenSource(connection, deadline.Token, life.ApplicationStopping);
        context.RequestAborted = either.Token;
        try
        {
            RefuseWebPages(context.Request);
            await next(context);
            await NameEmptyErrorAsync(context);
        }
        catch (FabricException refused)
        {
            LogRefusal(context, refused.Error);
            context.RequestAborted = connection;
            await AnswerAsync(context, refused.Error, null);
        }
        catch (BadHttpRequestException bad)
        {
            context.RequestAborted = connection;
            await AnswerAsync(context, OfBadRequest(bad), bad.StatusCode);
        }
        catch (Exception gone) when (connection.IsCancellationRequested && gone is OperationCanceledException or IOException or ConnectionAbortedException)
        {
            // The client went away; there is nobody to answer.
            context.Abort();
        }
        catch (OperationCanceledException) when (life.ApplicationStopping.IsCancellationRequested)
        {
            context.RequestAborted = connection;
            string code = HttpMethods.IsGet(context.Request.Method) ? ErrorCodes.NotHeld : ErrorCodes.Unreachable; // what only asks has certainly done nothing
            await AnswerAsync(context, new FabricError(code, "This node is stopping.", "Ask again, or ask another node."), null);
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested)
        {
            context.RequestAborted = connection;
            await AnswerAsync(context, new FabricError(ErrorCodes.DeadlineExceeded, $"The request took longer than {Deadline.TotalSeconds:0} s; whether it had an effect is unknown.", "Ask for the object's state before trying again."), null);
        }
        catch (Exception unexpected)
        {
            log.LogError(unexpected, "Request {Id} {Method} {Path} failed", context.TraceIdentifier, context.Request.Method, Label.Shorten(context.Request.Path));
            context.RequestAborted = connection;
            await AnswerAsync(context, new FabricError(ErrorCodes.Internal, "The request failed inside the service.", "The service's log has the details under this id."), null);
        }
    }

    /// <summary>
    /// Without certificates and tokens the ports are for processes of this machine or its trusted network, not for pages in a browser there: a foreign
    /// Host name means DNS rebinding, an Origin means a script of some site.
    /// </summary>
    private void RefuseWebPages(HttpRequest request)
    {
        string host = request.Host.Host;
        if (!trusted.Holds(host))
            throw new FabricException(ErrorCodes.RefusedBySafety, $"Host '{Label.Shorten(host)}' is not {trusted}.", "Use the URL that the cluster printed, for example http://127.0.0.1:PORT.");
        if (request.Headers.Origin.Count > 0)
            throw new FabricException(ErrorCodes.RefusedBySafety, "Requests from web pages (with an Origin header) are refused.", "Use the fabric command or curl.");
    }

    private static Task NameEmptyErrorAsync(HttpContext context)
    {
        if (context.Response.HasStarted)
            return Task.CompletedTask;
        string path = Label.Shorten(context.Request.Path);
        return context.Response.StatusCode switch
        {
            StatusCodes.Status404NotFound => AnswerAsync(context, new FabricError(ErrorCodes.NotFound, $"There is no '{path}' here.", "docs/OPERATIONS.md lists the paths."), null),
            StatusCodes.Status405MethodNotAllowed => AnswerAsync(
                context, new FabricError(ErrorCodes.InvalidArgument, $"'{path}' does not take {Label.Shorten(context.Request.Method)}."), StatusCodes.Status405MethodNotAllowed),
            _ => Task.CompletedTask,
        };
    }

    private static FabricError OfBadRequest(BadHttpRequestException bad) => bad.StatusCode switch
    {
        StatusCodes.Status413PayloadTooLarge => new FabricError(ErrorCodes.Malformed, $"The body is larger than {Limits.ControlMessageBytes} bytes."),
        StatusCodes.Status408RequestTimeout => new FabricError(ErrorCodes.DeadlineExceeded, "The body came too slowly."),
        _ => new FabricError(ErrorCodes.Malformed, "The request is not valid HTTP."),
    };

    private void LogRefusal(HttpContext context, FabricError error)
    {
        var level = ErrorAnswers.StatusOf(error.Code) >= 500 ? LogLevel.Warning : LogLevel.Debug;
        log.Log(level, "Request {Id} {Method} {Path} refused: {Error}", context.TraceIdentifier, context.Request.Method, Label.Shorten(context.Request.Path), error);
    }

    private static async Task AnswerAsync(HttpContext context, FabricError error, int? status)
    {
        try
        {
            await ErrorAnswers.WriteAsync(context, error, status);
        }
        catch (Exception gone) when (gone is OperationCanceledException or IOException)
        {
            context.Abort();
        }
    }
}
