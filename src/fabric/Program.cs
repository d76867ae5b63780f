using System.Runtime.InteropServices;
using Fabric.Cli;

// Ctrl-C and SIGTERM become a cancellation: what that means (detach, take down, clean up) is each command's business. The second Ctrl-C
// changes nothing, since every clean-up has deadlines of its own.
using var interrupt = new CancellationTokenSource();
using var onInterrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
using var onTerminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
using var onHangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, Interrupt);

bool outIsTerminal = !Console.IsOutputRedirected;
var context = new CliContext(
    Console.Out, Console.Error, outIsTerminal, !Console.IsErrorRedirected, Environment.GetEnvironmentVariable, TimeProvider.System, new Random(), interrupt.Token)
{
    Width = outIsTerminal ? Math.Max(80, Console.WindowWidth) : 160,
};
return await CommandLine.RunAsync(args, context);

void Interrupt(PosixSignalContext signal)
{
    signal.Cancel = true;
    interrupt.Cancel();
}
