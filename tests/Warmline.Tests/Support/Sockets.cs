using System.Globalization;

namespace Warmline.Tests.Support;

/// <summary>The kernel's own list of TCP sockets.</summary>
internal static class Sockets
{
    const string Established = "01";
    const string CloseWait = "08";
    const string TimeWaiting = "06";

    /// <summary>Client sockets towards a port that somebody still holds open; 0 where the list cannot be read.</summary>
    public static int To(int port) => All().Count(socket => socket.Remote == port && socket.State is (Established or CloseWait));

    /// <summary>Whether a client socket towards a port has the server's end and nobody has closed it yet.</summary>
    public static bool IsInCloseWait(int port) => All().Any(socket => socket.Remote == port && socket.State == CloseWait);

    /// <summary>Whether the end of a connection that has the first port is in TIME_WAIT.</summary>
    public static bool IsInTimeWait(int local, int remote) => All().Contains((local, remote, TimeWaiting));

    static IEnumerable<(int Local, int Remote, string State)> All() => !OperatingSystem.IsLinux() ? [] :
        new[] { "/proc/self/net/tcp", "/proc/self/net/tcp6" }.Where(File.Exists).SelectMany(File.ReadLines)
            .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Where(fields => fields.Length > 3 && fields[1].Contains(':'))
            .Select(fields => (Port(fields[1]), Port(fields[2]), fields[3]));

    static int Port(string address) => int.Parse(address.AsSpan(address.LastIndexOf(':') + 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
