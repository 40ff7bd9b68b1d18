using System.Globalization;
using System.Net;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Spectre.Console;
using Spectre.Console.Rendering;
using Warmline.Cli.Demo;

namespace Warmline.Cli.Probe;

/// <summary>What a person reads: the facts, the table of phases, the picture, the sentences. Made for 80 columns.</summary>
internal sealed class ProbeReport(IAnsiConsole console, ProbeSettings settings, ProbeResult result, TimeProvider time)
{
    const int LabelWidth = 13;

    public void Write()
    {
        if (result.Cold is not { } cold)
        {
            return;
        }

        console.WriteLine(Line($"{settings.Method} {settings.Display}: {Status(cold.Call.Status)} over {(result.IsHttp2 ? "HTTP/2" : "HTTP/1.1")}"));
        console.WriteLine();
        WriteFacts(cold);
        WriteTable(cold);
        WritePicture(cold);
        console.WriteLine();
        foreach (var sentence in Sentences(cold))
        {
            console.WriteLine(sentence);
        }
    }

    void WriteFacts(ProbeConnection cold)
    {
        var facts = new Grid().AddColumn(new GridColumn().NoWrap().Width(LabelWidth).Padding(1, 0, 2, 0)).AddColumn(new GridColumn().Padding(0, 0, 0, 0));
        Fact(settings.Key.Proxy is null ? "address" : "proxy", settings.Key.Proxy is { } proxy ? $"{proxy} ({cold.Remote})" : $"{cold.Remote}");
        if (result.Tls is { } tls)
        {
            Fact("TLS", $"{Version(tls.Version)}, {tls.Cipher}, ALPN {tls.Alpn}{(settings.Insecure ? "; certificate not checked (--insecure)" : "")}");
            if (tls.Certificate is { } certificate)
            {
                Fact("certificate", Line($"{Name(certificate.SubjectName, certificate)}, by {IssuerName(certificate)}, until {certificate.NotAfter.ToUniversalTime():yyyy-MM-dd} ({Days(certificate)})"));
            }
        }

        if (result.Resumed is { } resumed)
        {
            Fact("TLS resumed", resumed ? Line($"yes, on the second connection: {result.Second!.HandshakeBytes} bytes after {cold.HandshakeBytes}") : WhyNotResumed(cold));
        }

        if (result.Http2 is { } http2)
        {
            Fact("HTTP/2", Line($"{(http2.MaxConcurrentStreams is { } streams ? $"{streams} streams" : "no stream limit")}, windows: stream {Size(http2.InitialWindowSize)}, connection {Size(http2.ConnectionWindow)}; frames up to {Size(http2.MaxFrameSize)}"));
        }

        if (result.Idle is { } idle)
        {
            Fact("idle", IdleText(idle));
        }

        console.Write(facts);
        void Fact(string label, string text) => facts.AddRow(new Text(label), new Text(text));
    }

    void WriteTable(ProbeConnection cold)
    {
        var table = new Table().Border(TableBorder.Simple);
        table.AddColumn(new TableColumn("").NoWrap());
        foreach (var title in new[] { "cold call", result.Warm.Count > 1 ? Line($"warm call ({result.Warm.Count}, median)") : "warm call", "new connection" })
        {
            table.AddColumn(new TableColumn(new Text(title)).RightAligned().NoWrap());
        }

        foreach (var (name, pick) in Phases(cold))
        {
            Row(name, pick(cold), null, result.Second is { } second ? pick(second) : null);
        }

        Row("first byte", cold.Call.FirstByte, result.WarmMedian?.FirstByte, result.Second?.Call.FirstByte);
        Row("rest of answer", cold.Call.Body, result.WarmMedian?.Body, result.Second?.Call.Body);
        Row("total", cold.Total, result.WarmMedian?.Total, result.Second?.Total);
        console.Write(table);

        void Row(string name, params TimeSpan?[] times) => table.AddRow([new Text(name), .. times.Select(figure => new Text(figure is { } t ? DemoText.Time(t) : "-"))]);
    }

    /// <summary>Each phase where it lies in time; the warm call below, on the same scale.</summary>
    void WritePicture(ProbeConnection cold)
    {
        var width = Math.Clamp(console.Profile.Width - LabelWidth - 16, 10, 90);
        var whole = Math.Max(cold.Total.TotalMilliseconds, result.WarmMedian?.Total.TotalMilliseconds ?? 0);
        var at = TimeSpan.Zero;
        console.WriteLine("Where the time of a cold call goes, and of a warm one");
        var grid = new Grid().AddColumn(new GridColumn().NoWrap().Width(LabelWidth + 2).Padding(1, 0, 2, 0)).AddColumn(new GridColumn().NoWrap().Padding(0, 0, 0, 0));
        foreach (var (name, pick) in Phases(cold))
        {
            Bar(name, pick(cold), Color.Blue);
        }

        Bar("first byte", cold.Call.FirstByte, Color.Grey);
        if (result.WarmMedian is { } warm)
        {
            at = TimeSpan.Zero;
            Bar("warm call", warm.FirstByte, Color.Green);
        }

        console.Write(grid);

        void Bar(string name, TimeSpan length, Color color)
        {
            int Column(TimeSpan t) => whole <= 0 ? 0 : (int)Math.Round(t.TotalMilliseconds / whole * width);
            var from = Math.Min(Column(at), width - 1);
            var bar = new Paragraph().Append(new string(' ', from)).Append(new string(console.Profile.Capabilities.Unicode ? '█' : '#', Math.Max(1, Column(at + length) - from)), new Style(color));
            grid.AddRow((IRenderable)new Text(name), bar.Append(" " + DemoText.Time(length)));
            at += length;
        }
    }

    IEnumerable<string> Sentences(ProbeConnection cold)
    {
        if (result.WarmMedian is { } warm)
        {
            var saved = cold.Total - warm.Total;
            yield return saved > TimeSpan.Zero
                ? Line($"A kept connection saves {DemoText.Time(saved)} of {DemoText.Time(cold.Total)} per call ({saved / cold.Total * 100:0} %).")
                : "A kept connection saved nothing measurable here.";
        }

        if (result.NotKept)
        {
            yield return "The server closed the connection after an answer: a pool cannot keep it.";
        }

        if (result.Idle is { Ended: not null } idle)
        {
            yield return Line($"Set IdleTimeout below {Math.Floor(idle.Waited.TotalSeconds):0} s, or a call may meet a connection that is closing.");
        }
        else if (result.Idle is { Answers: false } lost)
        {
            yield return Line($"Something on the way forgets idle connections silently: set IdleTimeout well below {lost.Waited.TotalSeconds:0} s.");
        }

        if (cold.Call.Status is HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden)
        {
            yield return "The connection works; for an answer beyond that give a key by --key-env.";
        }

        if (result.Interrupted)
        {
            yield return "Stopped before it was through; this is what was known by then.";
        }
    }

    string WhyNotResumed(ProbeConnection cold) => Line($"no ({result.Second!.HandshakeBytes} bytes after {cold.HandshakeBytes})")
        + (IPAddress.TryParse(settings.Key.TlsName, out _) ? "; sessions are only resumed for host names, not addresses" : "");

    IEnumerable<(string Name, Func<ProbeConnection, TimeSpan> Pick)> Phases(ProbeConnection cold)
    {
        yield return ("DNS", connection => connection.Dial.Dns);
        yield return ("TCP", connection => connection.Dial.Tcp);
        if (settings.Key.Proxy is not null)
        {
            yield return ("proxy", connection => connection.Dial.Proxy);
        }

        if (settings.Key.IsHttps)
        {
            yield return ("TLS", connection => connection.Dial.Tls);
        }
    }

    string Days(X509Certificate2 certificate)
    {
        var left = certificate.NotAfter.ToUniversalTime() - time.GetUtcNow().UtcDateTime;
        return left < TimeSpan.Zero ? "EXPIRED" : Line($"{left.TotalDays:0} days left");
    }

    static string IdleText(ProbeIdle idle) => idle switch
    {
        { Ended: { } how } => Line($"the server closed it after {idle.Waited.TotalSeconds:0.0} s{(how == "goaway" ? " (GOAWAY)" : "")}"),
        { Answers: true } => Line($"still open after {idle.Waited.TotalSeconds:0} s, and it answers"),
        { Answers: false } => Line($"looked open after {idle.Waited.TotalSeconds:0} s, but a call on it got no answer"),
        _ => Line($"still open after {idle.Waited.TotalSeconds:0.0} s"),
    };

    static string Name(X500DistinguishedName subject, X509Certificate2 certificate) => certificate.GetNameInfo(X509NameType.SimpleName, forIssuer: false) is { Length: > 0 } name ? name : subject.Name;

    static string IssuerName(X509Certificate2 certificate) => certificate.GetNameInfo(X509NameType.SimpleName, forIssuer: true) is { Length: > 0 } name ? name : certificate.Issuer;

    public static string Version(SslProtocols version) => version switch
    {
        SslProtocols.Tls13 => "1.3",
        SslProtocols.Tls12 => "1.2",
        _ => version.ToString(),
    };

    static string Status(HttpStatusCode status) => Enum.IsDefined(status) ? $"{(int)status} {status}" : $"{(int)status}";

    static string Size(long bytes) => bytes >= 1024 && bytes % 1024 is 0 or 1023 ? Line($"{(bytes + 1) / 1024} KB") : Line($"{bytes} B");

    static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
