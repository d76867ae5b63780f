// What reaches a guest's tap after its vCPUs stopped is read by nobody: the guest goes on elsewhere. A client that waits for an answer then waits for its own retransmission,
// 200 ms at least. So the source keeps such frames and sends them after the guest:
//
//   1. before the vCPUs stop, a packet socket begins to see what leaves by the tap. What comes in the moment before is delivered twice; a receiver of IP must bear that.
//   2. frames to the card's own address that carry IP are kept, bounded in number and bytes.
//   3. the destination announces the guest's address by broadcast. That broadcast reaches this tap too, and says that every switch on the way has learned: now the kept frames go
//      out of the bridge, from the bridge's own hardware address, since a switch that saw the client's come from here would send the answers here.
//   4. frames that come still later are sent on at once, until the machine is ended or the time is over.
//
// If the VM continues here instead, or its machine is let go of, the kept frames are dropped: the tap's own queue still has them.
using System.Globalization;
using Fabric.Core;
using Fabric.Native;
using Microsoft.Extensions.Logging;

namespace Fabric.Machines.Qemu;

/// <summary>One card's frames, kept by a thread that ends by itself: with the tap, with <see cref="Drop"/>, or when nobody waits for such frames any more.</summary>
internal sealed partial class LateFrames
{
    private const int FramesMost = 512;
    private const int BytesMost = 2 * 1024 * 1024;
    private const int PollMilliseconds = 50;
    private const int DestinationAt = FrameSocket.HeaderBytes;
    private const int SourceAt = FrameSocket.HeaderBytes + 6;
    private const int TypeAt = FrameSocket.HeaderBytes + 12;
    private const int LeastBytes = FrameSocket.HeaderBytes + 14;

    /// <summary>Clients have sent everything again by then.</summary>
    private static readonly TimeSpan Within = TimeSpan.FromSeconds(5);

    private readonly FrameSocket _tap;
    private readonly FrameSocket _bridge;
    private readonly byte[] _card;
    private readonly byte[] _own;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly string _vm;
    private volatile bool _dropped;

    private LateFrames(string tap, string bridge, byte[] card, string vm, TimeProvider time, ILogger log)
    {
        (_card, _vm, _time, _log) = (card, vm, time, log);
        _own = NetworkLink.AddressOf(bridge);
        _bridge = FrameSocket.Sending(bridge);
        try
        {
            _tap = FrameSocket.Watching(tap);
        }
        catch
        {
            _bridge.Dispose();
            throw;
        }
    }

    /// <summary>Begins for every card of a VM whose vCPUs are about to stop. A card for which it cannot be done goes without; that is said in the log.</summary>
    internal static IReadOnlyList<LateFrames> Begin(VmSpec spec, MachineFiles files, TimeProvider time, ILogger log)
    {
        var begun = new List<LateFrames>();
        for (int i = 0; i < spec.Nics.Count; i++)
        {
            try
            {
                byte[] card = NicAddress.Parse(spec.Nics[i].MacOf(spec.Name, i));
                var late = new LateFrames(files.Tap(i), spec.Nics[i].Bridge, card, spec.Name.Value, time, log);
                new Thread(late.Run) { IsBackground = true, Name = string.Create(CultureInfo.InvariantCulture, $"late frames {spec.Name} {i}") }.Start();
                begun.Add(late);
            }
            catch (FabricException error)
            {
                LogNotKept(log, spec.Name.Value, error.Error.Message);
            }
        }

        return begun;
    }

    /// <summary>The VM does not go elsewhere. Any thread.</summary>
    internal void Drop() => _dropped = true;

    private void Run()
    {
        try
        {
            if (Watch() is > 0 and var sent)
                LogSent(_log, _vm, sent);
        }
        catch (FabricException error)
        {
            LogNotKept(_log, _vm, error.Error.Message);
        }
        finally
        {
            _tap.Dispose();
            _bridge.Dispose();
        }
    }

    /// <summary>Returns how many frames were sent after the guest.</summary>
    private int Watch()
    {
        var kept = new Queue<byte[]>();
        int bytes = 0, sent = 0;
        byte[] buffer = new byte[FrameSocket.FrameBytesMost];
        bool elsewhere = false;
        for (long began = _time.GetTimestamp(); !_dropped && _time.GetElapsedTime(began) < Within;)
        {
            int got = _tap.Receive(buffer, PollMilliseconds, out bool leaves);
            if (got < 0)
            {
                // The machine was ended, which is done to one that was handed over.
                return sent + (_dropped ? 0 : SendAll(kept));
            }

            var frame = buffer.AsSpan(0, got);
            if (!leaves || got < LeastBytes)
                continue;
            if (frame.Slice(SourceAt, 6).SequenceEqual(_card))
            {
                elsewhere = true;
            }
            else if (IsForGuest(frame) && kept.Count < FramesMost && bytes + got <= BytesMost)
            {
                kept.Enqueue(frame.ToArray());
                bytes += got;
            }

            if (elsewhere)
                (sent, bytes) = (sent + SendAll(kept), 0);
        }

        return sent;
    }

    private int SendAll(Queue<byte[]> kept)
    {
        int sent = 0;
        while (kept.TryDequeue(out byte[]? frame))
        {
            _own.CopyTo(frame, SourceAt);
            if (_bridge.Send(frame))
                sent++;
        }

        return sent;
    }

    /// <summary>IPv4 or IPv6, to this card alone: everything else is asked again soon, or reaches the destination by itself.</summary>
    private bool IsForGuest(ReadOnlySpan<byte> frame) =>
        frame.Slice(DestinationAt, 6).SequenceEqual(_card) && ((frame[TypeAt] << 8) | frame[TypeAt + 1]) is 0x0800 or 0x86dd;

    [LoggerMessage(Level = LogLevel.Information, Message = "VM {Vm}: {Count} frames that came after its stop were sent after it")]
    private static partial void LogSent(ILogger log, string vm, int count);

    [LoggerMessage(Level = LogLevel.Warning, Message = "VM {Vm}: frames that come after its stop are lost, and clients will send them again: {Why}")]
    private static partial void LogNotKept(ILogger log, string vm, string why);
}
