using System.CommandLine;
using System.Globalization;
using System.Net.Sockets;
using Spectre.Console;
using Warmline.Cli.Demo;
using Warmline.Cli.Probe;
using static Warmline.Cli.Commands.CommandInput;

namespace Warmline.Cli.Commands;

/// <summary>
/// <c>warmline probe</c>: what a connection to an address costs, what the server allows, and what keeping the connection saves.
/// </summary>
internal static class ProbeCommand
{
    // All values are read as text and checked by Read, so that every mistake gets one sentence with value, range and remedy, and the same
    // exit code.
    static readonly Argument<string?> Url = new("URL") { Description = "The address to call, such as https://api.openai.com/v1/models.", Arity = ArgumentArity.ZeroOrOne };
    static readonly Option<string?> Method = Text("--method", "The method. Default: GET. Calls that generate cost money; GET /v1/models does not.");
    static readonly Option<string[]> Header = new("--header") { Description = "One more header, as 'Name: value'. Repeatable. Never printed.", DefaultValueFactory = _ => [] };
    static readonly Option<string?> KeyEnv = Text("--key-env", "The environment variable that holds the key: sent as a bearer token, or as x-api-key to Anthropic. Never printed.");
    static readonly Option<string?> Count = Text("--count", "Warm calls, 0 to 1000. Default: 3. Two more are made on fresh connections.");
    static readonly Option<string?> Idle = Text("--idle", "Wait so many seconds, up to 86400, to learn when the server closes an idle connection. Ctrl+C ends the wait.");
    static readonly Option<string?> Timeout = Text("--timeout", "Seconds for each connection, and again for each answer, 1 to 3600. Default: 10.");
    static readonly Option<string?> Protocols = Text("--protocols", "h1, h2 or both. Default: both.");
    static readonly Option<string?> CaFile = Text("--ca-file", "Trust the authority in this PEM file too.");
    static readonly Option<bool> Insecure = new("--insecure") { Description = "Take any certificate." };
    static readonly Option<bool> Fail = new("--fail") { Description = "Exit code 1 when the status is 400 or above." };
    static readonly Option<bool> Json = new("--json") { Description = "One JSON document on standard output; its names are listed in docs/probe.md." };

    public static Command Create()
    {
        var command = new DetailedCommand(
            "probe", "Measure a connection to an address, phase by phase.", "A cold call against warm ones, and what the server allows. Goes through the proxy of HTTPS_PROXY as the pool does.",
            (ProbeExit.Answered, "answered, whatever the status: a 401 proves the connection as well"),
            (ProbeExit.ErrorStatus, "answered with 400 or above, and --fail was given"),
            (ProbeExit.BadInput, "bad input"),
            (ProbeExit.Dns, "the host name does not resolve"),
            (ProbeExit.Tcp, "no TCP connection"),
            (ProbeExit.Proxy, "the proxy: its name, its port, its login, or its refusal"),
            (ProbeExit.Tls, "TLS: certificate, version, ALPN"),
            (ProbeExit.Http, "connected, but no valid answer"),
            (ProbeExit.Timeout, "timed out"),
            (ProbeExit.Interrupted, "interrupted; what was known by then is printed"))
        {
            Url, Method, Header, KeyEnv, Count, Idle, Timeout, Protocols, CaFile, Insecure, Fail, Json,
        };
        command.SetAction((parsed, stop) => RunAsync(parsed, TimeProviderOfProcess(), stop));
        return command;
    }

    static async Task<int> RunAsync(ParseResult parsed, TimeProvider time, CancellationToken stop)
    {
        var (output, errors) = (parsed.InvocationConfiguration.Output, parsed.InvocationConfiguration.Error);
        ProbeSettings settings;
        try
        {
            settings = Read(parsed);
        }
        catch (Exception mistake) when (mistake is FormatException or DemoException)
        {
            await errors.WriteLineAsync("error: " + mistake.Message);
            return ProbeExit.BadInput;
        }

        var run = new ProbeRun(settings, time);
        var console = CreateConsole(output);
        var json = parsed.GetValue(Json);
        try
        {
            await CompileAsync(time, stop);
            if (json || !console.Profile.Capabilities.Interactive || settings.Idle is not { } longest)
            {
                await run.RunAsync(FirstTick(settings, errors), stop);
            }
            else
            {
                await console.Status().StartAsync("measuring", status => run.RunAsync(
                    waited => status.Status(string.Create(CultureInfo.InvariantCulture, $"idle for {waited.TotalSeconds:0} s of {longest.TotalSeconds:0} s (Ctrl+C ends it)")), stop));
            }
        }
        catch (ProbeException failure)
        {
            await errors.WriteLineAsync("error: " + failure.Message);
            return failure.ExitCode;
        }

        var result = run.Result;
        if (result.Interrupted && result.Cold is null)
        {
            await errors.WriteLineAsync("stopped");
            return ProbeExit.Interrupted;
        }

        if (json)
        {
            await output.WriteLineAsync(ProbeJson.Format(settings, result, time));
        }
        else
        {
            new ProbeReport(console, settings, result, time).Write();
        }

        return result.Interrupted ? ProbeExit.Interrupted
            : parsed.GetValue(Fail) && (int)result.Cold!.Call.Status >= 400 ? ProbeExit.ErrorStatus
            : ProbeExit.Answered;
    }

    /// <summary>Whoever reads a pipe should know why nothing comes.</summary>
    static Action<TimeSpan> FirstTick(ProbeSettings settings, TextWriter errors)
    {
        var told = false;
        return _ =>
        {
            if (!told)
            {
                told = true;
                errors.WriteLine(string.Create(CultureInfo.InvariantCulture, $"waiting up to {settings.Idle!.Value.TotalSeconds:0} s for the server to close an idle connection"));
            }
        };
    }

    static async Task CompileAsync(TimeProvider time, CancellationToken stop)
    {
        try
        {
            await ProbeRun.CompileAsync(time, stop);
        }
        catch (Exception failure) when (failure is IOException or SocketException or ProbeException || (failure is OperationCanceledException && stop.IsCancellationRequested))
        {
            // No port to be had: the cold call is a little slower. Or interrupted: the run sees that itself.
        }
    }

    static ProbeSettings Read(ParseResult parsed)
    {
        var url = parsed.GetValue(Url);
        Require(url is not null, "an address is missing: name it, such as warmline probe https://api.openai.com/v1/models.");
        Require(Uri.TryCreate(url, UriKind.Absolute, out var address) && address.Scheme is "https" or "http" && address.UserInfo.Length == 0,
            $"the address is '{(address?.UserInfo.Length > 0 ? address.GetComponents(UriComponents.SchemeAndServer, UriFormat.UriEscaped) + "' with a user name" : url + "'")}, must be an absolute https or http address without user name: for example https://api.openai.com/v1/models.");
        var method = parsed.GetValue(Method) ?? "GET";
        Require(method.Length > 0 && method.All(char.IsAsciiLetter), $"--method is '{method}', must be a word such as GET, HEAD or POST.");
        var headers = parsed.GetValue(Header)!.Select(ReadHeader).ToList();
        if (!headers.Any(header => header.Name.Equals("user-agent", StringComparison.OrdinalIgnoreCase)))
        {
            headers.Add(("user-agent", "warmline-probe"));
        }

        if (parsed.GetValue(KeyEnv) is { } keyName)
        {
            var key = ReadKey(keyName);
            headers.AddRange(address!.Host.Contains("anthropic", StringComparison.OrdinalIgnoreCase) ? [("x-api-key", key), ("anthropic-version", "2023-06-01")] : [("authorization", "Bearer " + key)]);
        }

        Require(!parsed.GetValue(Insecure) || parsed.GetValue(CaFile) is null, "--insecure takes any certificate, so --ca-file means nothing beside it: leave out one of them.");
        return new ProbeSettings
        {
            Address = address!,
            Method = new HttpMethod(method.ToUpperInvariant()),
            Headers = headers,
            Authority = parsed.GetValue(CaFile) is { } file ? ReadAuthority(file) : null,
            Insecure = parsed.GetValue(Insecure),
            Mode = parsed.GetValue(Protocols) switch
            {
                null or "both" => Http2Mode.Preferred,
                "h1" => Http2Mode.Disabled,
                "h2" => Http2Mode.Required,
                _ => throw Mistake(parsed, Protocols, "h1, h2 or both", "leave it out for both"),
            },
            Count = Number(parsed, Count, 0, 1_000, 3, "for example 10"),
            Idle = parsed.GetValue(Idle) is null ? null : TimeSpan.FromSeconds(Number(parsed, Idle, 1, 86_400, 0, "for example 120")),
            Limit = TimeSpan.FromSeconds(Number(parsed, Timeout, 1, 3_600, 10, "for example 30")),
        };
    }

    /// <summary>The value may be a key: no mistake shows it.</summary>
    static (string Name, string Value) ReadHeader(string text)
    {
        var colon = text.IndexOf(':', StringComparison.Ordinal);
        var name = colon > 0 ? text[..colon].Trim() : "";
        using var probe = new HttpRequestMessage();
        Require(colon > 0 && !text.Any(char.IsControl), "a --header is not of the form 'Name: value': write it as one word for the shell, in quotes.");
        Require(!name.Equals("host", StringComparison.OrdinalIgnoreCase) && probe.Headers.TryAddWithoutValidation(name, "x"), $"--header '{name}' cannot be set here: it belongs to the connection or to a body, and probes send none.");
        return (name, text[(colon + 1)..].Trim());
    }
}
