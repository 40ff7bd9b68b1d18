using System.Runtime.CompilerServices;
using Xunit;

namespace Warmline.Tests.Guards;

/// <summary>The memory of a call. A pool may hold ten thousand of them.</summary>
public sealed class CallSizeTests
{
    /// <summary>The order and the types of the fields in the chain of base classes matter: each class is padded to eight bytes.</summary>
    [Fact]
    public void A_call_is_one_object_of_432_bytes_at_most()
    {
        Make();
        Make();   // the first ones prepare the type
        var before = GC.GetAllocatedBytesForCurrentThread();
        Make();
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, 432);

        static object Make() => RuntimeHelpers.GetUninitializedObject(typeof(PooledCall));
    }
}
