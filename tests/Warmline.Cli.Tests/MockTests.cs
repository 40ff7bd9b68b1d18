using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Warmline.Cli.Tests;

/// <summary><c>mock</c> as a process of its own.</summary>
public sealed class MockTests
{
    [Fact(Timeout = Cli.TestLimit)]
    public async Task ItClosesWhatIsIdleForAsLongAsItIsTold()
    {
        using var mock = Cli.Start([], "mock", "--port", "0", "--plaintext", "--quiet", "--idle-timeout", "300ms");
        try
        {
            var address = new Uri((await mock.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken))!);
            using var client = new TcpClient(address.Host, address.Port);
            await client.Client.SendAsync(Encoding.ASCII.GetBytes("GET /v1/models HTTP/1.1\r\nHost: mock\r\n\r\n"), TestContext.Current.CancellationToken);

            // The answer, and then the end: without it this would not come back.
            var all = await new StreamReader(client.GetStream()).ReadToEndAsync(TestContext.Current.CancellationToken);
            Assert.StartsWith("HTTP/1.1 200", all, StringComparison.Ordinal);
        }
        finally
        {
            mock.Kill();
            await mock.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("-INT", false)]
    [InlineData("-TERM", false)]
    [InlineData("-TERM", true)]
    public async Task ItTakesItsAuthorityAlongUnlessTheFileWasNamed(string signal, bool named)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() || OperatingSystem.IsMacOS(), "signals are sent by kill");
        var directory = Directory.CreateTempSubdirectory("warmline-mock-test").FullName;
        var file = Path.Combine(directory, "named.pem");
        using var mock = Cli.Start([("TMPDIR", directory)], ["mock", "--port", "0", "--quiet", .. named ? new[] { "--ca-file", file } : []]);
        try
        {
            var address = new Uri((await mock.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken))!);
            file = named ? file : Path.Combine(directory, $"warmline-mock-ca-{address.Port}.pem");
            Assert.True(File.Exists(file), file);

            using (var kill = Process.Start("kill", [signal, mock.Id.ToString(CultureInfo.InvariantCulture)]))
            {
                await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
            }

            await mock.WaitForExitAsync(TestContext.Current.CancellationToken);
            Assert.Equal((0, named), (mock.ExitCode, File.Exists(file)));
        }
        finally
        {
            if (!mock.HasExited)
            {
                mock.Kill();
            }

            Directory.Delete(directory, recursive: true);
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("0s", "a time above 0")]
    [InlineData("soon", "a time from 0 to 86400s")]
    public async Task AnIdleTimeoutThatIsNoneIsOneClearError(string value, string range)
    {
        var result = await Cli.RunAsync("mock", "--idle-timeout", value);

        Assert.Equal((2, ""), (result.ExitCode, result.Output));
        Assert.All(["--idle-timeout", $"'{value}'", range], part => Assert.Contains(part, result.Errors));
    }

    [Fact(Timeout = Cli.TestLimit)]
    public async Task ItRefusesWhatIsAboveTheLimit()
    {
        using var mock = Cli.Start([], "mock", "--port", "0", "--plaintext", "--quiet", "--requests-per-window", "2", "--window", "86400s");
        try
        {
            using var client = new HttpClient { BaseAddress = new Uri((await mock.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken))!) };
            var statuses = new List<int>();
            for (var i = 0; i < 3; i++)
            {
                using var answer = await client.PostAsync("v1/chat/completions", new StringContent("{}"), TestContext.Current.CancellationToken);
                statuses.Add((int)answer.StatusCode);
            }

            Assert.Equal([200, 200, 429], statuses);
        }
        finally
        {
            mock.Kill();
            await mock.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
    }

    [Theory(Timeout = Cli.TestLimit)]
    [InlineData("--requests-per-window", "-1", "a whole number from 0 to 1000000000")]
    [InlineData("--tokens-per-window", "many", "a whole number from 0 to 2000000000")]
    [InlineData("--window", "0s", "a time from 10ms to 86400s")]
    public async Task ALimitThatIsNoneIsOneClearError(string option, string value, string range)
    {
        var result = await Cli.RunAsync("mock", option, value);

        Assert.Equal((2, ""), (result.ExitCode, result.Output));
        Assert.All([option, $"'{value}'", range], part => Assert.Contains(part, result.Errors));
    }
}
