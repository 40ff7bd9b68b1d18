using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Options;

namespace Warmline.Hosting;

/// <summary>
/// The host's own shutdown timeout. Its options type lives in Microsoft.Extensions.Hosting, which brings configuration files, consoles and
/// event logs: too much for a library that wants one number. So the number is read where that assembly is loaded anyway, which is wherever
/// there is a host.
/// </summary>
internal static class HostShutdown
{
    const string TypeName = "Microsoft.Extensions.Hosting.HostOptions, Microsoft.Extensions.Hosting";
    static readonly TimeSpan HostsDefault = TimeSpan.FromSeconds(30);
    static readonly TimeSpan LongestMargin = TimeSpan.FromSeconds(2);

    /// <summary>
    /// How long calls may run on: the host's timeout less the time in which the application tells its own callers that they were cut.
    /// </summary>
    public static TimeSpan DrainTimeout(IServiceProvider services)
    {
        var timeout = Timeout(services);
        if (timeout == System.Threading.Timeout.InfiniteTimeSpan)
        {
            return timeout;
        }

        var margin = timeout / 10;
        return timeout - (margin < LongestMargin ? margin : LongestMargin);
    }

    [DynamicDependency("ShutdownTimeout", "Microsoft.Extensions.Hosting.HostOptions", "Microsoft.Extensions.Hosting")]
    [UnconditionalSuppressMessage("AOT", "IL3050", Justification = "IOptions of a reference type: the host's own constructor takes this very type, so its code exists.")]
    [UnconditionalSuppressMessage("Trimming", "IL2075", Justification = "The dependency above keeps the property.")]
    static TimeSpan Timeout(IServiceProvider services)
    {
        if (Type.GetType(TypeName, throwOnError: false) is not { } type || services.GetService(typeof(IOptions<>).MakeGenericType(type)) is not IOptions<object> options)
        {
            return HostsDefault;
        }

        return type.GetProperty("ShutdownTimeout")?.GetValue(options.Value) is TimeSpan timeout ? timeout : HostsDefault;
    }
}
