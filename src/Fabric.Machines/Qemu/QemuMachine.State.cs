using System.Net.Sockets;
using System.Text.Json;
using Fabric.Core;

namespace Fabric.Machines.Qemu;

// The device state: saved right behind the stop at the source, loaded at the destination.
internal sealed partial class QemuMachine
{
    /// <summary>"xen-" in name only: it writes the state of all devices and CPUs, without RAM.</summary>
    private const string Save = "xen-save-devices-state";

    private static readonly TimeSpan LoadPollPeriod = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// QEMU reads the second command while it carries out the first, and begins with it at once. Both go over one connection, on which QEMU keeps their order: a state that was saved before the guest stood would be
    /// older than its memory.
    /// </summary>
    public async ValueTask<Task<byte[]>> StopAndSaveAsync(bool releaseDisks, CancellationToken cancellation)
    {
        WatchLateFrames();
        var client = await _qmp.ClientAsync(cancellation);
        var stopped = OutcomeAsync("stop", client.ExecuteAsync("stop", null, _options.StateDeadline, cancellation), cancellation);
        var saved = TakeStateAsync(client.ExecuteAsync(Save, SaveArguments(releaseDisks), _options.StateDeadline, cancellation), cancellation);
        try
        {
            await stopped;
            return saved;
        }
        catch
        {
            await ((Task)saved).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw;
        }
    }

    public async ValueTask<byte[]> SaveDeviceStateAsync(bool releaseDisks, CancellationToken cancellation) =>
        await TakeStateAsync(_qmp.ExecuteAsync(Save, SaveArguments(releaseDisks), _options.StateDeadline, cancellation), cancellation);

    private static Action<Utf8JsonWriter> SaveArguments(bool releaseDisks) => writer =>
    {
        writer.WriteString("filename", MachineFiles.ShortDeviceState);
        // "live", which is the default, with a stopped VM releases the disk images.
        if (!releaseDisks)
            writer.WriteBoolean("live", false);
    };

    private async Task<byte[]> TakeStateAsync(ValueTask<JsonElement> saved, CancellationToken cancellation)
    {
        try
        {
            await OutcomeAsync(Save, saved, cancellation);
            long length = new FileInfo(_files.DeviceState).Length;
            if (length is 0 or > Limits.DeviceStateBytes)
                throw new FabricException(ErrorCodes.MachineFailed, $"The device state of VM '{Spec.Name}' has {length} bytes; 1 to {Limits.DeviceStateBytes} are possible.");

            // In tmpfs: a copy of tens of KiB, cheaper than any way to wait for it.
            return File.ReadAllBytes(_files.DeviceState);
        }
        finally
        {
            File.Delete(_files.DeviceState);
        }
    }

    public async ValueTask LoadDeviceStateAsync(ReadOnlyMemory<byte> state, CancellationToken cancellation)
    {
        if (!_awaitingState)
            throw new FabricException(ErrorCodes.Conflict, $"VM '{Spec.Name}' does not wait for a device state.", "Only a machine born as incoming loads one, and only once.");
        long began = _time.GetTimestamp();
        using var limit = new CancellationTokenSource(_options.StateDeadline, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellation);
        var outcome = _events.Arm();
        try
        {
            await SendStateAsync(state, either.Token);
            await WaitLoadedAsync(outcome, either.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new FabricException(
                ErrorCodes.DeadlineExceeded, $"VM '{Spec.Name}' did not load its device state within {_options.StateDeadline.TotalSeconds:0} s.", "Loading touches guest memory: missing pages must be served meanwhile.");
        }

        _awaitingState = false;
        LogLoaded(Spec.Name.Value, state.Length, _time.GetElapsedTime(began).TotalMilliseconds);
    }

    private async Task SendStateAsync(ReadOnlyMemory<byte> state, CancellationToken cancellation)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(_files.Incoming), cancellation);
            for (int done = 0; done < state.Length;)
                done += await socket.SendAsync(state[done..], SocketFlags.None, cancellation);
            socket.Shutdown(SocketShutdown.Send);
        }
        catch (SocketException error)
        {
            string why = _process.HasExited ? await Exited.WaitAsync(_options.CommandDeadline, _time, cancellation) : error.Message;
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{Spec.Name}' does not take its device state: {why}", cause: error);
        }
    }

    /// <summary>QEMU's event says it without delay; the slow question covers an event lost with a broken connection.</summary>
    private async Task WaitLoadedAsync(Task<bool> outcome, CancellationToken cancellation)
    {
        while (true)
        {
            await Task.WhenAny(outcome, _death, Task.Delay(LoadPollPeriod, _time, cancellation));
            cancellation.ThrowIfCancellationRequested();
            if (outcome.IsCompletedSuccessfully && await outcome)
                return;
            var status = outcome.IsCompleted || _death.IsCompleted ? MachineStatus.Exited : await QueryStatusAsync(cancellation);
            if (status == MachineStatus.Paused)
                return;
            if (status == MachineStatus.AwaitingState)
                continue;
            // A load that fails ends the process.
            string how = await Exited.WaitAsync(_options.CommandDeadline, _time, cancellation);
            throw new FabricException(ErrorCodes.MachineFailed, $"VM '{Spec.Name}' could not load its device state: {how}", "Both hosts need the same QEMU, machine type and CPU model.");
        }
    }
}
