using System.Numerics;
using Fabric.Core;
using Fabric.Native;

namespace Fabric.Machines.Synthetic;

/// <summary>
/// What a page must hold, so that a guest (or an observer) can tell one stale, torn or foreign page from a right one.
/// <para>
/// Pages are written in sweeps. In a sweep each of the workload's N pages is written once, in the order of an affine permutation
/// k ↦ (a·k + b) mod N that the seed chooses (for the oracle: in order). A page written in sweep s holds generation s in word 0 and
/// words derived from (seed, page, s) after it. So the generation that a page must have follows from the sweep and the position alone,
/// in constant time and without a table: a page that was left behind by a migration is an error even though it is whole.
/// </para>
/// </summary>
internal sealed class PagePattern
{
    internal const int WordsPerPage = VmSpec.PageSize / sizeof(ulong);

    private readonly ulong _seed;
    private readonly ulong _count;
    private readonly ulong _step;
    private readonly ulong _inverse;
    private readonly ulong _start;

    internal PagePattern(Workload workload)
    {
        _seed = workload.Seed;
        _count = (ulong)workload.Pages;
        _step = 1;
        if (workload.Kind != WorkloadKind.Oracle && _count > 2)
        {
            _start = Mix(_seed) % _count;
            _step = Mix(_seed + 1) % _count;
            while (BigInteger.GreatestCommonDivisor(_step, _count) != 1)
                _step = (_step + 1) % _count;
        }

        _inverse = Inverse(_step, _count);
    }

    /// <summary>The page that is written at this position of a sweep.</summary>
    internal long PageAt(long position) => (long)((_step * (ulong)position + _start) % _count);

    /// <summary>The generation that the page holds once the sweep has come to this position; 0: never written, all zeros.</summary>
    internal ulong Expected(long page, ulong sweep, long position)
    {
        ulong turn = ((ulong)page + _count - _start) % _count * _inverse % _count;
        return turn < (ulong)position ? sweep : sweep - 1;
    }

    internal void Write(nint address, long page, ulong generation)
    {
        ulong key = Key(page, generation);
        GuestBytes.Write(address, generation);
        for (int i = 1; i < WordsPerPage; i++)
            GuestBytes.Write(address + i * sizeof(ulong), unchecked(key * (2UL * (ulong)i + 1)));
    }

    internal bool Matches(nint address, long page, ulong generation)
    {
        if (generation == 0)
            return GuestBytes.IsZero(address, VmSpec.PageSize);
        ulong key = Key(page, generation);
        ulong wrong = GuestBytes.Read(address) ^ generation;
        for (int i = 1; i < WordsPerPage; i++)
            wrong |= GuestBytes.Read(address + i * sizeof(ulong)) ^ unchecked(key * (2UL * (ulong)i + 1));
        return wrong == 0;
    }

    /// <summary>The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).</summary>
    internal static ulong Mix(ulong value)
    {
        unchecked
        {
            value += 0x9E3779B97F4A7C15;
            value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
            value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
            return value ^ (value >> 31);
        }
    }

    private ulong Key(long page, ulong generation) => Mix(Mix(_seed ^ Mix((ulong)page)) ^ generation) | 1;

    /// <summary>Extended Euclid; <paramref name="value"/> and <paramref name="modulus"/> (below 2^31 pages) share no divisor.</summary>
    private static ulong Inverse(ulong value, ulong modulus)
    {
        long previous = 0, current = 1;
        long remainder = (long)modulus, next = (long)(value % modulus);
        if (modulus == 1)
            return 0;
        while (next != 0)
        {
            long quotient = remainder / next;
            (remainder, next) = (next, remainder - quotient * next);
            (previous, current) = (current, previous - quotient * current);
        }

        return (ulong)(previous < 0 ? previous + (long)modulus : previous);
    }
}
