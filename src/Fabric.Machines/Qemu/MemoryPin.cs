using Fabric.Core;
using Microsoft.Win32.SafeHandles;

namespace Fabric.Machines.Qemu;

/// <summary>
/// Keeps a guest's memory readable, by its mapping and by its file, when the machine is disposed meanwhile. May be disposed more than once: a second count that is given back would be
/// the owner's, and its finalizer would end the process.
/// </summary>
internal sealed class MemoryPin : IDisposable
{
    private readonly IDisposable _mapping;
    private SafeFileHandle? _file;

    /// <param name="mapping">The pin of the mapping; owned from here on.</param>
    /// <param name="file">Open. Who holds a count of it may go on to read it after it was disposed.</param>
    /// <exception cref="FabricException">machine-failed: the file was closed already.</exception>
    public MemoryPin(IDisposable mapping, SafeFileHandle file)
    {
        (_mapping, _file) = (mapping, file);
        try
        {
            bool held = false;
            file.DangerousAddRef(ref held);
        }
        catch (ObjectDisposedException e)
        {
            mapping.Dispose();
            throw new FabricException(ErrorCodes.MachineFailed, "The memory has been let go of: its machine is gone.", cause: e);
        }
    }

    public void Dispose()
    {
        _mapping.Dispose();
        Interlocked.Exchange(ref _file, null)?.DangerousRelease();
    }
}
