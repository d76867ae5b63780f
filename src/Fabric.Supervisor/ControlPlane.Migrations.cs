using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Vms;
using Fabric.Wire.Api;

namespace Fabric.Supervisor;

public sealed partial class ControlPlane
{
    public async Task<MigrationReport> MigrateAsync(MigrateRequest request, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Options.Validate() is { } invalid)
            throw new FabricException(invalid);
        if (request.Batch is { Length: > 64 })
            throw new FabricException(ErrorCodes.InvalidArgument, "The batch's id is too long.", "Leave it out: only evacuations give one.");
        if (request.Limits is { } limits && (limits.PerSource < 1 || limits.PerDestination < 1 || limits.PerLink < 1))
            throw new FabricException(ErrorCodes.InvalidArgument, $"With the limits {limits} nothing may ever move.", "Leave them out: only evacuations give some.");
        if (request.RequestId is { } id && _services.Board.MigrationOfRequest(id) is { } already)
            return Report(already);
        RequireVmHere(request.Vm);
        await RequireHostAsync(request.Destination, cancellation);
        return Report(await _region.AskVmAsync<KnownState>(
            request.Vm, reply => new MigrateAsked(request.Destination, request.Options, request.RequestId, request.Batch is { } batch ? new BatchMembership(batch, request.Limits) : null, reply), cancellation));
    }

    public Task<IReadOnlyList<MigrationReport>> ListMigrationsAsync(CancellationToken cancellation) => Task.FromResult<IReadOnlyList<MigrationReport>>(
        [.. _services.Board.Migrations.OrderBy(static m => m.Plan.PlannedAt).ThenBy(static m => m.Plan.Id.ToString(), StringComparer.Ordinal).Select(Report)]);

    public Task<MigrationReport> GetMigrationAsync(string idOrPrefix, CancellationToken cancellation) => Task.FromResult(Report(FindMigration(idOrPrefix)));

    public async Task<MigrationReport> AbortMigrationAsync(string idOrPrefix, string? reason, CancellationToken cancellation)
    {
        if (reason is { Length: > Limits.ReasonCharacters })
            throw new FabricException(ErrorCodes.InvalidArgument, "The reason is too long.", $"Use at most {Limits.ReasonCharacters} characters.");
        var found = FindMigration(idOrPrefix);
        if (Brain.AbortRefusal(found) is { } refusal)
            throw new FabricException(refusal);
        return Report(await _region.AskVmAsync<KnownState>(
            found.Plan.Vm, reply => new AbortAsked(found.Plan.Id, reason ?? "An operator asked to abort.", reply), cancellation));
    }

    public async Task<RepairReport> RepairAsync(VmName vm, string? reason, CancellationToken cancellation)
    {
        if (reason is { Length: > Limits.ReasonCharacters })
            throw new FabricException(ErrorCodes.InvalidArgument, "The reason is too long.", $"Use at most {Limits.ReasonCharacters} characters.");

        // A host that has not registered yet would not be asked, and might be the second one that has the VM.
        if (!_services.Board.HostsAreKnown)
            throw new FabricException(ErrorCodes.Unreachable, "This control node started a moment ago; not every host has registered with it.", "Try again in a few seconds.");
        return await _region.AskVmAsync<RepairReport>(vm, reply => new RepairAsked(reason ?? "An operator asked for a repair.", reply), cancellation);
    }

    public async Task<EvacuationReport> EvacuateAsync(EvacuateRequest request, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Options.Validate() is { } invalid)
            throw new FabricException(invalid);
        if (request.Parallel is < 1 or > 1000)
            throw new FabricException(ErrorCodes.InvalidArgument, $"The evacuation asks for {request.Parallel} migrations at once.", "Use 1 to 1000.");
        await RequireHostAsync(request.Host, cancellation);
        // A VM that another node has just made belongs to the host as well.
        await _reader.RefreshAsync(cancellation);
        if (request.RequestId is { } id && _services.Board.Batches.FirstOrDefault(b => b.Plan.RequestId == id) is { } already)
            return Reports.Of(already);
        if (!request.DryRun && _services.Board.Batches.FirstOrDefault(b => b.EndedAt is null && b.Plan.Host == request.Host) is { } running)
        {
            throw new FabricException(
                ErrorCodes.Conflict, $"Host '{request.Host}' is being evacuated ({running.Plan.Id}).", "Wait for it to end.");
        }

        var plan = _planner.Plan(request);
        if (request.DryRun)
            return Reports.DryRun(plan);
        try
        {
            return Reports.Of(await _region.StartBatchAsync(plan, cancellation));
        }
        finally
        {
            _planner.Done(plan);
        }
    }

    public Task<EvacuationReport> GetEvacuationAsync(string id, CancellationToken cancellation)
    {
        var found = _services.Board.Batches.Where(b => b.Plan.Id.StartsWith(id, StringComparison.Ordinal)).Take(2).ToList();
        return found.Count switch
        {
            1 => Task.FromResult(Reports.Of(found[0])),
            0 => throw Missing(null, $"There is no evacuation '{Label.Shorten(id)}'.", "List them first."),
            _ => throw new FabricException(ErrorCodes.Ambiguous, $"'{Label.Shorten(id)}' begins several evacuation ids.", "Give more characters."),
        };
    }

    public Task<IReadOnlyList<EvacuationReport>> ListEvacuationsAsync(CancellationToken cancellation) => Task.FromResult<IReadOnlyList<EvacuationReport>>(
        [.. _services.Board.Batches.OrderBy(static b => b.Plan.PlannedAt).Select(Reports.Of)]);

    private MigrationReport Report(KnownState state) => Reports.Of(state, _services.Board, _services.Now);

    private KnownState FindMigration(string? idOrPrefix)
    {
        string prefix = idOrPrefix ?? "";
        if (MigrationId.TryParse(prefix, out var exact))
            return _services.Board.Migration(exact) ?? throw NotFound();
        if (prefix.Length is 0 or > 32 || !prefix.All(char.IsAsciiHexDigit))
            throw new FabricException(ErrorCodes.InvalidArgument, $"'{Label.Shorten(idOrPrefix)}' is no migration id and no beginning of one.", "fabric migration list");
        var found = _services.Board.Migrations.Where(m => m.Plan.Id.ToString().StartsWith(prefix, StringComparison.OrdinalIgnoreCase)).Take(2).ToList();
        return found.Count switch
        {
            1 => found[0],
            0 => throw NotFound(),
            _ => throw new FabricException(ErrorCodes.Ambiguous, $"'{prefix}' begins the ids of several migrations.", "Give more characters."),
        };

        FabricException NotFound() => Missing(null, $"There is no migration '{Label.Shorten(idOrPrefix)}'.", "fabric migration list");
    }
}
