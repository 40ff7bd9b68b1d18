using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Warmline.MockLlm;

namespace Warmline.Hosting.Tests;

/// <summary>The application as a process of its own, stopped by the signal that a container sends.</summary>
public sealed partial class SignalTests
{
    const int Terminate = 15;

    [Fact(Timeout = AppRig.Patience)]
    public async Task Streams_that_run_end_and_new_requests_are_refused()
    {
        await using var rig = await AppRig.CreateAsync();
        using var app = await ChildApp.StartAsync(rig);
        var streams = await app.RelayAsync(5, tokens: 150, gapMilliseconds: 20);
        app.Signal(Terminate);
        await app.RefusedAsync();
        await app.SaidAsync("the host is stopping. Running calls have 28 s to finish");
        Assert.All(streams, stream => Assert.False(stream.IsCompleted));

        foreach (var text in await Task.WhenAll(streams))
        {
            Assert.Equal(150, text.Split("\"content\":").Length - 2);   // one more in the head
            Assert.EndsWith("data: [DONE]\n\n", text, StringComparison.Ordinal);
        }

        Assert.Equal(0, await app.ExitCodeAsync());
        Assert.Equal((5, 5, 0), (rig.Mock.GetCounters().Requests, rig.Mock.GetCounters().RequestsCompleted, rig.Mock.GetCounters().AbortedRequests));
        Assert.DoesNotContain(app.Lines, line => line.Contains("left open", StringComparison.Ordinal) || line.Contains("requests cut", StringComparison.Ordinal));
    }

    [Fact(Timeout = AppRig.Patience)]
    public async Task At_the_deadline_and_not_before_streams_are_cut_with_the_reason()
    {
        await using var rig = await AppRig.CreateAsync(settings: """{ "Hosting": { "DrainTimeout": "3s" } }""");
        using var app = await ChildApp.StartAsync(rig);
        var streams = await app.RelayAsync(3, tokens: 1_000_000, gapMilliseconds: 20);
        var start = Eventually.Clock.GetTimestamp();
        app.Signal(Terminate);
        await app.RefusedAsync();

        foreach (var text in await Task.WhenAll(streams))
        {
            Assert.EndsWith("event: cut\ndata: Draining\n\n", text, StringComparison.Ordinal);
        }

        Assert.True(Eventually.Clock.GetElapsedTime(start) >= TimeSpan.FromSeconds(3), "cut before the deadline");
        Assert.Equal(0, await app.ExitCodeAsync());
        await rig.Mock.WaitForAsync(counters => counters.AbortedRequests == 3, AppRig.Ct);
    }

    [Fact(Timeout = AppRig.Patience)]
    public async Task A_program_that_ends_with_its_pool_open_is_told()
    {
        await using var rig = await AppRig.CreateAsync();
        using var program = new ChildApp("leave-open", rig.Mock.BaseAddress.ToString(), rig.AuthorityFile);

        Assert.Equal(0, await program.ExitCodeAsync());
        // A handshake that takes long in a cold process on a busy machine gets a second one beside it.
        Assert.Matches("^Warning: A pool was left open: the process ended with 0 requests in flight on [12] connections. Await DrainAsync to let them end, then DisposeAsync$", Assert.Single(program.Lines));
    }

    sealed partial class ChildApp : IDisposable
    {
        readonly Process _process;
        readonly ConcurrentQueue<string> _lines = new();
        readonly HttpClient _client = new() { Timeout = Timeout.InfiniteTimeSpan };
        Uri? _address;

        public ChildApp(params string[] arguments)
        {
            var start = new ProcessStartInfo("dotnet", [typeof(ChildApp).Assembly.Location, .. arguments])
            {
                UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true,
            };
            _process = new Process { StartInfo = start };
            _process.OutputDataReceived += (_, line) => Keep(line.Data);
            _process.ErrorDataReceived += (_, line) => Keep(line.Data);
            _process.Start();
            _process.BeginOutputReadLine();
            _process.BeginErrorReadLine();
        }

        public IReadOnlyList<string> Lines => [.. _lines];

        public static async Task<ChildApp> StartAsync(AppRig rig)
        {
            const string Listening = "listening on ";
            var app = new ChildApp(["app", .. rig.Arguments]);
            await app.SaidAsync(Listening);
            app._address = new Uri(app.Lines.First(line => line.StartsWith(Listening, StringComparison.Ordinal))[Listening.Length..]);
            return app;
        }

        /// <summary>Streams through the application; returns when each has sent its first bytes.</summary>
        public async Task<Task<string>[]> RelayAsync(int count, int tokens, int gapMilliseconds)
        {
            var streams = new List<Task<string>>();
            for (var stream = 0; stream < count; stream++)
            {
                var response = await _client.GetAsync(new Uri(_address!, $"relay?tokens={tokens}&gap={gapMilliseconds}"), HttpCompletionOption.ResponseHeadersRead, AppRig.Ct);
                response.EnsureSuccessStatusCode();
                streams.Add(response.Content.ReadAsStringAsync(AppRig.Ct));
            }

            return [.. streams];
        }

        public void Signal(int signal) => Assert.Equal(0, Kill(_process.Id, signal));

        /// <summary>Completes when nobody listens any more.</summary>
        public Task RefusedAsync() => Eventually.TrueAsync(() =>
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                socket.Connect(_address!.Host, _address.Port);
                return false;
            }
            catch (SocketException error) when (error.SocketErrorCode is SocketError.ConnectionRefused)
            {
                return true;
            }
        });

        public Task SaidAsync(string part) => Eventually.TrueAsync(() => _lines.Any(line => line.Contains(part, StringComparison.Ordinal)), () => string.Join('\n', Lines));

        public async Task<int> ExitCodeAsync()
        {
            await _process.WaitForExitAsync(AppRig.Ct);   // and for the last of its output
            return _process.ExitCode;
        }

        public void Dispose()
        {
            if (!_process.HasExited)
            {
                _process.Kill();
            }

            _process.Dispose();
            _client.Dispose();
        }

        void Keep(string? line)
        {
            if (line is { Length: > 0 })
            {
                _lines.Enqueue(line);
            }
        }

        [LibraryImport("libc", EntryPoint = "kill")]
        private static partial int Kill(int process, int signal);
    }
}
