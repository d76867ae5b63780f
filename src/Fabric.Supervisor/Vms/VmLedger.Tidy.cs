// A host shows something of this VM that the journal says is over: it is told, under this shard's lease, until it shows it no more.
using Fabric.Core;
using Microsoft.Extensions.Logging;

namespace Fabric.Supervisor.Vms;

internal sealed partial class VmLedger
{
    private readonly Dictionary<HostName, int> _tidyAttempts = [];
    private readonly HashSet<HostName> _tidying = [];

    /// <summary>Asked again by the host's next facts, so nothing here waits or repeats by itself.</summary>
    private void Tidy(HostName host)
    {
        var level = services.Board.Host(host);
        if (!tenure.Held || !level.Current || _tidying.Contains(host) || level.Vm(name) is not { } fact || Leftovers.At(services.Board, host, fact) is not { } order)
            return;
        int attempt = _tidyAttempts.GetValueOrDefault(host);
        var command = order(tenure.Epoch, attempt);
        _tidying.Add(host);
        LogTidy(services.Loggers.CreateLogger<VmLedger>(), name, host, command.GetType().Name);
        Context.PipeToSelf(
            cancellation => services.SendAsync(tenure, host, command, cancellation),
            result => (VmMessage)new Tidied(host, result.Error, Answered: true),
            error => new Tidied(host, error, Answered: false));
    }

    private void OnTidied(Tidied tidied)
    {
        _tidying.Remove(tidied.Host);
        if (tidied.Answered && tidied.Error is not null)
            _tidyAttempts[tidied.Host] = _tidyAttempts.GetValueOrDefault(tidied.Host) + 1; // a new id: the answer may change
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm}: host {Host} still shows something that is over; it is told {Command}.")]
    private static partial void LogTidy(ILogger logger, VmName vm, HostName host, string command);
}
