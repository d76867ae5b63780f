using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Fabric.Api;

/// <summary>One thing that must hold before a node takes work; <paramref name="Problem"/> is null while it does.</summary>
public sealed record HealthCheck(string Name, Func<string?> Problem);

/// <summary>
/// <c>/livez</c>: the process answers. <c>/readyz</c>: it may be given work (200 or 503). <c>/healthz</c>: both in words, one line a check with
/// <c>?verbose</c>.
/// </summary>
public static class HealthEndpoints
{
    public static void MapHealth(this IEndpointRouteBuilder routes, IReadOnlyList<HealthCheck> checks)
    {
        ArgumentNullException.ThrowIfNull(routes);
        ArgumentNullException.ThrowIfNull(checks);
        routes.MapGet("/livez", context => WriteTextAsync(context, "ok\n", StatusCodes.Status200OK));
        routes.MapGet("/readyz", context => AnswerAsync(context, checks, verbose: false));
        routes.MapGet("/healthz", context => AnswerAsync(context, checks, context.Request.Query.ContainsKey("verbose")));
    }

    private static Task AnswerAsync(HttpContext context, IReadOnlyList<HealthCheck> checks, bool verbose)
    {
        var found = checks.Select(c => (c.Name, Problem: c.Problem())).ToList();
        bool ready = found.TrueForAll(f => f.Problem is null);
        var shown = found.Where(f => verbose || f.Problem is not null).Select(f => f.Problem is null ? $"{f.Name}: ok" : $"{f.Name}: {f.Problem}");
        string text = string.Join('\n', shown.Append(ready ? "ok" : "not ready")) + "\n";
        return WriteTextAsync(context, text, ready ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable);
    }

    private static Task WriteTextAsync(HttpContext context, string text, int status)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "text/plain; charset=utf-8";
        return context.Response.WriteAsync(text, context.RequestAborted);
    }
}
