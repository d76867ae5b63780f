using Fabric.Core;

namespace Fabric.Machines;

/// <summary>
/// One recording of a guest's writes. It has one owner, and counts until it is disposed or the next one is begun on the same memory. What a scan finds is gone from the recording: a transfer that is over, and scanned once
/// more, would take away what the transfer after it has to send. So a recording that does not count any more finds nothing and says so, and its end changes nothing.
/// </summary>
public interface IDirtyTracking : IDisposable
{
    /// <summary>
    /// Adds the pages written since the last scan (or since tracking began) to <paramref name="dirty"/> and re-arms them in the same step,
    /// so that no write is missed. Returns how many pages the scan reported.
    /// </summary>
    /// <param name="dirty">What was found is added.</param>
    /// <param name="asked">
    /// Null: all pages matter. Otherwise others may be left out, and are then reported by a later scan: the guest may stand meanwhile, and to go over all that exists takes a millisecond for each GiB.
    /// </param>
    /// <exception cref="FabricException">cancelled: the recording has ended, or another has taken its place.</exception>
    long Scan(PageBitmap dirty, PageBitmap? asked = null);
}

/// <summary>A recording that asks its memory, which knows the one that counts.</summary>
/// <param name="scan">The memory's; calls <see cref="MustBe"/> first, under the lock that its recordings change under.</param>
/// <param name="end">The memory's; does nothing for another recording than the one that counts.</param>
public sealed class DirtyTracking(Func<DirtyTracking, PageBitmap, PageBitmap?, long> scan, Action<DirtyTracking> end) : IDirtyTracking
{
    public long Scan(PageBitmap dirty, PageBitmap? asked = null)
    {
        ArgumentNullException.ThrowIfNull(dirty);
        return scan(this, dirty, asked);
    }

    public void Dispose() => end(this);

    /// <exception cref="FabricException">cancelled: it is not.</exception>
    public void MustBe(DirtyTracking? current)
    {
        if (!ReferenceEquals(this, current))
            throw new FabricException(ErrorCodes.Cancelled, "This recording of the guest's writes has ended, or another has taken its place.");
    }
}
