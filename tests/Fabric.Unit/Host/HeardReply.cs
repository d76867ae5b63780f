using Fabric.Actors;
using Fabric.Core;

namespace Fabric.Unit.Host;

/// <summary>What an actor answered, for a test on the actor's own thread.</summary>
internal sealed class HeardReply<T> : IReply<T>
{
    internal bool Answered { get; private set; }

    internal T? Result { get; private set; }

    internal FabricError? Error { get; private set; }

    public void Succeed(T value) => (Answered, Result) = (true, value);

    public void Fail(FabricError error) => (Answered, Error) = (true, error);
}
