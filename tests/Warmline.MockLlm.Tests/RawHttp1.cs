using System.Net.Security;
using System.Text;

namespace Warmline.MockLlm.Tests;

/// <summary>An HTTP/1.1 client that shows every byte it gets and how they ended.</summary>
sealed class RawHttp1(SslStream tls) : IDisposable
{
    readonly byte[] _buffer = new byte[16 * 1024];

    public static async Task<RawHttp1> ConnectAsync(MockLlmServer server) => new(await RawHttp2.TlsAsync(server, SslApplicationProtocol.Http11));

    /// <summary>A chat completion.</summary>
    public Task PostAsync(bool stream, params (string Name, string Value)[] headers)
    {
        var body = $$"""{"model":"m","stream":{{(stream ? "true" : "false")}},"messages":[]}""";
        var head = string.Concat(headers.Select(h => $"{h.Name}: {h.Value}\r\n"));
        return tls.WriteAsync(Encoding.ASCII.GetBytes($"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {body.Length}\r\n\r\n{body}")).AsTask();
    }

    /// <summary>Reads on until the text is there.</summary>
    public async Task<string> UntilAsync(string text)
    {
        var all = "";
        while (!all.Contains(text, StringComparison.Ordinal))
        {
            var read = await tls.ReadAsync(_buffer);
            all += read > 0 ? Encoding.ASCII.GetString(_buffer, 0, read) : throw new EndOfStreamException($"Ended after: {all}");
        }

        return all;
    }

    public async Task<(string Text, RawEnd End)> ToEndAsync()
    {
        var all = "";
        try
        {
            while (await tls.ReadAsync(_buffer) is > 0 and var read)
            {
                all += Encoding.ASCII.GetString(_buffer, 0, read);
            }

            return (all, RawEnd.Fin);
        }
        catch (IOException)
        {
            return (all, RawEnd.Reset);
        }
    }

    public void Dispose() => tls.Dispose();
}
