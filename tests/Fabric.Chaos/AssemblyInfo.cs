using Xunit;

// Everything here is whole processes on one machine, most of which wait for each other: two clusters at a time, each with directories, ports and guests of its own.
[assembly: CollectionBehavior(MaxParallelThreads = 2)]
