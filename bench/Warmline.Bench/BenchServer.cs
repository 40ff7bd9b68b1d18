using System.Diagnostics;
using System.Globalization;
using Warmline.MockLlm;

namespace Warmline.Bench;

/// <summary>The mock provider in a process of its own, on a core of its own, so that what the client costs can be told apart.</summary>
sealed class BenchServer : IAsyncDisposable
{
    readonly Process _process;

    BenchServer(Process process, Uri address, string caPem)
    {
        _process = process;
        Address = address;
        CaPem = caPem;
    }

    public Uri Address { get; }

    public string CaPem { get; }

    public TimeSpan Cpu
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime;
        }
    }

    /// <param name="tokenGap">Milliseconds between the tokens of a stream.</param>
    public static async Task<BenchServer> StartAsync(int tokenGap = 0)
    {
        var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, ["serve", "--token-gap", tokenGap.ToString(CultureInfo.InvariantCulture)]) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardInput = true })!;
        var address = await process.StandardOutput.ReadLineAsync() ?? throw new InvalidOperationException("The server did not start.");
        var lines = int.Parse((await process.StandardOutput.ReadLineAsync())!, CultureInfo.InvariantCulture);
        var pem = "";
        for (var i = 0; i < lines; i++)
        {
            pem += await process.StandardOutput.ReadLineAsync() + "\n";
        }

        if (OperatingSystem.IsLinux() && Environment.ProcessorCount > 1)
        {
            process.ProcessorAffinity = 2;
            using var self = Process.GetCurrentProcess();
            self.ProcessorAffinity = 1;
        }

        return new BenchServer(process, new Uri(address), pem);
    }

    public static async Task<int> ServeAsync(int tokenGap, CancellationToken stop)
    {
        await using var mock = await MockLlmServer.StartAsync(new MockLlmOptions { Tokens = 4, MaxStreamsPerConnection = 100, TokenGap = TimeSpan.FromMilliseconds(tokenGap) }, cancellationToken: stop);
        var pem = mock.CertificateAuthority.ExportCertificatePem().Trim();
        Console.WriteLine(mock.BaseAddress);
        Console.WriteLine(pem.Split('\n').Length);
        Console.WriteLine(pem);
        await Console.In.ReadToEndAsync(stop);   // until the parent is gone
        return 0;
    }

    public async ValueTask DisposeAsync()
    {
        _process.StandardInput.Close();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }
}
