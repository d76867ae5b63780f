// Creation and deletion: intent in the ledger, then the command, repeated under the same id until there is a definite answer.
using System.Globalization;
using Fabric.Actors;
using Fabric.Core;
using Fabric.Migration;
using Fabric.Supervisor.Migrations;

namespace Fabric.Supervisor.Vms;

internal sealed partial class VmLedger
{
    private async ValueTask CreateAsync(CreateAsked asked)
    {
        bool repeated = _state.Status is VmStatus.Creating && _state.Owner == asked.Host;
        if (!repeated)
        {
            if (_state.Status != VmStatus.Absent)
            {
                asked.Reply.Fail(new FabricError(
                    ErrorCodes.AlreadyExists, $"VM '{name}' exists already{(_state.Owner is { } at ? $" at '{at}'" : "")}.", $"fabric vm show {name}, or choose another name."));
                return;
            }

            if (BatchPlanner.Refusal(asked.Spec, MigrationRules.AsDestination(services, asked.Host)) is { } refusal)
            {
                asked.Reply.Fail(refusal);
                return;
            }

            await AppendAsync(new VmCreateIntended(services.Now, asked.Spec, asked.Host, _state.Highest.Next));
            _createFailures = 0;
        }

        _creating.Add(asked.Reply);
        if (!repeated)
            SendCreate(asked.Spec, asked.Host);
    }

    private void SendCreate(VmSpec spec, HostName host)
    {
        int birth = _state.Births;
        var command = new CreateVm(Header("create", birth), spec);
        Context.PipeToSelf(
            cancellation => services.SendAsync(tenure, host, command, cancellation),
            result => (VmMessage)new CreateAnswered(birth, result.Error, Unknown: false),
            error => new CreateAnswered(birth, error, Unknown: true));
    }

    private async ValueTask CreatedAsync(CreateAnswered answered)
    {
        if (_state.Status != VmStatus.Creating || answered.Birth != _state.Births)
            return;
        if (answered.Unknown)
        {
            // It may run. Asked again under the same id; the caller is told that the outcome is open.
            Fail(_creating, answered.Error!);
            Context.TellAfter(services.Ids.Jitter(services.Options.CommandRetry * (1 << Math.Min(_createFailures++, 6))), VmResume.Instance);
            return;
        }

        await AppendAsync(answered.Error is { } error ? new VmCreateFailed(services.Now, error) : new VmCreated(services.Now));
        if (answered.Error is { } cause)
            Fail(_creating, cause);
        else
            Succeed(_creating);
    }

    private async ValueTask DeleteAsync(DeleteAsked asked)
    {
        if (_state.Status == VmStatus.Deleting)
        {
            _deleting.Add(asked.Reply);
            return;
        }

        if (DeleteRefusal(asked.Force) is { } refusal)
        {
            asked.Reply.Fail(refusal);
            return;
        }

        await AppendAsync(new VmDeleteIntended(services.Now, asked.Force));
        _deleting.Add(asked.Reply);
        SendDelete();
    }

    private FabricError? DeleteRefusal(bool force)
    {
        if (_state.Status is VmStatus.Absent)
            return new FabricError(ErrorCodes.NotFound, $"There is no VM '{name}'.", "fabric vm list");
        if (_state.Status is VmStatus.Creating)
            return new FabricError(ErrorCodes.Conflict, $"VM '{name}' is being created.", "Wait until it runs.");
        if (_state.Active is { } active)
            return new FabricError(ErrorCodes.Conflict, $"VM '{name}' is being migrated ({active.Id}).", $"Wait, or fabric migration abort {active.Id}");
        return !force && _state.Owner is { } owner && !services.Board.Host(owner).Current
            ? new FabricError(ErrorCodes.Unreachable, $"Host '{owner}', where VM '{name}' runs, does not answer.", "Bring it back, or delete with --force and make sure that the host is off.")
            : null;
    }

    /// <summary>
    /// Every host that shows anything of the VM is told, its owner first, and both hosts of the migration that lost it: what they keep of it is in no facts
    /// while they are not heard.
    /// </summary>
    private void SendDelete()
    {
        bool force = _state.Force;
        var command = Leftovers.DeleteCommand(name, _state.Births, _state.Highest, _state.LostBy?.Id, tenure.Epoch, "delete");
        var hosts = new[] { _state.Owner, _state.LostBy?.Destination, _state.LostBy?.Source }.OfType<HostName>()
            .Concat(services.Hosts.All.Select(static h => h.Registration.Name).Where(host => services.Board.Host(host).Vm(name) is not null))
            .Distinct()
            .ToList();
        Context.PipeToSelf(
            async cancellation =>
            {
                var unconfirmed = new List<HostName>();
                foreach (var host in hosts)
                {
                    if (!await DeleteAtAsync(host, command, force, cancellation))
                        unconfirmed.Add(host);
                }

                return unconfirmed;
            },
            unconfirmed => (VmMessage)new DeleteAnswered(unconfirmed, null),
            error => new DeleteAnswered([], error));
    }

    /// <summary>
    /// False: by force, without a host that was silent for long enough. A host that this control node has not heard of since it started is waited for
    /// like one that just fell silent: agents register every second.
    /// </summary>
    private async Task<bool> DeleteAtAsync(HostName host, DeleteVm command, bool force, CancellationToken cancellation)
    {
        while (true)
        {
            if (force && services.Board.Host(host).UnreachableSince is { } since && services.Now - since >= services.Options.ForceAfter)
                return false;
            FabricError? error;
            try
            {
                error = (await services.SendAsync(tenure, host, command, cancellation)).Error;
            }
            catch (FabricException unheard) when (force && unheard.Error.Code is ErrorCodes.Unreachable or ErrorCodes.DeadlineExceeded)
            {
                await Task.Delay(services.Ids.Jitter(services.Options.CommandRetry), services.Time, cancellation);
                continue;
            }

            return error is null || error.Code == ErrorCodes.NotFound ? true : throw new FabricException(error);
        }
    }

    private async ValueTask DeletedAsync(DeleteAnswered answered)
    {
        if (_state.Status != VmStatus.Deleting)
            return;
        if (answered.Error is { } error)
        {
            Fail(_deleting, error);
            Context.TellAfter(services.Ids.Jitter(services.Options.CommandRetry * 16), VmResume.Instance);
            return;
        }

        await AppendAsync(new VmDeleted(services.Now, answered.Unconfirmed));
        Succeed(_deleting);
    }

    private CommandHeader Header(string step, int birth) => new(
        CommandIds.For(string.Create(CultureInfo.InvariantCulture, $"vm/{name}/{birth}"), step, 0), name, tenure.Epoch, _state.Epoch);

    private void Succeed(List<IReply<VmState>> waiting)
    {
        foreach (var reply in waiting)
            reply.Succeed(_state);
        waiting.Clear();
    }

    private static void Fail(List<IReply<VmState>> waiting, FabricError error)
    {
        foreach (var reply in waiting)
            reply.Fail(error);
        waiting.Clear();
    }
}
