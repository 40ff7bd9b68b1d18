using System.Net;

namespace Warmline.Options;

/// <summary>
/// Wraps the application's proxy object. If it throws, no proxy is used, as in .NET; if its credentials throw, none are sent.
/// <paramref name="failed"/> is called the first time.
/// </summary>
internal sealed class QuietProxy(IWebProxy inner, Action<Exception> failed) : IWebProxy, ICredentials
{
    int _isTold;

    public ICredentials? Credentials
    {
        get => this;
        set => throw new NotSupportedException();
    }

    public Uri? GetProxy(Uri destination)
    {
        try
        {
            return inner.GetProxy(destination);
        }
        catch (Exception error)
        {
            Tell(error);
            return null;
        }
    }

    public bool IsBypassed(Uri host)
    {
        try
        {
            return inner.IsBypassed(host);
        }
        catch (Exception error)
        {
            Tell(error);
            return true;
        }
    }

    NetworkCredential? ICredentials.GetCredential(Uri uri, string authType)
    {
        try
        {
            return inner.Credentials?.GetCredential(uri, authType);
        }
        catch (Exception error)
        {
            Tell(error);
            return null;
        }
    }

    void Tell(Exception error)
    {
        if (Interlocked.Exchange(ref _isTold, 1) == 0)
        {
            failed(error);
        }
    }
}
