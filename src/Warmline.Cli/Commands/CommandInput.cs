using System.CommandLine;
using System.Globalization;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Spectre.Console;
using Warmline.Cli.Demo;
using Warmline.Options;

namespace Warmline.Cli.Commands;

/// <summary>
/// What the commands read from the command line, and where they write. A mistake is one sentence with value, range and remedy.
/// </summary>
internal static class CommandInput
{
    const int RedirectedWidth = 80;

    public static IAnsiConsole CreateConsole(TextWriter output)
    {
        if (!Console.IsOutputRedirected)
        {
            return AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(output) });
        }

        var plain = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(output), Ansi = AnsiSupport.No, ColorSystem = ColorSystemSupport.NoColors, Interactive = InteractionSupport.No,
        });
        plain.Profile.Width = RedirectedWidth;
        return plain;
    }

    public static TimeProvider TimeProviderOfProcess()
    {
#pragma warning disable RS0030 // a command is an outermost entry point
        return TimeProvider.System;
#pragma warning restore RS0030
    }

    public static string ReadKey(string name)
    {
        // Whoever gives the key itself in place of a name must not find it in a log.
        var shown = name.All(letter => char.IsAsciiLetterUpper(letter) || char.IsAsciiDigit(letter) || letter == '_') ? name : "that --key-env names";
        var key = Environment.GetEnvironmentVariable(name)?.Trim();
        return string.IsNullOrEmpty(key) ? throw new DemoException($"the environment variable {shown} is not set: put the key into one, for example by `read -rs MY_KEY && export MY_KEY`, and name it: --key-env MY_KEY.")
            : key.Any(letter => letter is <= ' ' or > '~') ? throw new DemoException($"the key in the environment variable {shown} holds a space or a character that no key has: set it again.")
            : key;
    }

    /// <summary>An endpoint that somebody pays for.</summary>
    /// <param name="name">What the address is called on the command line.</param>
    /// <param name="url">The whole address of the calls, or the base address with or without its version.</param>
    /// <param name="parsed">Holds the rest.</param>
    /// <param name="api">openai or anthropic.</param>
    /// <param name="model">The model.</param>
    /// <param name="keyEnv">The variable that holds the key.</param>
    /// <param name="caFile">An authority to trust.</param>
    public static RealTarget ReadEndpoint(string name, string url, ParseResult parsed, Option<string?> api, Option<string?> model, Option<string?> keyEnv, Option<string?> caFile)
    {
        Require(Uri.TryCreate(url, UriKind.Absolute, out var address) && address.Scheme is "https" or "http" && address.UserInfo.Length == 0,
            $"{name} is '{(address?.UserInfo.Length > 0 ? address.GetComponents(UriComponents.SchemeAndServer, UriFormat.UriEscaped) + "' with a user name" : url + "'")}, must be an absolute https or http address without user name: for example https://api.openai.com.");
        var isAnthropic = parsed.GetValue(api) switch
        {
            null => address!.Host.Contains("anthropic", StringComparison.OrdinalIgnoreCase),
            "openai" => false,
            "anthropic" => true,
            _ => throw Mistake(parsed, api, "openai or anthropic", "leave it out to go by the host's name"),
        };
        var path = address!.AbsolutePath.TrimEnd('/');
        var endpoint = isAnthropic ? "messages" : "chat/completions";
        var complete = path.EndsWith("/" + endpoint, StringComparison.Ordinal) ? address
            : new UriBuilder(address) { Path = path + (path.EndsWith("/v1", StringComparison.Ordinal) ? "/" : "/v1/") + endpoint }.Uri;
        return new RealTarget(complete, isAnthropic, parsed.GetValue(model) ?? (isAnthropic ? "claude-haiku-4-5" : "gpt-4o-mini"),
            parsed.GetValue(keyEnv) is { } key ? ReadKey(key) : null, parsed.GetValue(caFile) is { } file ? ReadAuthority(file) : null);
    }

    public static X509Certificate2 ReadAuthority(string file)
    {
        try
        {
            return X509Certificate2.CreateFromPem(File.ReadAllText(file));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new FormatException($"--ca-file is '{file}', must be a readable PEM file with a certificate: {failure.Message}", failure);
        }
    }

    public static Option<string?> Text(string name, string description) => new(name) { Description = description };

    public static int Number(ParseResult parsed, Option<string?> option, int least, int most, int otherwise, string remedy) => parsed.GetValue(option) is not { } text ? otherwise
        : int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most ? number
        : throw Mistake(parsed, option, $"a whole number from {least} to {most}", remedy);

    /// <summary>A time with its unit.</summary>
    public static TimeSpan OptionalTime(ParseResult parsed, Option<string?> option, TimeSpan least, TimeSpan most, TimeSpan otherwise) => parsed.GetValue(option) is not { } text ? otherwise
        : Duration.TryParse(text, out var time) && time >= least && time <= most ? time
        : throw Mistake(parsed, option, $"a time with its unit, from {Duration.Format(least)} to {Duration.Format(most)}", "for example 500ms, 8s or 2m");

    /// <summary>Opened before the work that it is to show, so that a path that cannot be written is known at once.</summary>
    public static StreamWriter OpenSvg(string file)
    {
        try
        {
            return new StreamWriter(file);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new FormatException($"--svg is '{file}', must be a file that can be written: {failure.Message}", failure);
        }
    }

    public static FormatException Mistake(ParseResult parsed, Option<string?> option, string range, string remedy) =>
        new($"{option.Name} is '{parsed.GetValue(option)}', must be {range}: {remedy}.");

    public static void Require(bool holds, string mistake)
    {
        if (!holds)
        {
            throw new FormatException(mistake);
        }
    }
}
