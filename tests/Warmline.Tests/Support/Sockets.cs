using System.Globalization;

namespace Warmline.Tests.Support;

/// <summary>The kernel's own list of TCP sockets.</summary>
internal static class Sockets
{
    const string Established = "01";
    const string CloseWait = "08";

    /// <summary>Client sockets towards a port that somebody still holds open; 0 where the list cannot be read.</summary>
    public static int To(int port)
    {
        if (!OperatingSystem.IsLinux())
        {
            return 0;
        }

        var suffix = ":" + port.ToString("X4", CultureInfo.InvariantCulture);
        return new[] { "/proc/self/net/tcp", "/proc/self/net/tcp6" }.Where(File.Exists).SelectMany(File.ReadLines).Count(line =>
        {
            var fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return fields.Length > 3 && fields[2].EndsWith(suffix, StringComparison.Ordinal) && fields[3] is (Established or CloseWait);
        });
    }
}
