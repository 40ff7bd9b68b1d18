using System.Globalization;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;

namespace Warmline.Tests.Faults;

/// <summary>A server's connection that speaks HTTP/1.1.</summary>
internal sealed class Http1Wire(FaultServer server, Socket socket, int number) : Wire(server, socket, number)
{
    readonly byte[] _buffer = new byte[64 * 1024];
    readonly StringBuilder _unread = new();
    long? _length;

    protected override SslApplicationProtocol Protocol => SslApplicationProtocol.Http11;

    public override Task HeadAsync(Copy copy, int status = 200, long? length = null, string headers = "")
    {
        _length = length;
        copy.SaidHead = true;
        var framing = length is { } bytes ? $"Content-Length: {bytes}" : "Transfer-Encoding: chunked";
        return WriteAsync(string.Create(CultureInfo.InvariantCulture, $"HTTP/1.1 {status} Status\r\n{(HasType(headers) ? "" : "Content-Type: text/event-stream\r\n")}{headers}{framing}\r\n\r\n"));
    }

    public override Task PartAsync(Copy copy, string text)
    {
        copy.Said += text;
        copy.AnsweredWhole = _length == copy.Said.Length;   // before it is written: the client may know it whole before EndAsync says so
        return WriteAsync(_length is null ? string.Create(CultureInfo.InvariantCulture, $"{text.Length:x}\r\n{text}\r\n") : text);
    }

    public override async Task EndAsync(Copy copy)
    {
        copy.AnsweredWhole = _length is null || _length == copy.Said.Length;
        Answered(copy);
        if (_length is null)
        {
            await WriteAsync("0\r\n\r\n");
        }
    }

    protected override Task GreetAsync() => Task.CompletedTask;

    protected override async Task ReadRequestsAsync()
    {
        while (true)
        {
            string head;
            for (int end; ; await FillAsync())
            {
                if ((end = _unread.ToString().IndexOf("\r\n\r\n", StringComparison.Ordinal)) >= 0)
                {
                    head = _unread.ToString(0, end + 2);
                    _unread.Remove(0, end + 4);
                    break;
                }
            }

            var copy = Arrived(head, 0);
            if (head.Contains("Transfer-Encoding: chunked", StringComparison.OrdinalIgnoreCase))
            {
                for (long size = 1; size > 0; await SkipAsync(copy, size), await SkipAsync(null, 2))
                {
                    size = long.Parse(await LineAsync(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                }
            }
            else if (head.Split("\r\n").FirstOrDefault(line => line.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase)) is { } line)
            {
                await SkipAsync(copy, long.Parse(line.AsSpan(15), CultureInfo.InvariantCulture));
            }

            copy.NoteWhole();
        }
    }

    async Task<string> LineAsync()
    {
        int end;
        while ((end = _unread.ToString().IndexOf("\r\n", StringComparison.Ordinal)) < 0)
        {
            await FillAsync();
        }

        var line = _unread.ToString(0, end);
        _unread.Remove(0, end + 2);
        return line;
    }

    async Task SkipAsync(Copy? copy, long count)
    {
        while (count > 0)
        {
            if (_unread.Length == 0)
            {
                await FillAsync();
            }

            var taken = (int)Math.Min(count, _unread.Length);
            _unread.Remove(0, taken);
            count -= taken;
            copy?.Uploaded += taken;
        }
    }

    async Task FillAsync()
    {
        var read = await Stream.ReadAsync(_buffer, Server.End);
        if (IsDeaf)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, Server.Time, Server.End);   // what came was never seen
        }

        if (read == 0)
        {
            throw new EndOfStreamException();
        }

        _unread.Append(Encoding.Latin1.GetString(_buffer, 0, read));
    }
}
