using System.Runtime.InteropServices;
using Fabric.Benchmarks;
using Fabric.Benchmarks.Balloon;
using Fabric.Benchmarks.ClientGap;
using Fabric.Benchmarks.Compare;
using Fabric.Benchmarks.Journal;
using Fabric.Benchmarks.PageOrders;
using Fabric.Benchmarks.Paper;
using Fabric.Benchmarks.Scale;
using Fabric.Benchmarks.Soak;
using Fabric.Core;

// fabric-bench COMMAND [--option value]…
string command = args.Length > 0 ? args[0] : "";
if (command == "data-plane")
{
    return DataPlane.Sizes(args[1..]) is { } sizes
        ? await DataPlane.RunAsync(sizes)
        : Refuse("'data-plane' takes up to three whole numbers: MiB, pages in a frame, bytes of a socket's buffer.");
}

var options = new Dictionary<string, string>(StringComparer.Ordinal);
for (int i = 1; i < args.Length; i += 2)
{
    if (!args[i].StartsWith("--", StringComparison.Ordinal) || i + 1 >= args.Length)
        return Refuse($"'{args[i]}' is not an option with a value.");
    options[args[i][2..]] = args[i + 1];
}

using var interrupt = new CancellationTokenSource();
using var pressed = PosixSignalRegistration.Create(PosixSignal.SIGINT, EndInOrder);
using var told = PosixSignalRegistration.Create(PosixSignal.SIGTERM, EndInOrder);
try
{
    return command switch
    {
        "balloon" => await BalloonBench.RunAsync(options, Console.Out, interrupt.Token),
        "balloon-cost" => await BalloonCost.RunAsync(options, Console.Out, interrupt.Token),
        "client-gap" => await ClientGapCommand.RunAsync(options, Console.Out, interrupt.Token),
        "compare-qemu" => await CompareQemu.RunAsync(options, Console.Out, interrupt.Token),
        "journal" => await JournalBench.RunAsync(options, Console.Out, interrupt.Token),
        "page-order" => await PageOrderBench.RunAsync(options, Console.Out, interrupt.Token),
        "paper-p1" => await PaperP1.RunAsync(options, Console.Out, interrupt.Token),
        "scale" => await ScaleBench.RunAsync(options, Console.Out, interrupt.Token),
        "soak" => await SoakCommand.RunAsync(options, Console.Out, interrupt.Token),
        _ => Refuse($"There is no benchmark '{command}'."),
    };
}
catch (OperationCanceledException) when (interrupt.IsCancellationRequested)
{
    return 130;
}
catch (FabricException error)
{
    Console.Error.WriteLine(error.Error);
    return 1;
}

// The processes and namespaces of this run are ended on the way out.
void EndInOrder(PosixSignalContext signal)
{
    signal.Cancel = true;
    interrupt.Cancel();
}

static int Refuse(string why)
{
    Console.Error.WriteLine(why);
    Console.Error.WriteLine(CompareQemu.Usage + "\n" + SoakCommand.Usage + "\n" + JournalBench.Usage + "\n" + PageOrderBench.Usage + "\n" + PaperP1.Usage + "\n" + ScaleBench.Usage + "\n" + BalloonBench.Usage + "\n" + BalloonCost.Usage + "\n" + ClientGapCommand.Usage);
    return 2;
}
