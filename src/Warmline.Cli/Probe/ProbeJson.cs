using System.Text.Json;

namespace Warmline.Cli.Probe;

/// <summary>
/// What a program reads; docs/probe.md lists the names, and they stay. Times are in milliseconds unless the name says otherwise.
/// </summary>
internal static class ProbeJson
{
    static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    public static string Format(ProbeSettings settings, ProbeResult result, TimeProvider time) => JsonSerializer.Serialize(
        new
        {
            Url = settings.Display,
            Method = settings.Method.Method,
            Status = (int?)result.Cold?.Call.Status,
            Protocol = result.Cold is null ? null : result.IsHttp2 ? "h2" : "http/1.1",
            Remote = result.Cold?.Remote?.ToString(),
            Proxy = settings.Key.Proxy?.ToString(),
            Tls = result.Tls is not { } tls ? null : new
            {
                Version = ProbeReport.Version(tls.Version),
                Cipher = tls.Cipher.ToString(),
                tls.Alpn,
                result.Resumed,
                FirstHandshakeBytes = result.Cold?.HandshakeBytes,
                SecondHandshakeBytes = result.Second?.HandshakeBytes,
                Certificate = tls.Certificate is not { } certificate ? null : new
                {
                    certificate.Subject,
                    certificate.Issuer,
                    NotBefore = certificate.NotBefore.ToUniversalTime(),
                    NotAfter = certificate.NotAfter.ToUniversalTime(),
                    DaysLeft = Math.Round((certificate.NotAfter.ToUniversalTime() - time.GetUtcNow().UtcDateTime).TotalDays, 1),
                    Checked = !settings.Insecure,
                },
            },
            Http2 = result.Http2,
            Cold = Connection(result.Cold),
            Warm = result.Warm.Select(Call),
            WarmMedian = result.WarmMedian is { } median ? Call(median) : null,
            SecondConnection = Connection(result.Second),
            SavedMs = result.WarmMedian is { } warm ? Ms(result.Cold?.Total - warm.Total) : null,
            KeptOpen = !result.NotKept,
            Idle = result.Idle is not { } idle ? null : new { WaitedSeconds = Math.Round(idle.Waited.TotalSeconds, 3), idle.Ended, idle.Answers },
            result.Interrupted,
        },
        Indented);

    static object? Connection(ProbeConnection? connection) => connection is null ? null : new
    {
        Status = (int)connection.Call.Status,
        DnsMs = Ms(connection.Dial.Dns),
        TcpMs = Ms(connection.Dial.Tcp),
        ProxyMs = Ms(connection.Dial.Proxy),
        TlsMs = Ms(connection.Dial.Tls),
        FirstByteMs = Ms(connection.Call.FirstByte),
        BodyMs = Ms(connection.Call.Body),
        BodyBytes = connection.Call.Bytes,
        TotalMs = Ms(connection.Total),
    };

    static object Call(ProbeCall call) => new
    {
        Status = (int)call.Status,
        FirstByteMs = Ms(call.FirstByte),
        BodyMs = Ms(call.Body),
        BodyBytes = call.Bytes,
        TotalMs = Ms(call.Total),
    };

    static double? Ms(TimeSpan? time) => time is { } value ? Math.Round(value.TotalMilliseconds, 3) : null;
}
