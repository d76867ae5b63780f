using System.Collections.Concurrent;
using Fabric.Core;
using Fabric.Host.Balloon;
using Fabric.Host.Disk;
using Fabric.Host.Ledger;
using Fabric.Host.Link;
using Fabric.Host.Memory;
using Fabric.Host.Vm;
using Fabric.Machines;
using Microsoft.Extensions.Logging;

namespace Fabric.Host;

/// <summary>What every VM's actor on a host shares. Immutable; its members are safe for any thread.</summary>
internal sealed class HostParts
{
    internal required HostAgentOptions Options { get; init; }

    internal required ILedgerStore Ledgers { get; init; }

    internal required IDataPlane Plane { get; init; }

    internal required FactsBoard Facts { get; init; }

    internal required Admission Admission { get; init; }

    internal required IReadOnlyDictionary<MachineKind, IMachineFactory> Factories { get; init; }

    internal required ILoggerFactory Loggers { get; init; }

    /// <summary>A new generator for one actor.</summary>
    internal required Func<Random> Random { get; init; }

    internal required VmMetrics VmMetrics { get; init; }

    internal required MemoryMetrics MemoryMetrics { get; init; }

    internal required DiskMetrics DiskMetrics { get; init; }

    internal required BalloonMetrics BalloonMetrics { get; init; }

    private readonly ConcurrentDictionary<VmName, string> _consoles = new();

    internal HostName Host => Options.Name;

    /// <exception cref="FabricException">unsupported: this host runs no such machines.</exception>
    internal IMachineFactory Factory(MachineKind kind) => Factories.TryGetValue(kind, out var factory)
        ? factory
        : throw new FabricException(ErrorCodes.Unsupported, $"Host {Host} does not run {kind} machines.", "Run 'fabric doctor' on the host.");

    /// <summary>The file that remembers which pages of an incoming migration are here.</summary>
    internal string PullMap(MigrationId migration) => Path.Combine(Options.MemoryDirectory, $"{migration}.pull");

    internal void RemovePullMap(MigrationId migration) => File.Delete(PullMap(migration));

    /// <summary>Where the serial line of a VM's machine is kept; it stays readable after the machine is gone.</summary>
    internal void RememberConsole(VmName vm, string path) => _consoles[vm] = path;

    internal string? ConsoleOf(VmName vm) => _consoles.GetValueOrDefault(vm);
}
