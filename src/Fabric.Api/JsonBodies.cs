using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Fabric.Core;
using Microsoft.AspNetCore.Http;

namespace Fabric.Api;

/// <summary>Reads and writes bodies. What is read is hostile: typed JSON only, bounded by the server's body limit, errors name the place.</summary>
internal static class JsonBodies
{
    public const string ContentType = "application/json";

    /// <param name="context">The request; its body is read to the end.</param>
    /// <param name="type">The source-generated description of what is expected.</param>
    /// <param name="shape">A short example of the expected body, shown as the hint of a refusal.</param>
    /// <exception cref="FabricException">invalid-argument: wrong content type; malformed: not the expected JSON.</exception>
    public static async Task<T> ReadAsync<T>(HttpContext context, JsonTypeInfo<T> type, string shape)
        where T : class
    {
        // A web page can send forms and plain text anywhere, but JSON only where CORS allows it: this keeps other sites out of a loopback API.
        if (!context.Request.HasJsonContentType())
            throw new FabricException(ErrorCodes.InvalidArgument, $"Content type '{Label.Shorten(context.Request.ContentType)}' is not accepted.", "Send JSON with 'Content-Type: application/json'.");
        try
        {
            return await JsonSerializer.DeserializeAsync(context.Request.Body, type, context.RequestAborted)
                ?? throw new FabricException(ErrorCodes.Malformed, "The body is null.", $"Expected: {shape}");
        }
        catch (JsonException wrong)
        {
            throw Malformed(wrong, shape);
        }
        catch (NotSupportedException wrong)
        {
            // A missing or unknown "kind" of a polymorphic command.
            throw new FabricException(ErrorCodes.Malformed, "The body is of no known kind.", $"Expected: {shape}", wrong);
        }
    }

    /// <summary>
    /// Written in one go: the serializer's stream form takes another, slower way for the first ten bodies of a type and then this one, which the runtime compiles at that moment, for some 70 ms with a host's facts, and
    /// that may be while a guest is handed over.
    /// </summary>
    public static async Task WriteAsync<T>(HttpContext context, T value, JsonTypeInfo<T> type, int status = StatusCodes.Status200OK)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = ContentType;
        using (var writer = new Utf8JsonWriter(context.Response.BodyWriter))
            JsonSerializer.Serialize(writer, value, type);
        await context.Response.BodyWriter.FlushAsync(context.RequestAborted);
    }

    // The serializer's own messages name types and members of this program: they stay out of the answer.
    private static FabricException Malformed(JsonException wrong, string shape)
    {
        string where = wrong.Path is { Length: > 0 } path ? $" at '{Label.Shorten(path)}'" : "";
        string line = wrong.LineNumber is { } number ? $" (line {number + 1}, byte {wrong.BytePositionInLine + 1})" : "";
        return new FabricException(ErrorCodes.Malformed, $"The body is not JSON of the expected form{where}{line}: a field is unknown, missing or of the wrong kind.", $"Expected: {shape}", wrong);
    }
}
