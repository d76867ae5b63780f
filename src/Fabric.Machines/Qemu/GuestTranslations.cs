using Fabric.Core;
using Microsoft.Extensions.Logging;

namespace Fabric.Machines.Qemu;

/// <summary>
/// What QEMU has translated of a guest's code, without KVM. Code that was translated runs without a look at the guest's page, so a watch of touched pages does not see it, while the destination's QEMU has
/// translated nothing and reads every page of code anew. QEMU takes the log item <c>nochain</c> (by which nothing is logged) for another way of translating, and uses no translation that was made in another way:
/// for a while it translates all that it comes to once more, and so touches it. Afterwards the old translations serve again. The item outlives this agent: adoption ends it.
/// </summary>
internal sealed partial class GuestTranslations(QmpSession qmp, QemuOptions options, TimeProvider time, ILogger log) : IDisposable
{
    /// <summary>The guest is slower meanwhile. As long as a guest is watched before it moves (docs/decisions/0015-working-set.md), and some time for the orders in between.</summary>
    private static readonly TimeSpan Longest = TimeSpan.FromMilliseconds(250);

    private readonly CancellationTokenSource _disposed = new();

    /// <summary>
    /// As soon as QEMU has heard of it, some milliseconds from now, code is read again before it runs; for <see cref="Longest"/>, or until <see cref="EndAsync"/>. Where it does not hear, less is seen to be touched.
    /// </summary>
    public void LookAnew() => _ = LookForAWhileAsync();

    /// <summary>Nothing happens where code is not read again.</summary>
    /// <exception cref="FabricException">QEMU does not answer.</exception>
    public Task EndAsync(CancellationToken cancellation) => SetAsync("none", cancellation);

    public void Dispose()
    {
        _disposed.Cancel();
        _disposed.Dispose();
    }

    private async Task LookForAWhileAsync()
    {
        try
        {
            try
            {
                await SetAsync("nochain", _disposed.Token);
            }
            catch (FabricException e)
            {
                // It may have been heard all the same, so it is ended like any other.
                LogUnseen(e.Error.Message);
            }

            await Task.Delay(Longest, time, _disposed.Token);
            await EndAsync(_disposed.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
        {
            // The machine is given up; with it goes what it had.
        }
        catch (FabricException e)
        {
            LogSlow(e.Error.Message);
        }
    }

    private async Task SetAsync(string item, CancellationToken cancellation) =>
        await qmp.ExecuteAsync("human-monitor-command", writer => writer.WriteString("command-line", "log " + item), options.CommandDeadline, cancellation);

    [LoggerMessage(Level = LogLevel.Warning, Message = "QEMU was not told to translate anew, what the guest only executes may not be seen: {Why}")]
    private partial void LogUnseen(string why);

    [LoggerMessage(Level = LogLevel.Warning, Message = "QEMU was not told that its translations serve again, the guest is slower until this agent starts anew: {Why}")]
    private partial void LogSlow(string why);
}
