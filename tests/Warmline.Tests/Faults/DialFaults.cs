using System.Net;
using System.Net.Sockets;
using Warmline.Tests.Http;
using Warmline.Tests.Support;
using static Warmline.Tests.Faults.Http2Faults;
using static Warmline.Tests.Faults.Steps;

namespace Warmline.Tests.Faults;

/// <summary>Faults on the way to a connection: names, TCP, TLS, HTTP/2's first words.</summary>
internal static class DialFaults
{
    const string NoConnectClock = "the platform's `ConnectTimeout` is infinite by default";
    const string OneAttempt = "the platform dials one HTTP/2 connection at a time with no timeout, and all calls wait for it; "
        + "the pool starts another dial when one stalls";

    const string Nonsense = "What is this? It is no protocol that anybody speaks. ";

    static readonly IPAddress Other = IPAddress.Parse("127.0.0.2");

    public static Fault[] All =>
    [
        new("the name does not resolve", s =>
        {
            s.Network.Resolve = static (_, _) => throw new SocketException((int)SocketError.HostNotFound);
            return s.CallAsync();
        })
        { OwnNetwork = true },
        new("the resolver does not answer", s =>
        {
            s.Network.Resolve = static (_, ct) => FakeNetwork.StallAsync<IPAddress[]>(ct);
            return s.CallAsync();
        })
        { OwnNetwork = true, Reason = NoConnectClock },
        new("the name no longer resolves when a connection has to be replaced", async s =>
        {
            await s.PrepareAsync();
            s.Network.Resolve = static (_, _) => throw new SocketException((int)SocketError.HostNotFound);
            await s.CueAsync();
            await s.IdleAsync(TimeSpan.FromSeconds(2));
            await s.CallAsync();
        })
        { First = [Answer, Cue, Fin], OwnNetwork = true, Reason = "the pool remembers names (`Dns.CacheTtl`)" },
        new("the name moves to another address; a call 15 minutes later", async s =>
        {
            var connect = s.Network.Connect;
            IPAddress? last = null;
            s.Network.Connect = (endPoint, ct) => connect(new IPEndPoint(IPAddress.Loopback, (last = endPoint.Address) is null ? 0 : endPoint.Port), ct);
            await s.PrepareAsync();
            s.Network.Resolve = static (_, _) => new([Other]);
            await s.IdleAsync(TimeSpan.FromMinutes(15));
            await s.CallAsync();
            s.Note = Other.Equals(last) ? "at the new address" : "at the old address";
        })
        { OwnNetwork = true, Reason = "the pool looks names in use up again (`Dns.CacheTtl`), and leaves an address that two answers in a row lack; the platform stays as long as the connection lives" },
        new("SYN never answered", s =>
        {
            s.Network.Connect = static (_, ct) => FakeNetwork.StallAsync<Stream>(ct);
            return s.CallAsync();
        })
        { OwnNetwork = true, Reason = NoConnectClock },
        new("SYN never answered at the first of two addresses", s =>
        {
            var connect = s.Network.Connect;
            s.Network.Resolve = static (_, _) => new([Other, IPAddress.Loopback]);
            s.Network.Connect = (endPoint, ct) => endPoint.Address.Equals(Other) ? FakeNetwork.StallAsync<Stream>(ct) : connect(endPoint, ct);
            return s.CallAsync();
        })
        { OwnNetwork = true, Reason = "the platform tries one address after the other, each as long as the system does; the pool begins with the next after 250 ms" },
        new("SYN never answered at the first attempt; two calls", s =>
        {
            var (connect, attempts) = (s.Network.Connect, 0);
            s.Network.Connect = (endPoint, ct) => Interlocked.Increment(ref attempts) == 1 ? FakeNetwork.StallAsync<Stream>(ct) : connect(endPoint, ct);
            return s.BurstAsync(2);
        })
        { OwnNetwork = true, Reason = OneAttempt },
        new("the connection is refused", s =>
        {
            s.Network.Connect = static (_, _) => throw new SocketException((int)SocketError.ConnectionRefused);
            return s.CallAsync();
        })
        { OwnNetwork = true },
        new("TLS handshake never answered", Once) { Script = static _ => [Silence], Reason = NoConnectClock },
        new("TLS handshake never answered on the first of two connections", s => s.BurstAsync(2)) { First = [Silence], Reason = OneAttempt },
        new("FIN instead of a TLS handshake", Once) { Script = static _ => [Hello, Fin] },
        new("RST instead of a TLS handshake", Once) { Script = static _ => [Hello, Reset] },
        new("nonsense instead of a TLS handshake", Once) { Script = static _ => [Hello, Raw(Nonsense), Fin] },
        new("SETTINGS never sent", Once) { Script = static _ => [Tls, Silence], On = On.Http2, Reason = NoConnectClock },
        new("SETTINGS never sent on the first of two connections", s => s.BurstAsync(2)) { First = [Tls, Silence], On = On.Http2, Reason = OneAttempt },
        new("FIN instead of SETTINGS", Once) { Script = static _ => [Tls, Hello, Fin], On = On.Http2, AnyReason = true, MostConnections = 4, NoticedEither = ["at once", "within 1 s"] },
        new("nonsense instead of SETTINGS", Once) { Script = static _ => [Tls, Hello, Raw(Nonsense), Fin], On = On.Http2, AnyReason = true, Either = ["PoolConnectException", "PoolRequestException"] },
    ];
}
