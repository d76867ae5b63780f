using System.CommandLine;
using Fabric.Cli.Client;
using Fabric.Cli.Output;
using Fabric.Core;
using Fabric.Wire.Api;

namespace Fabric.Cli.Commands;

internal static class VmCommands
{
    private static readonly TimeSpan ConsolePeriod = TimeSpan.FromMilliseconds(200);

    public static Command Make(CommandBuilder builder) =>
        CommandBuilder.Group("vm", "Virtual machines", [Create(builder), List(builder), Show(builder), Console(builder), Delete(builder)]);

    private static Command Create(CommandBuilder builder)
    {
        var name = new Argument<string?>("name") { Description = "1 to 63 characters of a-z, 0-9 and '-'", Arity = ArgumentArity.ZeroOrOne };
        var file = new Option<string?>("--file", "-f") { Description = "YAML file with the same keys as the options" };
        var on = new Option<string?>("--on") { Description = "Host to start on" };
        var memory = new Option<string?>("--memory") { Description = "RAM, for example 256M" };
        var vcpus = new Option<int?>("--vcpus") { Description = "1 to 255 (default 1)" };
        var machine = new Option<string?>("--machine") { Description = "qemu (default) or synthetic" };
        var accel = new Option<string?>("--accel") { Description = "auto (default), kvm or tcg" };
        var kernel = new Option<string?>("--kernel") { Description = "Kernel for direct boot" };
        var initrd = new Option<string?>("--initrd") { Description = "Initramfs for direct boot" };
        var append = new Option<string?>("--append") { Description = "Kernel command line" };
        var disk = new Option<string[]>("--disk") { Description = "PATH[,shared]: a raw image; may be repeated", DefaultValueFactory = _ => [] };
        var nic = new Option<string[]>("--nic") { Description = "bridge=NAME[,mac=ADDRESS]: a network card on this bridge of every host; may be repeated", DefaultValueFactory = _ => [] };
        var workload = new Option<string?>("--workload") { Description = "A synthetic machine's workload, for example write-heavy:7" };
        var balloon = new Option<string?>("--balloon") { Description = "off (default), or steady[,interval=5s]: keep what is free in the guest in its balloon, so that no move sends it" };
        return builder.Command("create", "Start a new VM", [name, file, on, memory, vcpus, machine, accel, kernel, initrd, append, disk, nic, workload, balloon], async (run, cancellation) =>
        {
            var said = new VmWish
            {
                Name = run.Parsed.GetValue(name),
                On = run.Parsed.GetValue(on),
                Memory = run.Parsed.GetValue(memory),
                Vcpus = run.Parsed.GetValue(vcpus),
                Machine = run.Parsed.GetValue(machine),
                Accel = run.Parsed.GetValue(accel),
                Kernel = run.Parsed.GetValue(kernel),
                Initrd = run.Parsed.GetValue(initrd),
                Append = run.Parsed.GetValue(append),
                Workload = run.Parsed.GetValue(workload),
                Balloon = run.Parsed.GetValue(balloon),
                Disks = run.Parsed.GetValue(disk) ?? [],
                Nics = run.Parsed.GetValue(nic) ?? [],
            };
            var (spec, host) = (run.Parsed.GetValue(file) is { } path ? said.Over(VmFile.Read(path)) : said).Resolve();
            using var client = run.Connect();
            var vm = await client.CreateVmAsync(new CreateVmRequest(spec, host), cancellation);
            if (run.Format is OutputFormat.Table or OutputFormat.Wide)
                run.Context.Say($"VM {vm.Name} is {vm.State} on {vm.Host}");
            else
                run.Printer.One(vm, Views.Vms, v => v.Name.Value, api => api.VmReport);
            return ExitCode.Done;
        });
    }

    private static Command List(CommandBuilder builder) => builder.Command("list", "All VMs", [], async (run, cancellation) =>
    {
        using var client = run.Connect();
        run.Printer.List(await client.VmsAsync(cancellation), Views.Vms, v => v.Name.Value, api => api.VmReport);
        return ExitCode.Done;
    });

    private static Command Show(CommandBuilder builder)
    {
        var name = Name();
        return builder.Command("show", "One VM", [name], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var vm = await client.VmAsync(VmName.Parse(run.Parsed.GetValue(name)), cancellation);
            run.Printer.One(vm, Views.Vms, v => v.Name.Value, api => api.VmReport);
            return ExitCode.Done;
        });
    }

    private static Command Console(CommandBuilder builder)
    {
        var name = Name();
        var follow = new Option<bool>("--follow", "-f") { Description = "Go on as it grows, across moves, until Ctrl-C" };
        return builder.Command("console", "The VM's serial line", [name, follow], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var reader = new ConsoleReader(client, VmName.Parse(run.Parsed.GetValue(name)));
            bool following = run.Parsed.GetValue(follow);
            bool silent = true;
            while (true)
            {
                string text = await reader.ReadAsync(cancellation);
                await run.Context.Out.WriteAsync(text);
                await run.Context.Out.FlushAsync(cancellation);
                silent &= text.Length == 0;
                if (text.Length > 0)
                    continue;
                if (silent && !following)
                    run.Context.Say($"VM {run.Parsed.GetValue(name)} has not written anything at its host so far.");
                if (!following)
                    return ExitCode.Done;
                await Task.Delay(ConsolePeriod, run.Context.Time, cancellation);
            }
        });
    }

    private static Command Delete(CommandBuilder builder)
    {
        var name = Name();
        var force = new Option<bool>("--force") { Description = "Also when its host cannot be asked" };
        return builder.Command("delete", "End a VM and forget it", [name, force], async (run, cancellation) =>
        {
            using var client = run.Connect();
            var vm = VmName.Parse(run.Parsed.GetValue(name));
            await client.DeleteVmAsync(vm, run.Parsed.GetValue(force), cancellation);
            run.Context.Say($"VM {vm} is deleted");
            return ExitCode.Done;
        });
    }

    private static Argument<string> Name() => new("vm") { Description = "Name of the VM" };
}
