using Fabric.Cli;

namespace Fabric.Unit.Cli;

/// <summary>Runs one command line in this process: no terminal, its own environment, an optional API behind it.</summary>
internal sealed class CliRun
{
    private readonly StringWriter _out = new();
    private readonly StringWriter _talk = new();

    private CliRun()
    {
    }

    public int Code { get; private set; }

    public string Out => _out.ToString();

    public string Talk => _talk.ToString();

    public static Task<CliRun> Async(Uri? api, params string[] arguments) => Async(api, CancellationToken.None, arguments);

    public static async Task<CliRun> Async(Uri? api, CancellationToken interrupt, params string[] arguments)
    {
        var run = new CliRun();
        var environment = new Dictionary<string, string?>(StringComparer.Ordinal) { ["FABRIC_API"] = api?.ToString(), ["FABRIC_DIR"] = "/nonexistent/fabric", ["HOME"] = "/nonexistent" };
        var context = new CliContext(run._out, run._talk, OutIsTerminal: false, TalkIsTerminal: false, environment.GetValueOrDefault, TimeProvider.System, new Random(1), interrupt);
        run.Code = await CommandLine.RunAsync(arguments, context);
        return run;
    }
}
