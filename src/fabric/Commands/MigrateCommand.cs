using System.CommandLine;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Wire.Api;

namespace Fabric.Cli.Commands;

/// <summary>Options that a single move and an evacuation share.</summary>
internal sealed class MoveOptions
{
    public Option<string> Mode { get; } = new("--mode") { Description = "pre-copy, post-copy, hybrid or auto", DefaultValueFactory = _ => "auto" };

    public Option<int> MaxDowntime { get; } = new("--max-downtime") { Description = "Longest pause to plan for, in milliseconds", DefaultValueFactory = _ => 300 };

    public Option<string?> Bandwidth { get; } = new("--bandwidth") { Description = "Cap in bytes a second, for example 100M" };

    public Option<string> Verify { get; } = new("--verify") { Description = "none, frames, or full (compares all of memory; costs downtime)", DefaultValueFactory = _ => "frames" };

    public Option<int> Connections { get; } = new("--connections") { Description = "Bulk connections", DefaultValueFactory = _ => 2 };

    public Option<string> Order { get; } = new("--order")
    {
        Description = "Post-copy and hybrid: in which order pages are pushed: push-only, forward, dual, forward-multi or dual-multi, each also with -lru",
        DefaultValueFactory = _ => Words.Name(MigrationOptions.Default.Order),
    };

    public Option<int> Pivots { get; } = new("--pivots")
    {
        Description = $"Orders with -multi: faults whose neighbourhoods are pushed at a time, 1 to {Limits.Pivots}",
        DefaultValueFactory = _ => MigrationOptions.Default.Pivots,
    };

    public Option<string> Balloon { get; } = new("--balloon")
    {
        Description = "off, or auto: take what is free in the guest into its balloon while it is moved, so that it is not sent",
        DefaultValueFactory = _ => Words.Name(MigrationOptions.Default.Balloon),
    };

    public Option<string> Compress { get; } = new("--compress")
    {
        Description = "auto (pack pages where the wire is slower than packing) or off",
        DefaultValueFactory = _ => Words.Name(MigrationOptions.Default.Compress),
    };

    public Option<string?> Reason { get; } = new("--reason") { Description = "Kept with the record" };

    public Option<bool> Wait { get; } = new("--wait") { Description = "Show progress and return at the end" };

    public Option<int?> Timeout { get; } = new("--timeout") { Description = "With --wait: give up waiting after so many seconds (exit 5; the work goes on)" };

    public IEnumerable<Symbol> All => [Mode, MaxDowntime, Bandwidth, Verify, Connections, Order, Pivots, Balloon, Compress, Reason, Wait, Timeout];

    public MigrationOptions Read(ParseResult parsed)
    {
        var options = new MigrationOptions
        {
            Mode = Words.Parse<MigrationMode>(parsed.GetValue(Mode) ?? "auto", "--mode"),
            MaxDowntimeMs = parsed.GetValue(MaxDowntime),
            BandwidthBytesPerSecond = parsed.GetValue(Bandwidth) is { } text ? ByteSize.Parse(text, "--bandwidth") : null,
            Verify = Words.Parse<VerifyLevel>(parsed.GetValue(Verify) ?? "frames", "--verify"),
            BulkConnections = parsed.GetValue(Connections),
            Reason = parsed.GetValue(Reason),
            Order = Words.Parse<PageOrder>(parsed.GetValue(Order) ?? Words.Name(MigrationOptions.Default.Order), "--order"),
            Pivots = parsed.GetValue(Pivots),
            Balloon = Words.Parse<BalloonUse>(parsed.GetValue(Balloon) ?? Words.Name(MigrationOptions.Default.Balloon), "--balloon"),
            Compress = Words.Parse<Compression>(parsed.GetValue(Compress) ?? Words.Name(MigrationOptions.Default.Compress), "--compress"),
        };
        return options.Validate() is { } error ? throw new FabricException(error) : options;
    }

    public TimeSpan? Limit(ParseResult parsed) => parsed.GetValue(Timeout) switch
    {
        null => null,
        > 0 and <= 7 * 24 * 3600 and int seconds => TimeSpan.FromSeconds(seconds),
        int other => throw new FabricException(ErrorCodes.InvalidArgument, $"--timeout {other} is not accepted.", "Use 1 to 604800 seconds."),
    };
}

internal static class MigrateCommand
{
    public static Command Make(CommandBuilder builder)
    {
        var vm = new Argument<string>("vm") { Description = "Name of the VM" };
        var to = new Option<string>("--to") { Description = "Destination host", Required = true };
        var options = new MoveOptions();
        return builder.Command("migrate", "Move a running VM to another host", [vm, to, .. options.All], async (run, cancellation) =>
        {
            var limit = options.Limit(run.Parsed);
            var request = new MigrateRequest(
                VmName.Parse(run.Parsed.GetValue(vm)), HostName.Parse(run.Parsed.GetValue(to)), options.Read(run.Parsed), NewRequestId(run.Context.Random));
            using var client = run.Connect();
            var migration = await client.MigrateAsync(request, cancellation);
            if (run.Parsed.GetValue(options.Wait))
                return await new MigrationWatch(run, client).RunAsync(migration, limit, cancellation);
            if (run.Format is OutputFormat.Table or OutputFormat.Wide)
            {
                run.Context.Out.WriteLine(migration.Id);
                run.Context.Say($"VM {migration.Vm} is being moved from {migration.Source} to {migration.Destination}: fabric migration watch {Words.ShortId(migration.Id)}");
            }
            else
            {
                run.Printer.One(migration, Views.Migration, m => m.Id.ToString(), api => api.MigrationReport);
            }

            return ExitCode.Done;
        });
    }

    /// <summary>Makes a request that is sent twice count once.</summary>
    public static Guid NewRequestId(Random random) => RandomIds.Next(random);
}
