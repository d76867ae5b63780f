// For tests of crashes only: shows every durable step of this daemon to another process, which may hold it there and kill whom it likes.
// Composed only when FABRIC_STEPS names a Unix socket; nothing of it is in a production daemon's way.
//
//   daemon                                   the test (listens)
//     │──"beta before accepted web-1\n"──────────▶│   record not written yet
//     │◀──────────────────"\n"────────────────────│   ... after it killed somebody, perhaps this daemon
//     │  write and sync the record                │
//     │──"beta after accepted web-1\n"───────────▶│   record durable, nothing after it has happened
//     │◀──────────────────"\n"────────────────────│
//
// One step at a time per daemon. When the other end is gone the daemon goes on as if there were no gate.
using System.Net.Sockets;
using System.Text;
using Fabric.Core;

namespace Fabric.Daemon.Steps;

internal sealed class StepGate : IDisposable
{
    public const string Variable = "FABRIC_STEPS";

    /// <summary>Longer than any test holds a step: a forgotten daemon goes on.</summary>
    private const int HeldAtMostMilliseconds = 60_000;

    private readonly HostName _name;
    private readonly Socket _socket;
    private readonly Lock _turn = new();
    private bool _open = true; // under _turn

    private StepGate(HostName name, Socket socket) => (_name, _socket) = (name, socket);

    /// <summary>Null when <paramref name="path"/> is null or empty.</summary>
    /// <exception cref="FabricException">unreachable: nobody listens there.</exception>
    public static StepGate? Open(string? path, HostName name)
    {
        if (string.IsNullOrEmpty(path))
            return null;
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = HeldAtMostMilliseconds, SendTimeout = HeldAtMostMilliseconds };
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            return new StepGate(name, socket);
        }
        catch (SocketException nobody)
        {
            socket.Dispose();
            throw new FabricException(ErrorCodes.Unreachable, $"Nobody takes this daemon's steps at '{Label.Shorten(path)}': {nobody.Message}", $"Unset {Variable}; only a test of crashes needs it.", nobody);
        }
    }

    /// <summary>Returns when the other end lets the step pass. Blocks the caller, as a slow disk would.</summary>
    public void Pass(string moment, string kind, string subject)
    {
        lock (_turn)
        {
            if (!_open)
                return;
            Span<byte> go = stackalloc byte[1];
            try
            {
                _socket.Send(Encoding.UTF8.GetBytes($"{_name} {moment} {kind} {subject}\n"));
                _open = _socket.Receive(go) == 1;
            }
            catch (Exception gone) when (gone is SocketException or ObjectDisposedException)
            {
                _open = false;
            }
        }
    }

    public void Dispose() => _socket.Dispose();
}
