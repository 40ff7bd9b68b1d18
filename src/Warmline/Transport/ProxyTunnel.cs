using System.Net;
using System.Text;
using Warmline.Options;

namespace Warmline.Transport;

/// <summary>What a proxy answered to CONNECT.</summary>
/// <param name="Status">The status code.</param>
/// <param name="Text">The status with its reason, fit to be shown.</param>
/// <param name="Schemes">The ways to authenticate that it offers, e.g. Basic.</param>
internal sealed record ProxyAnswer(int Status, string Text, IReadOnlyList<string> Schemes)
{
    public bool IsTunnel => Status is >= 200 and < 300;

    /// <summary>407; some say 401 to a wrong password.</summary>
    public bool WantsLogin => Status is (int)HttpStatusCode.ProxyAuthenticationRequired or (int)HttpStatusCode.Unauthorized;

    public bool WantsBasic => WantsLogin && Schemes.Contains("Basic", StringComparer.OrdinalIgnoreCase);
}

/// <summary>
/// CONNECT: asks an HTTP proxy for a tunnel and reads its answer, and not a byte more: what follows belongs to the tunnel.
/// </summary>
internal static class ProxyTunnel
{
    const int MaxHead = 64 * 1024;
    const int MaxReason = 100;

    static readonly string[] Challenges = ["Proxy-Authenticate", "WWW-Authenticate"];
    static readonly byte[] Start = "HTTP/1."u8.ToArray();

    /// <summary>What CONNECT says of itself where no caller's is known: some proxies refuse what says nothing.</summary>
    static readonly string DefaultAgent = $"Warmline/{typeof(ProxyTunnel).Assembly.GetName().Version!.ToString(3)}";

    /// <summary>
    /// Throws <see cref="EndOfStreamException"/> or <see cref="InvalidDataException"/> with a cause that continues a sentence about the
    /// proxy.
    /// </summary>
    public static async Task<ProxyAnswer> AskAsync(
        Stream proxy, string authority, string? basic, string? userAgent, CancellationToken cancellationToken)
    {
        var request = $"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {userAgent ?? DefaultAgent}\r\n"
            + $"{(basic is null ? "" : $"Proxy-Authorization: Basic {basic}\r\n")}\r\n";
        await proxy.WriteAsync(Encoding.ASCII.GetBytes(request), cancellationToken).ConfigureAwait(false);
        await proxy.FlushAsync(cancellationToken).ConfigureAwait(false);
        ProxyAnswer answer;
        do
        {
            answer = Parse(await ReadHeadAsync(proxy, cancellationToken).ConfigureAwait(false));
        }

        // Interim answers; how many there may be is the dial's timeout to say.
        while (answer.Status is >= 100 and < 200 and not (int)HttpStatusCode.SwitchingProtocols);

        return answer;
    }

    /// <summary>
    /// What goes into Proxy-Authorization: the proxy's own credentials, else those in its address. Null when there are none.
    /// </summary>
    public static string? BasicFor(ProxyAddress proxy, ICredentials? credentials)
    {
        if (credentials?.GetCredential(proxy.Uri, "Basic") is { UserName.Length: > 0 } known)   // the machine's own login has no name here
        {
            return Encode(known.Domain.Length > 0
                ? $"{known.Domain}\\{known.UserName}:{known.Password}" : $"{known.UserName}:{known.Password}");
        }

        return proxy.Uri.UserInfo is { Length: > 0 } user
            ? Encode(Uri.UnescapeDataString(user.Contains(':', StringComparison.Ordinal) ? user : user + ":")) : null;
    }

    static string Encode(string login) => Convert.ToBase64String(Encoding.UTF8.GetBytes(login));

    /// <summary>
    /// Reads up to the empty line. Each read asks for no more than must still come before the head can end, so the tunnel's first bytes
    /// stay where they are.
    /// </summary>
    static async Task<string> ReadHeadAsync(Stream proxy, CancellationToken cancellationToken)
    {
        var head = new byte[512];
        var length = 0;
        var end = LineEnd.None;
        while (end is not LineEnd.Empty)
        {
            var wanted = end is LineEnd.None ? 2 : 1;   // what ends the head at the earliest; some proxies end lines with LF alone
            if (length + wanted > MaxHead)
            {
                throw new InvalidDataException($"the headers of its reply to CONNECT exceed {MaxHead / 1024} KB");
            }

            if (length + wanted > head.Length)
            {
                Array.Resize(ref head, head.Length * 2);
            }

            var read = await proxy.ReadAsync(head.AsMemory(length, wanted), cancellationToken).ConfigureAwait(false);
            if (read == 0)
            {
                throw new EndOfStreamException(length == 0
                    ? "it closed the connection without an answer to CONNECT"
                    : "it closed the connection in the middle of its answer to CONNECT");
            }

            for (var i = length; i < length + read; i++)
            {
                var next = head[i];
                if ((i < Start.Length && next != Start[i]) || next == 0)
                {
                    throw NotHttp();   // at once: such a peer may go on, or keep silent, for ever
                }

                end = next switch
                {
                    (byte)'\n' => end is LineEnd.None ? LineEnd.Seen : LineEnd.Empty,
                    (byte)'\r' when end is LineEnd.Seen => LineEnd.SeenAndReturn,
                    _ => LineEnd.None,
                };
            }

            length += read;
        }

        return Encoding.Latin1.GetString(head, 0, length);
    }

    /// <summary>How much of the empty line that ends a head has come.</summary>
    enum LineEnd
    {
        None,
        Seen,
        SeenAndReturn,
        Empty,
    }

    static ProxyAnswer Parse(string head)
    {
        // HTTP/1.x SSS reason
        const int StatusAt = 9, StatusEnd = 12;
        var lines = Array.ConvertAll(head.Split('\n'), static line => line.TrimEnd('\r'));
        var line = lines[0];
        if (line.Length < StatusEnd || !char.IsAsciiDigit(line[7]) || line[8] != ' ' || !line[StatusAt..StatusEnd].All(char.IsAsciiDigit)
            || line[StatusAt] == '0' || (line.Length > StatusEnd && line[StatusEnd] != ' '))
        {
            throw NotHttp();
        }

        var reason = new string([.. line[StatusEnd..].Trim().Where(letter => letter is >= ' ' and <= '~').Take(MaxReason)]);
        var schemes = lines.Skip(1).Select(field => field.Split(':', 2))
            .Where(field => field is [var name, _] && Challenges.Contains(name, StringComparer.OrdinalIgnoreCase))
            .SelectMany(field => field[1].Split(',')).Select(challenge => challenge.Trim().Split(' ')[0])
                .Where(scheme => scheme.Length is > 0 and < 30 && scheme.All(char.IsAsciiLetterOrDigit));
        return new ProxyAnswer(int.Parse(line.AsSpan(StatusAt, 3), provider: null),
            $"{line[StatusAt..StatusEnd]} {reason}".Trim(), [.. schemes]);
    }

    static InvalidDataException NotHttp() => new("its reply to CONNECT is not HTTP/1.1, so it may not be an HTTP proxy");
}
