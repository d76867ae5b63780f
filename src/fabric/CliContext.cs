namespace Fabric.Cli;

/// <summary>
/// The world as a command sees it; tests give their own. <paramref name="Out"/> takes data, <paramref name="Talk"/> everything said to people.
/// <paramref name="Interrupt"/> is Ctrl-C (or SIGTERM).
/// </summary>
public sealed record CliContext(
    TextWriter Out, TextWriter Talk, bool OutIsTerminal, bool TalkIsTerminal, Func<string, string?> Environment, TimeProvider Time, Random Random, CancellationToken Interrupt)
{
    /// <summary>Columns of the terminal; a fixed width where there is none, so that piped output does not depend on a window.</summary>
    public int Width { get; init; } = 160;

    /// <summary>Makes the transport of an API client; null for sockets.</summary>
    public Func<HttpMessageHandler>? Transport { get; init; }

    public void Say(string text) => Talk.WriteLine(text);
}
