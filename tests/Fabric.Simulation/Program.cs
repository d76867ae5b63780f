using System.Diagnostics;
using Fabric.Simulation;

return Commands.Run(args, Console.Out, Stopwatch.StartNew());
