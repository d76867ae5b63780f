// The rehearsal calls what a hand-over usually calls, and so has it compiled. What it does not call is what depends on time: an await that happened to be over at once in
// it, and takes a moment in the first production VM's hand-over, has the runtime compile there what parks and resumes that method, some eight methods for each that waits. A trace of compilations showed
// 10 ms of it in a first pause of 20 ms. So all of an agent's own methods are compiled after the rehearsal, and for each asynchronous one what parks it:
//
//     method ──await, not over──▶ GetStateMachineBox ──▶ box ──▶ MoveNextAction … MoveNext ──▶ method
//     `──── in our assemblies      `──────────────────── in the runtime's, made for each of our methods
//
// After the rehearsal, not before it: what has run by then has its static fields set, and the compiler takes those that are read-only for constants.
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.Json.Serialization;

namespace Fabric.Daemon.Rehearsals;

/// <summary>Compiles what nothing has called yet. Why, and why after the rehearsal: above.</summary>
internal static class EarlyCompilation
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
    private static readonly Type Builder = typeof(AsyncTaskMethodBuilder<>);

    // Names of the runtime's inside. A runtime that has others loses what is won by them, and nothing else.
    private static readonly Type? Box = Builder.GetNestedType("AsyncStateMachineBox`1", BindingFlags.NonPublic);
    private static readonly Type? BuilderCore = Builder.Assembly.GetType("System.Runtime.CompilerServices.AsyncMethodBuilderCore");
    private static readonly Type? NoResult = Builder.Assembly.GetType("System.Threading.Tasks.VoidTaskResult");

    /// <summary>
    /// Compiles the methods of these assemblies that are not compiled yet, 0.3 ms each, a type at a time as the caller goes on. Left out: generic ones, which are compiled for each argument, and what
    /// is generated to write and read JSON, which the rehearsal does and which would be more than all the rest.
    /// </summary>
    /// <returns>Of each type, how many methods it looked at.</returns>
    /// <exception cref="OperationCanceledException">Cancelled; what was compiled stays so.</exception>
    public static IEnumerable<int> Run(IEnumerable<Assembly> assemblies, CancellationToken cancellation)
    {
        foreach (var type in assemblies.SelectMany(static a => a.GetTypes()).Where(static t => !t.ContainsGenericParameters && !IsJson(t)))
        {
            cancellation.ThrowIfCancellationRequested();
            int methods = Compile(type, null);
            if (type.IsValueType && type.IsAssignableTo(typeof(IAsyncStateMachine)))
                methods += Parking(type);
            yield return methods;
        }
    }

    private static int Parking(Type stateMachine)
    {
        if (Box is null || NoResult is null || Result(stateMachine.GetField("<>t__builder", Declared)?.FieldType) is not { } result)
            return 0;
        RuntimeTypeHandle[] arguments = [result.TypeHandle, stateMachine.TypeHandle];
        var box = Box.MakeGenericType(result, stateMachine);
        RuntimeHelpers.RunClassConstructor(box.TypeHandle);
        int methods = Compile(box, arguments);
        // This one the call above leaves as it is.
        if (box.GetMethod(nameof(IAsyncStateMachine.MoveNext), Declared, Type.EmptyTypes) is { } resume)
            RuntimeHelpers.PrepareDelegate(resume.CreateDelegate<Action>(RuntimeHelpers.GetUninitializedObject(box)));
        return methods + Generic(Builder.MakeGenericType(result), "GetStateMachineBox", stateMachine, arguments) + Generic(BuilderCore, "Start", stateMachine, [stateMachine.TypeHandle]);
    }

    private static int Generic(Type? type, string name, Type stateMachine, RuntimeTypeHandle[] arguments)
    {
        if (type?.GetMethod(name, Declared) is not { } method)
            return 0;
        RuntimeHelpers.PrepareMethod(method.MakeGenericMethod(stateMachine).MethodHandle, arguments);
        return 1;
    }

    /// <summary>The result of a method with this builder; null for one that is parked in another way.</summary>
    private static Type? Result(Type? builder)
    {
        if (builder == typeof(AsyncTaskMethodBuilder) || builder == typeof(AsyncValueTaskMethodBuilder))
            return NoResult;
        bool parksAlike = builder is { IsGenericType: true } && builder.GetGenericTypeDefinition() is var generic && (generic == Builder || generic == typeof(AsyncValueTaskMethodBuilder<>));
        return parksAlike ? builder!.GetGenericArguments()[0] : null;
    }

    private static int Compile(Type type, RuntimeTypeHandle[]? arguments)
    {
        int methods = 0;
        foreach (var method in type.GetMethods(Declared).Concat<MethodBase>(type.GetConstructors(Declared & ~BindingFlags.Static)).Where(IsCompiled))
        {
            RuntimeHelpers.PrepareMethod(method.MethodHandle, arguments);
            methods++;
        }

        return methods;
    }

    private static bool IsCompiled(MethodBase method) =>
        !method.IsAbstract && !method.IsGenericMethodDefinition && !method.Attributes.HasFlag(MethodAttributes.PinvokeImpl)
        && (method.GetMethodImplementationFlags() & (MethodImplAttributes.CodeTypeMask | MethodImplAttributes.InternalCall)) == MethodImplAttributes.IL;

    private static bool IsJson(Type type)
    {
        for (var outer = type; outer is not null; outer = outer.DeclaringType)
        {
            if (outer.IsAssignableTo(typeof(JsonSerializerContext)))
                return true;
        }

        return false;
    }
}
