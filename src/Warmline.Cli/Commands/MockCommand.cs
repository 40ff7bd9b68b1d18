using System.CommandLine;
using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Warmline.MockLlm;

namespace Warmline.Cli.Commands;

/// <summary><c>warmline mock</c>: the provider that needs no key, until Ctrl+C.</summary>
internal static class MockCommand
{
    const int BadInput = 2;

    // All values are read as text and checked by Read, so that every mistake gets one sentence with value, range and remedy, and the same
    // exit code.
    static readonly Option<string> Address = Text("--address", "The IP address to listen on.", "127.0.0.1");
    static readonly Option<string> Port = Text("--port", "The TCP port to listen on; 0 takes a free one.", "8443");
    static readonly Option<string> RoundTrip = Text("--rtt", "Simulated round-trip time, such as 50ms.", "0ms");
    static readonly Option<string> Service = Text("--service", "Time to the first byte of an answer, such as 800ms or 1.5s.", "0ms");
    static readonly Option<string> Tokens = Text("--tokens", "Tokens per completion.", "16");
    static readonly Option<string> TokenGap = Text("--token-gap", "Time between two tokens of a stream, such as 20ms.", "0ms");
    static readonly Option<string> Streams = Text("--streams", "HTTP/2 streams allowed per connection.", "100");
    static readonly Option<string> IdleTimeout = Text("--idle-timeout", "Time after which an idle connection is closed, to the millisecond.", "400s");
    static readonly Option<string> Requests = Text("--requests-per-window", "Requests let through in each --window; those above get 429. 0: no limit.", "0");
    static readonly Option<string> TokensPerWindow = Text("--tokens-per-window", "Tokens of prompts and answers let through in each --window. 0: no limit.", "0");
    static readonly Option<string> Window = Text("--window", "The time in which so many are let through, such as 2s.", "60s");
    static readonly Option<bool> Bucket = new("--bucket") { Description = "The limits refill all the time, as Anthropic's, and not at once when a window begins." };
    static readonly Option<string> Protocols = Text("--protocols", "h1, h2 or both.", "both");
    static readonly Option<bool> Plaintext = new("--plaintext") { Description = "Without TLS (HTTP/2 then needs --protocols h2)." };
    static readonly Option<string?> Key = new("--key") { Description = "The only API key accepted. Without it, any or none." };
    static readonly Option<string[]> HostName = new("--host-name")
    {
        Description = "One more name or IP address for the certificate. Repeatable.", DefaultValueFactory = _ => [],
    };
    static readonly Option<string?> CaFile = new("--ca-file")
    {
        Description = "Write the certificate authority here (PEM). Default: warmline-mock-ca-PORT.pem in the temporary directory, removed at the end.",
    };
    static readonly Option<bool> Quiet = new("--quiet") { Description = "Print the address only." };

    public static Command Create()
    {
        var command = new DetailedCommand(
            "mock", "Run a provider for tests that needs no key, until Ctrl+C.", "It speaks as OpenAI and Anthropic do, over TLS, HTTP/1.1 and HTTP/2, and fails as it is asked to.",
            (0, "ended by Ctrl+C or SIGTERM"), (BadInput, "bad input, or it cannot listen or write its authority"))
        {
            Address, Port, RoundTrip, Service, Tokens, TokenGap, Streams, IdleTimeout, Requests, TokensPerWindow, Window, Bucket, Protocols, Plaintext, Key, HostName, CaFile, Quiet,
        };
        command.SetAction(RunAsync);
        return command;
    }

    static async Task<int> RunAsync(ParseResult parsed, CancellationToken stop)
    {
        var (output, errors) = (parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error);
        MockLlmOptions options;
        try
        {
            options = Read(parsed);
        }
        catch (FormatException mistake)
        {
            errors.WriteLine("error: " + mistake.Message);
            return BadInput;
        }

        MockLlmServer server;
        try
        {
            server = await MockLlmServer.StartAsync(options, cancellationToken: stop);
        }
        catch (Exception failure) when (failure is IOException or System.Net.Sockets.SocketException)
        {
            errors.WriteLine($"error: cannot listen on {new IPEndPoint(options.Address, options.Port)}: {failure.GetBaseException().Message}. "
                + "Choose another --port (0 takes a free one), or an --address of this machine.");
            return BadInput;
        }

        var caFile = options.UseTls ? parsed.GetValue(CaFile) ?? Path.Combine(Path.GetTempPath(), $"warmline-mock-ca-{server.BaseAddress.Port}.pem") : null;
        await using (server)
        {
            if (caFile is not null)
            {
                try
                {
                    await File.WriteAllTextAsync(caFile, server.CertificateAuthority.ExportCertificatePem() + "\n", stop);
                }
                catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
                {
                    errors.WriteLine($"error: cannot write --ca-file '{caFile}': {failure.Message} Name a file in a directory that exists and is writable.");
                    return BadInput;
                }
            }

            using var own = caFile is not null && parsed.GetValue(CaFile) is null ? new OwnFile(caFile) : null;
            var quiet = parsed.GetValue(Quiet);
            output.WriteLine(quiet ? server.BaseAddress.ToString() : Greeting(server, options, caFile));
            try
            {
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProviderOfProcess(), stop);
            }
            catch (OperationCanceledException)
            {
                // Ctrl+C or SIGTERM: the way this command ends.
            }

            if (!quiet)
            {
                output.WriteLine(Summary(server.GetCounters()));
            }
        }

        return 0;
    }

    /// <summary>A file that nobody asked for by its name, so nobody misses it: its authority is worth nothing without the server.</summary>
    sealed class OwnFile(string path) : IDisposable
    {
        public void Dispose()
        {
            try
            {
                File.Delete(path);
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
            {
                // Somebody else's by now, or held open: it stays, and the command ends as it would have.
            }
        }
    }

    static TimeProvider TimeProviderOfProcess()
    {
#pragma warning disable RS0030 // a command is an outermost entry point
        return TimeProvider.System;
#pragma warning restore RS0030
    }

    static MockLlmOptions Read(ParseResult parsed)
    {
        if (!IPAddress.TryParse(parsed.GetValue(Address), out var address))
        {
            throw Mistake(parsed, Address, "an IP address", "use 127.0.0.1 for this machine only, 0.0.0.0 for all networks");
        }

        var plaintext = parsed.GetValue(Plaintext);
        var options = new MockLlmOptions
        {
            Address = address,
            Port = Number(parsed, Port, 0, 65535, "0 takes a free port"),
            UseTls = !plaintext,
            RoundTripTime = Duration(parsed, RoundTrip, 60),
            ServiceTime = Duration(parsed, Service, 86_400),
            Tokens = Number(parsed, Tokens, 0, 10_000_000, "for example 200"),
            TokenGap = Duration(parsed, TokenGap, 3_600),
            MaxStreamsPerConnection = Number(parsed, Streams, 1, 1_000_000, "public providers allow 100"),
            RequiredApiKey = parsed.GetValue(Key),
            Protocols = parsed.GetValue(Protocols) switch
            {
                "h1" => HttpProtocols.Http1,
                "h2" => HttpProtocols.Http2,
                "both" => plaintext ? HttpProtocols.Http1 : HttpProtocols.Http1AndHttp2,
                _ => throw Mistake(parsed, Protocols, "h1, h2 or both", "leave it out for both"),
            },
        };
        var idle = Duration(parsed, IdleTimeout, 86_400);
        if (idle <= TimeSpan.Zero)
        {
            throw Mistake(parsed, IdleTimeout, "a time above 0", "public providers keep idle connections for 400s");
        }

        options.RateLimit = Limit(parsed);
        options.OnConnection = _ => new MockConnectionPlan { IdleTimeout = idle };
        foreach (var name in parsed.GetValue(HostName) ?? [])
        {
            if (Uri.CheckHostName(name.Replace("*.", "", StringComparison.Ordinal)) == UriHostNameType.Unknown)
            {
                throw new FormatException($"--host-name is '{name}', must be a host name or an IP address: without scheme, port or path.");
            }

            options.HostNames.Add(name);
        }

        return options;
    }

    static MockRateLimit? Limit(ParseResult parsed)
    {
        var requests = Number(parsed, Requests, 0, 1_000_000_000, "0 sets no limit");
        var tokens = Number(parsed, TokensPerWindow, 0, 2_000_000_000, "0 sets no limit");
        var window = Duration(parsed, Window, 86_400);
        return window < TimeSpan.FromMilliseconds(10) ? throw Mistake(parsed, Window, "a time from 10ms to 86400s", "providers count by the minute: 60s")
            : requests + (long)tokens == 0 ? null
            : new MockRateLimit { Requests = requests == 0 ? null : requests, Tokens = tokens == 0 ? null : tokens, Window = window, Refills = parsed.GetValue(Bucket) };
    }

    static string Greeting(MockLlmServer server, MockLlmOptions options, string? caFile)
    {
        var flags = (caFile is null ? "" : $" --cacert {caFile}") + (options is { UseTls: false, Protocols: HttpProtocols.Http2 } ? " --http2-prior-knowledge" : "")
            + (options.RequiredApiKey is { } key ? $" -H 'authorization: Bearer {key}'" : "");
        return $$"""
            Mock provider on {{server.BaseAddress}}  (Ctrl+C stops it)
              OpenAI base URL     {{server.BaseAddress}}v1
              Anthropic base URL  {{server.BaseAddress}}
              authority           {{caFile ?? "none, plaintext"}}
              faults              x-mock-* request headers, such as x-mock-fault: reset (docs/testing.md)

            curl -N{{flags}} {{server.BaseAddress}}v1/chat/completions -H 'content-type: application/json' -d '{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
            """;
    }

    static string Summary(MockCounters counters) => string.Create(CultureInfo.InvariantCulture,
        $"""
        Connections: {counters.ConnectionsAccepted} (peak {counters.PeakConnections})
        TLS handshakes: {counters.TlsHandshakes} (resumed {counters.TlsHandshakesResumed}, failed {counters.TlsHandshakesFailed})
        Requests: {counters.Requests} (completed {counters.RequestsCompleted}, aborted {counters.AbortedRequests}, answered with 429 {counters.TooManyRequests})
        Streams: peak {counters.PeakStreams}, on one connection {counters.PeakStreamsPerConnection}
        """);

    static Option<string> Text(string name, string description, string value) => new(name) { Description = description, DefaultValueFactory = _ => value };

    static int Number(ParseResult parsed, Option<string> option, int least, int most, string remedy) =>
        int.TryParse(parsed.GetValue(option), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most
            ? number : throw Mistake(parsed, option, $"a whole number from {least} to {most}", remedy);

    static TimeSpan Duration(ParseResult parsed, Option<string> option, int mostSeconds)
    {
        var text = parsed.GetValue(option)!;
        var (digits, unit) = text.EndsWith("ms", StringComparison.Ordinal) ? (text[..^2], 0.001) : text.EndsWith('s') ? (text[..^1], 1) : (text, 0.001);
        return double.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) && number * unit <= mostSeconds
            ? TimeSpan.FromSeconds(number * unit)
            : throw Mistake(parsed, option, $"a time from 0 to {mostSeconds}s", "write it as 50, 50ms or 1.5s");
    }

    static FormatException Mistake(ParseResult parsed, Option<string> option, string range, string remedy) =>
        new($"{option.Name} is '{parsed.GetValue(option)}', must be {range}: {remedy}.");
}
