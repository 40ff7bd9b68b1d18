using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Warmline.MockLlm;

/// <summary>An authority and a server certificate, made in memory at every start: nothing to install, nothing to leak.</summary>
internal sealed class MockCertificates : IDisposable
{
    static readonly Oid ServerAuthentication = new("1.3.6.1.5.5.7.3.1");

    MockCertificates(X509Certificate2 authority, X509Certificate2 leaf)
    {
        Authority = authority;
        Leaf = leaf;
    }

    /// <summary>What clients trust; no private key.</summary>
    public X509Certificate2 Authority { get; }

    public X509Certificate2 Leaf { get; }

    /// <remarks>The time is the system's, because that is what a TLS stack checks against.</remarks>
    public static MockCertificates Create(IEnumerable<string> names, MockCertificate kind, DateTimeOffset now)
    {
        // At most 398 days: some platforms refuse server certificates that live longer.
        var (from, to) = (now.AddDays(-1), now.AddDays(397));
        using var trusted = CreateAuthority("Warmline mock authority", from.AddDays(-1), to);
        using var stranger = kind == MockCertificate.Untrusted ? CreateAuthority("Warmline mock stranger", from.AddDays(-1), to) : null;
        var leaf = kind switch
        {
            MockCertificate.Expired => CreateLeaf(trusted, names, from, now.AddHours(-1)),
            MockCertificate.WrongName => CreateLeaf(trusted, ["another-server.invalid"], from, to),
            _ => CreateLeaf(stranger ?? trusted, names, from, to),
        };
        return new MockCertificates(X509CertificateLoader.LoadCertificate(trusted.RawData), leaf);
    }

    public void Dispose()
    {
        Authority.Dispose();
        Leaf.Dispose();
    }

    static X509Certificate2 CreateAuthority(string name, DateTimeOffset from, DateTimeOffset to)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        return request.CreateSelfSigned(from, to);
    }

    static X509Certificate2 CreateLeaf(X509Certificate2 authority, IEnumerable<string> names, DateTimeOffset from, DateTimeOffset to)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var alternatives = new SubjectAlternativeNameBuilder();
        foreach (var name in names.Distinct(StringComparer.OrdinalIgnoreCase))
        {
            if (IPAddress.TryParse(name, out var address))
            {
                alternatives.AddIpAddress(address);
            }
            else
            {
                alternatives.AddDnsName(name);
            }
        }

        var request = new CertificateRequest("CN=Warmline mock", key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([ServerAuthentication], false));
        request.CertificateExtensions.Add(alternatives.Build());
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(authority, true, false));
        using var bare = request.Create(authority, from, to, RandomNumberGenerator.GetBytes(16));
        var leaf = bare.CopyWithPrivateKey(key);
        if (!OperatingSystem.IsWindows())
        {
            return leaf;
        }

        // Windows serves TLS only with a key that is in a key store, which an import makes.
        using (leaf)
        {
            return X509CertificateLoader.LoadPkcs12(leaf.Export(X509ContentType.Pfx), null);
        }
    }
}
