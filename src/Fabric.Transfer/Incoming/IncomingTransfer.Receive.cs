using Fabric.Core;
using Fabric.Migration;
using Fabric.Transfer.Channels;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Incoming;

public sealed partial class IncomingTransfer
{
    private const int UsualStateBytes = 128 * 1024;

    // Touched by the control thread until Finish, by the flow afterwards.
    private MemoryStream _state = RoomForState();
    private long _stateLength;

    private void ControlLoop()
    {
        DataChannel control = _control!;
        while (!_life.IsOver)
        {
            FrameHeader header = control.Receive(_settings.SilenceDeadline, out ReadOnlySpan<byte> body);
            FabricError? error;
            switch (header.Kind)
            {
                case FrameKind.Ping:
                    control.Send(FrameKind.Pong);
                    break;
                case FrameKind.Terms:
                    if (!TermsBody.TryDecode(body, out TermsBody terms, out error))
                        throw new FabricException(error);
                    _terms.Say(terms, control, header.Kind);
                    break;
                case FrameKind.Stopping:
                    _ahead?.Stop();
                    break;
                case FrameKind.MissingMap:
                    TakeMissingMap(header, body);
                    break;
                case FrameKind.DeviceState:
                    TakeState(header, body);
                    break;
                case FrameKind.Finish:
                    if (!FinishBody.TryDecode(body, out FinishBody finish, out error))
                        throw new FabricException(error);
                    _finish.Say(finish, control, header.Kind);
                    break;
                case FrameKind.Token:
                    if (header.Argument > long.MaxValue)
                        throw control.Malformed($"a token of epoch {header.Argument}");
                    _token.Say(new Epoch((long)header.Argument), control, header.Kind);
                    break;
                case FrameKind.Bye:
                    throw new FabricException(ErrorText.TryDecode(body, out FabricError? value, out error)
                        ? value with { Message = $"The source gives up: {value.Message}" }
                        : error);
                default:
                    throw control.Malformed($"a {header.Kind} frame, which a source does not send");
            }
        }
    }

    private void TakeMissingMap(FrameHeader header, ReadOnlySpan<byte> body)
    {
        if (_stale is null || _finish.Task.IsCompleted)
            throw _control!.Malformed("a map of missing pages out of turn");
        if (!MapPiece.TryMerge(body, header.Argument, _memory.PageCount, _pullState.Missing.Span, out FabricError? error))
            throw new FabricException(error);
        // The source may be saving the device state meanwhile, and the guest stands: what is found stale by then need not be waited for later.
        DiscardStale((int)header.Argument, body.Length / sizeof(ulong));
    }

    private void TakeState(FrameHeader header, ReadOnlySpan<byte> body)
    {
        if (_resume || _finish.Task.IsCompleted || header.Argument != (ulong)_stateLength || _stateLength + body.Length > Limits.DeviceStateBytes)
            throw _control!.Malformed($"{body.Length} bytes of device state at {header.Argument} where {_stateLength} were due (at most {Limits.DeviceStateBytes})");
        _state.Write(body);
        _stateLength += body.Length;
    }

    // Memory that was never used is a fault for each page, while the guest stands.
    private static MemoryStream RoomForState()
    {
        MemoryStream state = new(UsualStateBytes);
        state.SetLength(UsualStateBytes); // within its capacity: clears it, and so touches it
        state.SetLength(0);
        return state;
    }

    private void ReceiveLoop(DataChannel channel, PageReceiver receiver)
    {
        while (!_life.IsOver)
        {
            FrameHeader header = channel.Receive(TimeSpan.MaxValue, out ReadOnlySpan<byte> body);
            switch (header.Kind)
            {
                case FrameKind.Pages when ((PageFlags)header.Flags & PageFlags.Pull) != PageFlags.None:
                    receiver.TakePulled(header, body, _sink ?? throw channel.Malformed("a page of a pull before the pull"));
                    break;
                case FrameKind.Pages when _sink is null && channel.Kind == ChannelKind.Bulk:
                    receiver.TakePushed(header, body);
                    break;
                case FrameKind.Barrier when channel.Kind == ChannelKind.Bulk:
                    _barriers!.Arrive(header.Argument);
                    break;
                case FrameKind.Digests when channel.Kind == ChannelKind.Bulk && _agreed.Verify == VerifyLevel.Full:
                    CompareDigests(header, body);
                    break;
                default:
                    throw channel.Malformed($"a {header.Kind} frame");
            }
        }
    }

    private void CompareDigests(FrameHeader header, ReadOnlySpan<byte> body)
    {
        if (_sink is not { } sink)
        {
            _digests.CompareMemory(header, body, _books.Filled);
            return;
        }

        // A page that was wanted may still be on its way on the urgent connection.
        if (!sink.WaitAll(_settings.AnswerDeadline, _life.Ended))
            throw new FabricException(ErrorCodes.DeadlineExceeded, $"Digests came, but {_pullState.MissingCount - _pullState.ArrivedCount} pages did not.");
        _digests.CompareTaken(header, body, _pullState);
    }
}
