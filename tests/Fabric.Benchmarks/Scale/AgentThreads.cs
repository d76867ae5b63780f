using System.Collections.Concurrent;
using Fabric.Actors;

namespace Fabric.Benchmarks.Scale;

/// <summary>
/// Threads of their own for all agents. In life they are other machines: what they do, a sync of a ledger above all, must not hold a thread of the pool on which the control
/// node works. The processors they share.
/// </summary>
internal sealed class AgentThreads : IDispatcher, IDisposable
{
    private readonly BlockingCollection<IThreadPoolWorkItem> _work = [];
    private readonly List<Thread> _threads = [];

    internal AgentThreads(int count)
    {
        for (int i = 0; i < count; i++)
        {
            var thread = new Thread(Run) { Name = $"agents-{i}", IsBackground = true };
            thread.Start();
            _threads.Add(thread);
        }
    }

    public void Schedule(IThreadPoolWorkItem item) => _work.TryAdd(item);

    /// <summary>Runs <paramref name="work"/> on one of the agents' threads.</summary>
    internal Task<T> RunAsync<T>(Func<T> work)
    {
        var item = new Item<T>(work);
        Schedule(item);
        return item.Task;
    }

    /// <summary>After the agents have ended.</summary>
    public void Dispose()
    {
        _work.CompleteAdding();
        foreach (var thread in _threads)
            thread.Join();
        _work.Dispose();
    }

    private void Run()
    {
        foreach (var item in _work.GetConsumingEnumerable())
            item.Execute();
    }

    private sealed class Item<T>(Func<T> work) : TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously), IThreadPoolWorkItem
    {
        public void Execute()
        {
            try
            {
                SetResult(work());
            }
#pragma warning disable CA1031 // The caller's, whatever it is.
            catch (Exception failure)
#pragma warning restore CA1031
            {
                SetException(failure);
            }
        }
    }
}
