using Fabric.Core;

namespace Fabric.Simulation.Machines;

/// <summary>One guest from its boot to its end, on whatever machines it runs: what the observer knows of it. It travels in the device state as a number.</summary>
internal sealed class GuestLife(int number, VmName vm, int working, int presentPages, double stepsPerSecond)
{
    internal int Number => number;

    internal VmName Vm => vm;

    internal int Working => working;

    internal int PresentPages => presentPages;

    internal double StepsPerSecond => stepsPerSecond;

    /// <summary>Where its vCPUs run; more than one is the violation that everything is built against.</summary>
    internal List<SimMachine> Running { get; } = [];

    /// <summary>Steps when it last stood; it never goes on from less.</summary>
    internal long Reached { get; set; }

    /// <summary>Why it may be gone: a fault ended a machine that it needed, or an operator asked. Null while it must be somewhere.</summary>
    internal string? GoneBy { get; set; }

    /// <summary>The fault that ended one of two copies while it was open which of them would run.</summary>
    internal string? CopyLostBy { get; set; }

    /// <summary>World time since when it stands; null while it runs.</summary>
    internal TimeSpan? StandsSince { get; set; }

    /// <summary>How long of that no fault was at work.</summary>
    internal TimeSpan QuietPause { get; set; }
}
