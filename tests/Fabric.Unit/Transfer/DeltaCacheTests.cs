using Fabric.Core;
using Fabric.Native;
using Fabric.Transfer.Outgoing;
using Xunit;

namespace Fabric.Unit.Transfer;

/// <summary>
/// The cache against a model of the destination: every page is sent in some way, a difference is added to what the model holds, and the model must then hold what was sent. A copy that is not what the
/// destination holds shows at once as another page.
/// </summary>
public sealed class DeltaCacheTests
{
    private const int Size = VmSpec.PageSize;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void What_is_kept_is_what_the_destination_holds(int seed)
    {
        const int Pages = 64;
        using DeltaCache kept = new(slots: 24, Size);
        using MappedMemory destination = MappedMemory.Anonymous(Pages * Size);
        using MappedMemory page = MappedMemory.Anonymous(2 * Size);
        nint now = page.Address;
        nint copy = page.Address + Size;
        Random random = new(seed);
        int deltas = 0;
        for (int i = 0; i < 20_000; i++)
        {
            long at = random.Next(Pages);
            ulong round = (ulong)(i / 50);
            PageBytes.Fill(now, Size, (byte)random.Next(256));
            nint there = destination.Address + (nint)(at * Size);
            switch (random.Next(4))
            {
                case 0: // in place: nobody knows what exactly has left
                    kept.Forget(at);
                    PageBytes.Copy(now, there, Size);
                    break;
                default:
                    PageBytes.Copy(now, copy, Size);
                    if (kept.TryDelta(at, copy, round))
                    {
                        PageBytes.Subtract(copy, there, Size);
                        deltas++;
                    }
                    else
                    {
                        kept.Keep(at, copy, round);
                    }

                    PageBytes.Copy(copy, there, Size);
                    break;
            }

            Assert.Equal(Xxh3.Hash64(now, Size), Xxh3.Hash64(there, Size));
        }

        Assert.InRange(deltas, 2_000, 15_000);
    }

    [Fact]
    public void Of_two_pages_of_one_slot_that_are_sent_in_every_round_one_stays()
    {
        using DeltaCache kept = new(slots: 8, Size);
        using MappedMemory copy = MappedMemory.Anonymous(Size);
        int deltas = 0;
        for (ulong round = 2; round < 12; round++)
        {
            foreach (long page in new long[] { 3, 11 })
            {
                if (kept.TryDelta(page, copy.Address, round))
                    deltas++;
                else
                    kept.Keep(page, copy.Address, round);
            }
        }

        Assert.Equal(9, deltas);
    }

    [Fact]
    public void A_page_that_is_sent_no_more_makes_room()
    {
        using DeltaCache kept = new(slots: 8, Size);
        using MappedMemory copy = MappedMemory.Anonymous(Size);
        kept.Keep(3, copy.Address, 2);
        kept.Keep(11, copy.Address, 3);
        Assert.False(kept.TryDelta(3, copy.Address, 3));
        Assert.True(kept.TryDelta(11, copy.Address, 4));
    }

    /// <summary>Four senders, each with pages of its own as a job gives them, in the same three slots.</summary>
    [Fact]
    public async Task Senders_that_take_each_others_slots_never_get_a_wrong_copy()
    {
        const int Senders = 4;
        const int Own = 5;
        using DeltaCache kept = new(slots: 3, Size);
        int[] deltas = await Task.WhenAll(Enumerable.Range(0, Senders).Select(sender => Task.Run(() =>
        {
            using MappedMemory memory = MappedMemory.Anonymous((2 + Own) * Size);
            nint now = memory.Address;
            nint copy = now + Size;
            Random random = new(sender);
            int found = 0;
            for (int i = 0; i < 30_000; i++)
            {
                int which = random.Next(Own);
                long page = sender + (Senders * which);
                nint there = memory.Address + ((2 + which) * Size);
                PageBytes.Fill(now, Size, (byte)random.Next(256));
                PageBytes.Copy(now, copy, Size);
                if (kept.TryDelta(page, copy, (ulong)i))
                {
                    PageBytes.Subtract(copy, there, Size);
                    found++;
                }
                else
                {
                    kept.Keep(page, copy, (ulong)i);
                }

                PageBytes.Copy(copy, there, Size);
                Assert.Equal(Xxh3.Hash64(now, Size), Xxh3.Hash64(there, Size));
            }

            return found;
        })));
        Assert.True(deltas.Sum() > 100, $"{deltas.Sum()} differences");
    }
}
