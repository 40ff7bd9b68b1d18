using System.Globalization;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Warmline.Options;

namespace Warmline.Transport;

/// <summary>The TLS options of one dial: the user's, with the target host and the protocols on offer set.</summary>
internal static class TlsOptions
{
    static readonly List<SslApplicationProtocol> BothProtocols = [SslApplicationProtocol.Http2, SslApplicationProtocol.Http11];
    static readonly List<SslApplicationProtocol> OnlyHttp1 = [SslApplicationProtocol.Http11];
    static readonly List<SslApplicationProtocol> OnlyHttp2 = [SslApplicationProtocol.Http2];

    /// <summary>
    /// The certificate callback only puts a cause into words; it does not keep TLS sessions from being resumed, as
    /// <see cref="SslClientAuthenticationOptions.LocalCertificateSelectionCallback"/> or a cipher suites policy would.
    /// </summary>
    public static SslClientAuthenticationOptions For(SslClientAuthenticationOptions? user, string tlsName, HttpProtocols protocols,
        CertificateCheck check)
    {
        SslClientAuthenticationOptions options = user is null ? new() : Copy(user);
        options.TargetHost = tlsName;
        options.RemoteCertificateValidationCallback = check.Validate;
        options.ApplicationProtocols = protocols switch
        {
            HttpProtocols.Http1 => OnlyHttp1,
            HttpProtocols.Http2 => OnlyHttp2,
            _ => BothProtocols,
        };
        return options;
    }

    /// <summary>A shallow copy: every property, as one dial must not change what the next one reads.</summary>
    internal static SslClientAuthenticationOptions Copy(SslClientAuthenticationOptions user)
    {
        var copy = new SslClientAuthenticationOptions
        {
            AllowRenegotiation = user.AllowRenegotiation,
            AllowTlsResume = user.AllowTlsResume,
            ApplicationProtocols = user.ApplicationProtocols,
            CertificateChainPolicy = user.CertificateChainPolicy,
            CertificateRevocationCheckMode = user.CertificateRevocationCheckMode,
            CipherSuitesPolicy = user.CipherSuitesPolicy,
            ClientCertificateContext = user.ClientCertificateContext,
            ClientCertificates = user.ClientCertificates,
            EnabledSslProtocols = user.EnabledSslProtocols,
            EncryptionPolicy = user.EncryptionPolicy,
            LocalCertificateSelectionCallback = user.LocalCertificateSelectionCallback,
            RemoteCertificateValidationCallback = user.RemoteCertificateValidationCallback,
            TargetHost = user.TargetHost,
        };
        if (OperatingSystem.IsLinux() || OperatingSystem.IsWindows())   // elsewhere the setters refuse
        {
            copy.AllowRsaPkcs1Padding = user.AllowRsaPkcs1Padding;
            copy.AllowRsaPssPadding = user.AllowRsaPssPadding;
        }

        return copy;
    }
}

/// <summary>
/// Judges the server's certificate as the platform or the user's callback does, and keeps in words what was wrong with it.
/// </summary>
internal sealed class CertificateCheck(RemoteCertificateValidationCallback? user, string tlsName, TimeProvider time)
{
    /// <summary>The issuer of the certificates of Warmline.MockLlm's server, made anew at each start.</summary>
    const string MockAuthority = "CN=Warmline mock authority";

    /// <summary>Why the certificate was refused; null when it was not.</summary>
    public string? Problem { get; private set; }

    /// <summary>
    /// What to change where only trust is missing, as a sentence after a space; null where something else was wrong as well, or the user's
    /// callback decides.
    /// </summary>
    public string? Advice { get; private set; }

    public bool Validate(object sender, X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (user is not null ? user(sender, certificate, chain, errors) : errors == SslPolicyErrors.None)
        {
            return true;
        }

        List<string> problems = [];
        var leaf = certificate as X509Certificate2;
        if (errors.HasFlag(SslPolicyErrors.RemoteCertificateNotAvailable))
        {
            problems.Add("the server presented no certificate");
        }

        if (errors.HasFlag(SslPolicyErrors.RemoteCertificateNameMismatch) && leaf is not null)
        {
            problems.Add($"the certificate is for another name: it names {Names(leaf)}, not '{tlsName}'");
        }

        if (errors.HasFlag(SslPolicyErrors.RemoteCertificateChainErrors) && chain is not null)
        {
            problems.AddRange(chain.ChainElements.SelectMany(Problems).Distinct());
        }

        if (user is null && errors == SslPolicyErrors.RemoteCertificateChainErrors
            && chain is { ChainElements: [.., { Certificate.Issuer: var issuer }] } && Array.TrueForAll(chain.ChainStatus, IsMissingTrust))
        {
            Advice = issuer == MockAuthority
                ? " Trust it by ConnectionPoolOptions.SslOptions = server.CreateClientSslOptions()."
                : " Trust it by ConnectionPoolOptions.SslOptions.";
        }

        string found = string.Join("; ", problems);
        Problem = user is null
            ? (found.Length > 0 ? found : $"the certificate is invalid ({errors})")
            : $"the RemoteCertificateValidationCallback refused the certificate of '{leaf?.Subject}'{(found.Length > 0 ? $" ({found})" : "")}";
        return false;
    }

    /// <summary>Of a chain that nobody trusts it may also be unknown whether a part was revoked.</summary>
    static bool IsMissingTrust(X509ChainStatus found) => found.Status is X509ChainStatusFlags.UntrustedRoot or X509ChainStatusFlags.PartialChain or X509ChainStatusFlags.RevocationStatusUnknown
        or X509ChainStatusFlags.OfflineRevocation;

    IEnumerable<string> Problems(X509ChainElement element)
    {
        X509Certificate2 certificate = element.Certificate;
        string subject = certificate.Subject;
        foreach (X509ChainStatus status in element.ChainElementStatus)
        {
            yield return status.Status switch
            {
                X509ChainStatusFlags.NotTimeValid when time.GetUtcNow().UtcDateTime < certificate.NotBefore.ToUniversalTime() =>
                    $"the certificate '{subject}' is not valid before {Day(certificate.NotBefore)} (NotTimeValid)",
                X509ChainStatusFlags.NotTimeValid => $"the certificate '{subject}' expired on {Day(certificate.NotAfter)} (NotTimeValid)",
                X509ChainStatusFlags.UntrustedRoot when subject == certificate.Issuer =>
                    $"the certificate is not trusted: its root '{subject}' is not a trusted authority (UntrustedRoot)",
                X509ChainStatusFlags.PartialChain =>
                    $"the certificate is not trusted: the issuer '{certificate.Issuer}' of '{subject}' is not known here; "
                    + "the server may not send its intermediate certificates (PartialChain)",
                X509ChainStatusFlags.Revoked => $"the certificate '{subject}' was revoked (Revoked)",
                _ => $"the certificate '{subject}' is invalid: {status.StatusInformation.TrimEnd('.', ' ')} ({status.Status})",
            };
        }
    }

    static string Names(X509Certificate2 certificate)
    {
        List<string> names = [];
        foreach (X509SubjectAlternativeNameExtension extension in certificate.Extensions.OfType<X509SubjectAlternativeNameExtension>())
        {
            names.AddRange(extension.EnumerateDnsNames());
            names.AddRange(extension.EnumerateIPAddresses().Select(address => address.ToString()));
        }

        const int Shown = 5;   // a CDN's certificate may name a hundred
        return names.Count == 0
            ? $"'{certificate.GetNameInfo(X509NameType.DnsName, forIssuer: false)}'"
            : string.Join(", ", names.Take(Shown).Select(name => $"'{name}'"))
                + (names.Count > Shown ? $" and {names.Count - Shown} more" : "");
    }

    static string Day(DateTime local) => local.ToUniversalTime().ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);
}
