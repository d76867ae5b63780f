using Xunit;

// Everything here is whole processes on one machine; one thing at a time.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
