using System.Runtime.InteropServices;

namespace Fabric.Native;

/// <summary>
/// A list of memory areas for one gathered send or scattered receive. It lives in pinned memory, is made once and filled again for
/// each frame: adding allocates nothing. Neighbouring areas melt into one. One thread at a time.
/// </summary>
public sealed class SocketIoVectors
{
    // struct iovec { void *base; size_t length; }: two machine words each.
    private readonly nint[] _words;
    private int _first;
    private int _end;

    /// <param name="capacity">Most areas, 1 to 1024 (the kernel's IOV_MAX).</param>
    public SocketIoVectors(int capacity)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(capacity, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(capacity, 1024);
        _words = GC.AllocateArray<nint>(2 * capacity, pinned: true);
    }

    /// <summary>Bytes that are still to be moved.</summary>
    public long Bytes { get; private set; }

    /// <summary>Areas that are still to be moved.</summary>
    public int Count => _end - _first;

    internal nint Head => Marshal.UnsafeAddrOfPinnedArrayElement(_words, 2 * _first);

    public void Clear()
    {
        _first = _end = 0;
        Bytes = 0;
    }

    public void Add(nint address, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (length == 0)
            return;
        Bytes += length;
        int last = 2 * (_end - 1);
        if (_end > _first && _words[last] + _words[last + 1] == address)
        {
            _words[last + 1] += (nint)length;
            return;
        }

        if (2 * _end == _words.Length)
            throw new InvalidOperationException($"The list holds {_words.Length / 2} areas already.");
        _words[2 * _end] = address;
        _words[(2 * _end) + 1] = (nint)length;
        _end++;
    }

    /// <summary>Shortens the list to its first bytes; <see cref="Restore"/> undoes it, before anything else is done with the list.</summary>
    /// <param name="most">Bytes, at least 1.</param>
    /// <returns>How many areas there are, and what was cut off the last one.</returns>
    internal (int Count, nint Cut) Shorten(long most)
    {
        for (int i = _first; i < _end; i++)
        {
            nint length = _words[(2 * i) + 1];
            if (length < most)
            {
                most -= length;
                continue;
            }

            _words[(2 * i) + 1] = (nint)most;
            return (i + 1 - _first, length - (nint)most);
        }

        return (Count, 0);
    }

    internal void Restore((int Count, nint Cut) shortened) => _words[(2 * (_first + shortened.Count - 1)) + 1] += shortened.Cut;

    /// <summary>Strikes off what the kernel moved.</summary>
    internal void Advance(long bytes)
    {
        Bytes -= bytes;
        while (bytes > 0)
        {
            nint length = _words[(2 * _first) + 1];
            if (bytes < length)
            {
                _words[2 * _first] += (nint)bytes;
                _words[(2 * _first) + 1] -= (nint)bytes;
                return;
            }

            bytes -= length;
            _first++;
        }
    }
}
