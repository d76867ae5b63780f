using System.CommandLine;
using System.CommandLine.Parsing;
using Fabric.Cli.Client;
using Fabric.Cli.Commands;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli;

/// <summary>Options that every command takes.</summary>
public sealed class GlobalOptions
{
    public Option<string?> Directory { get; } = new("--dir") { Description = "Directory of the local cluster (default: $FABRIC_DIR, or fabric/local in the user's state directory)", Recursive = true };

    public Option<string[]> Servers { get; } = new("--server", "--api")
    {
        Description = "URLs of control nodes, repeated or with commas; each is asked when those before it do not answer (default: $FABRIC_SERVER, or the local cluster's)",
        DefaultValueFactory = _ => [],
        Recursive = true,
    };

    public Option<string> Output { get; } = new("--output", "-o") { Description = "table, wide, json, yaml or name", DefaultValueFactory = _ => "table", Recursive = true };

    public Option<bool> NoColor { get; } = new("--no-color") { Description = "No colours (also: NO_COLOR set)", Recursive = true };
}

/// <summary>What a command's action is given: its values and the world.</summary>
public sealed class Invocation(CliContext context, GlobalOptions globals, ParseResult parsed)
{
    public CliContext Context { get; } = context;

    public ParseResult Parsed { get; } = parsed;

    public bool Color => !Parsed.GetValue(globals.NoColor) && string.IsNullOrEmpty(Context.Environment("NO_COLOR"));

    public OutputFormat Format => Enum.TryParse<OutputFormat>(Parsed.GetValue(globals.Output), ignoreCase: true, out var format) ? format : OutputFormat.Table;

    public string Directory => ClusterLocation.Directory(Parsed.GetValue(globals.Directory), Context.Environment);

    public Printer Printer => new(Context, Format, Color);

    public ControlClient Connect() =>
        new(ClusterLocation.Servers(Parsed.GetValue(globals.Servers), Parsed.GetValue(globals.Directory), Context.Environment), Context.Time, new Random(Context.Random.Next()), Context.Transport?.Invoke())
        {
            MovedOn = (from, why, to) => Context.Say($"{why} Going on with {to}."),
            Slow = url => Context.Say($"No answer from {url} for {ControlClient.SlowAfter.TotalSeconds:0} s; waiting on. A control node that cannot reach its database says so after some 15 s."),
        };
}

/// <summary>The whole command line: parses, runs, and turns every end into an exit code and a message.</summary>
public static class CommandLine
{
    public static async Task<int> RunAsync(IReadOnlyList<string> arguments, CliContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        var globals = new GlobalOptions();
        var parsed = Build(context, globals).Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0)
            return Misused(parsed, context);
        try
        {
            return await parsed.InvokeAsync(
                new InvocationConfiguration { Output = context.Out, Error = context.Talk, EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null },
                context.Interrupt);
        }
        catch (FabricException refused)
        {
            context.Say($"error: {refused.Error.Message}" + (refused.Error.Hint is { } hint ? $"\n  {hint}" : "") + $"\n  [{refused.Error.Code}]");
            return ExitCode.Of(refused.Error);
        }
        catch (OperationCanceledException) when (context.Interrupt.IsCancellationRequested)
        {
            context.Say("Interrupted.");
            return ExitCode.Interrupted;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            context.Say($"error: {failure.Message}");
            return ExitCode.Failed;
        }
    }

    internal static RootCommand Build(CliContext context, GlobalOptions globals)
    {
        var root = new RootCommand("Moves running virtual machines between hosts.");
        root.Add(globals.Directory);
        root.Add(globals.Servers);
        globals.Output.Validators.Add(RefuseUnknownFormat);
        root.Add(globals.Output);
        root.Add(globals.NoColor);
        var builder = new CommandBuilder(context, globals);
        foreach (var command in ClusterCommands.Make(builder))
            root.Add(command);
        root.Add(DoctorCommand.Make(builder));
        root.Add(DemoCommand.Make(builder));
        root.Add(HostCommands.Make(builder));
        foreach (var command in RecordCommands.Make(builder))
            root.Add(command);
        root.Add(VmCommands.Make(builder));
        root.Add(MigrateCommand.Make(builder));
        root.Add(MigrationCommands.Make(builder));
        foreach (var command in EvacuationCommands.Make(builder))
            root.Add(command);
        return root;
    }

    private static int Misused(ParseResult parsed, CliContext context)
    {
        foreach (var error in parsed.Errors)
            context.Say($"error: {error.Message}");
        var words = new Stack<string>();
        for (SymbolResult? result = parsed.CommandResult; result is CommandResult command; result = result.Parent)
            words.Push(command.Command is RootCommand ? "fabric" : command.Command.Name);
        context.Say($"  See '{string.Join(' ', words)} --help'.");
        return ExitCode.Usage;
    }

    private static void RefuseUnknownFormat(OptionResult result)
    {
        string? text = result.Tokens.Count > 0 ? result.Tokens[^1].Value : null;
        if (text is not (null or "table" or "wide" or "json" or "yaml" or "name"))
            result.AddError($"'{Label.Shorten(text)}' is no output format: use table, wide, json, yaml or name.");
    }
}

/// <summary>Makes commands whose actions get an <see cref="Invocation"/>.</summary>
public sealed class CommandBuilder(CliContext context, GlobalOptions globals)
{
    public CliContext Context { get; } = context;

    public Command Command(string name, string description, IEnumerable<Symbol> symbols, Func<Invocation, CancellationToken, Task<int>> action)
    {
        var command = Group(name, description, symbols);
        command.SetAction((parsed, cancellation) => action(new Invocation(Context, globals, parsed), cancellation));
        return command;
    }

    /// <summary>A command that only holds others.</summary>
    public static Command Group(string name, string description, IEnumerable<Symbol> symbols)
    {
        var command = new Command(name, description);
        foreach (var symbol in symbols)
        {
            switch (symbol)
            {
                case Argument argument:
                    command.Add(argument);
                    break;
                case Option option:
                    command.Add(option);
                    break;
                case Command child:
                    command.Add(child);
                    break;
            }
        }

        return command;
    }
}
