using System.Text;
using Fabric.Core;
using Fabric.Migration;
using Xunit;

namespace Fabric.Unit.Migration;

public sealed class EventCodecTests
{
    [Fact]
    public void Every_event_comes_back_equal()
    {
        foreach (var happened in Samples.Events)
        {
            var stored = EventCodec.Catalog.Encode(happened);
            var decoded = EventCodec.Catalog.Decode(stored.Kind, stored.Version, stored.Payload);
            Assert.Null(decoded.Error);

            // A spec holds a list, which records compare by reference: the second encoding is the comparison.
            Assert.Equal(Encoding.UTF8.GetString(stored.Payload), Encoding.UTF8.GetString(EventCodec.Catalog.Encode(decoded.Event!).Payload));
        }

        Assert.Equal(EventCodec.Catalog.Kinds.Order(), Samples.Events.Select(EventCodec.KindOf).Order());
    }

    [Fact]
    public void Kinds_are_a_contract()
    {
        // A journal outlives the program that wrote it: a kind is added at the end, never renamed.
        Assert.Equal(
            "migration-planned destination-prepared push-started hand-over-intended hand-over-found hand-over-withdrawn token-outcome-unknown handed-over take-back-intended "
            + "pull-completed source-released abort-requested step-failed undo-done migration-undone fencing-needed destination-returned destination-fenced "
            + "recovery-completed vm-lost",
            string.Join(' ', EventCodec.Catalog.Kinds));
    }

    [Theory]
    [InlineData("no-such-kind", 1, "{}", ErrorCodes.Unsupported, "no-such-kind")]
    [InlineData("handed-over", 2, "{}", ErrorCodes.Unsupported, "handed-over")]
    [InlineData("handed-over", 1, "{\"at\":\"2026-01-01T00:00:00+00:00\",\"epo", ErrorCodes.Corrupt, "handed-over")]
    [InlineData("handed-over", 1, "{}", ErrorCodes.Corrupt, "handed-over")]
    [InlineData("handed-over", 1, "null", ErrorCodes.Corrupt, "handed-over")]
    [InlineData("handed-over", 1, "", ErrorCodes.Corrupt, "handed-over")]
    public void What_cannot_be_read_is_an_error_value_that_names_the_kind(string kind, int version, string payload, string code, string named)
    {
        var decoded = EventCodec.Catalog.Decode(kind, version, Encoding.UTF8.GetBytes(payload));
        Assert.Null(decoded.Event);
        Assert.Equal(code, decoded.Error!.Code);
        Assert.Contains(named, decoded.Error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_payload_torn_at_any_byte_never_throws()
    {
        foreach (var happened in Samples.Events)
        {
            var stored = EventCodec.Catalog.Encode(happened);
            for (int length = 0; length < stored.Payload.Length; length++)
                Assert.Equal(ErrorCodes.Corrupt, EventCodec.Catalog.Decode(stored.Kind, stored.Version, stored.Payload.AsSpan(0, length)).Error!.Code);
        }
    }
}
