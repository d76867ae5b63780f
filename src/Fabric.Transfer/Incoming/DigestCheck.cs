using Fabric.Core;
using Fabric.Machines;
using Fabric.Native;
using Fabric.Wire.Data;

namespace Fabric.Transfer.Incoming;

/// <summary>
/// VerifyLevel.Full: compares the source's digests of all of memory, piece by piece as they come on the bulk connections, with memory itself (after a
/// stopped copy, when nothing runs) or with the digests taken as the pages came (in a pull, when the guest writes already). Many receivers.
/// </summary>
internal sealed class DigestCheck
{
    private readonly IGuestMemory _memory;
    private readonly PageBitmap _pieces;
    private readonly UInt128 _zeroDigest;
    private readonly TaskCompletionSource<bool> _all = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _left;
    private long _differing;
    private long _firstDiffering = -1;

    public DigestCheck(IGuestMemory memory)
    {
        _memory = memory;
        _left = (memory.PageCount + DigestPiece.PagesPerPiece - 1) / DigestPiece.PagesPerPiece;
        _pieces = new PageBitmap(_left);
        _zeroDigest = Xxh3.Hash128(new byte[memory.PageSize]);
    }

    /// <summary>Completes when every piece was compared, whatever came out.</summary>
    public Task<bool> AllCompared => _all.Task;

    /// <summary>Null if everything compared so far is equal.</summary>
    public FabricError? Difference => Volatile.Read(ref _differing) is 0
        ? null
        : new FabricError(ErrorCodes.Corrupt, $"{Volatile.Read(ref _differing)} pages differ from the source's, page {Volatile.Read(ref _firstDiffering)} among them.");

    /// <summary>Compares a piece with memory. Only pages in <paramref name="filled"/> are touched.</summary>
    public void CompareMemory(FrameHeader header, ReadOnlySpan<byte> body, PageBitmap filled)
    {
        PageRun run = Begin(header);
        for (int i = 0; i < run.Count; i++)
        {
            long page = run.First + i;
            Compare(page, DigestPiece.Read(body, i), filled[page] ? Hash(page) : _zeroDigest);
        }

        End();
    }

    /// <summary>Compares a piece with the digests that were taken as the pages came. A page without one was a hole.</summary>
    public void CompareTaken(FrameHeader header, ReadOnlySpan<byte> body, PullState state)
    {
        PageRun run = Begin(header);
        for (int i = 0; i < run.Count; i++)
        {
            UInt128 taken = state.Digest(run.First + i);
            Compare(run.First + i, DigestPiece.Read(body, i), taken == 0 ? _zeroDigest : taken);
        }

        End();
    }

    /// <summary>Takes the digests of pages that were pushed and stay, before the guest may write them.</summary>
    public void TakeKept(PageBitmap filled, PullState state) =>
        Parallel.For(0, _pieces.Length, piece =>
        {
            long end = Math.Min((piece + 1) * DigestPiece.PagesPerPiece, filled.Length);
            for (long page = filled.NextSet(piece * DigestPiece.PagesPerPiece, end); page >= 0; page = filled.NextSet(page + 1, end))
                state.SetDigest(page, Hash(page));
        });

    private PageRun Begin(FrameHeader header)
    {
        if (!DigestPiece.TryCheck(header.BodyLength, header.Argument, _memory.PageCount, out PageRun run, out FabricError? error))
            throw new FabricException(error);
        if (!_pieces.AtomicSet(run.First / DigestPiece.PagesPerPiece))
            throw new FabricException(ErrorCodes.Malformed, $"The peer sent the digests from page {run.First} twice.");
        return run;
    }

    private void End()
    {
        if (Interlocked.Decrement(ref _left) == 0)
            _all.TrySetResult(true);
    }

    private void Compare(long page, UInt128 theirs, UInt128 ours)
    {
        if (theirs == ours)
            return;
        Interlocked.Increment(ref _differing);
        Interlocked.CompareExchange(ref _firstDiffering, page, -1);
    }

    private UInt128 Hash(long page) => Xxh3.Hash128(_memory.Address + (nint)(page * _memory.PageSize), _memory.PageSize);
}
