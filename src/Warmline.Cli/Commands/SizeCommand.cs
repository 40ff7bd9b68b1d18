using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Warmline.Options;

namespace Warmline.Cli.Commands;

/// <summary><c>warmline size</c>: how large a pool must be for so many users.</summary>
internal static class SizeCommand
{
    const int BadInput = 2;

    // All values are read as text and checked by Read, so that every mistake gets one sentence with value, range and remedy, and the same exit code.
    static readonly Option<string?> Users = Text("--users", "Users at the same time. Required.");
    static readonly Option<string?> Response = Text("--response", "How long a call takes to the last byte of its answer, such as 8s, 500ms or 2m. Required.");
    static readonly Option<string?> Interval = Text("--interval", "How often a user asks, from one call's start to the next one's, such as 30s. Required.");
    static readonly Option<string?> CallsPerUser = Text("--calls", "Calls that one user makes at once. Default: 1.");
    static readonly Option<bool> Json = new("--json") { Description = "One JSON document on standard output." };

    public static Command Create()
    {
        var command = new Command("size", "Recommend a pool's size: how many connections so many users need, and the line of code.")
        {
            Users, Response, Interval, CallsPerUser, Json,
        };
        command.SetAction(Run);
        return command;
    }

    static int Run(ParseResult parsed)
    {
        try
        {
            var (users, response, interval, calls) = (Number(parsed, Users, null), Time(parsed, Response), Time(parsed, Interval), Number(parsed, CallsPerUser, 1));
            var size = PoolSizing.Recommend(users, response, interval, calls);
            parsed.InvocationConfiguration.Output.WriteLine(parsed.GetValue(Json) ? Document(size) : Page(size, users, response, interval, calls));
            return 0;
        }
        catch (FormatException mistake)
        {
            return Refuse(mistake.Message);
        }
        catch (ArgumentOutOfRangeException mistake)
        {
            // Only that all together need too many connections: the values by themselves are checked.
            return Refuse($"--users is {parsed.GetValue(Users)}: {mistake.Message[(mistake.Message.IndexOf("must be", StringComparison.Ordinal))..mistake.Message.IndexOf(". (Param", StringComparison.Ordinal)]}.");
        }

        int Refuse(string message)
        {
            parsed.InvocationConfiguration.Error.WriteLine("error: " + message);
            return BadInput;
        }
    }

    static string Page(PoolSizing size, int users, TimeSpan response, TimeSpan interval, int calls) => string.Create(CultureInfo.InvariantCulture,
        $"""
        {users} {(users == 1 ? "user" : "users")}, {calls} {(calls == 1 ? "call" : "calls")} at once each, an answer in {Duration.Format(response)}, a question every {Duration.Format(interval)}:

          calls at once       {size.ConcurrentCalls,6}
          MaxConnections      {size.MaxConnections,6}   a tenth more, to the next multiple of 5, for calls do not come evenly; never more than all calls together
          MaxIdleConnections  {size.MaxIdleConnections,6}   half of it
          over HTTP/1.1       {size.DescriptorsHttp1,6}   sockets at most, one for each call: about {Megabytes(size.MemoryHttp1)}
          over HTTP/2         {size.DescriptorsHttp2,6}   sockets for as many calls: about {Megabytes(size.MemoryHttp2)}

        {size.ToCode()}
        """);

    static string Document(PoolSizing size)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            writer.WriteNumber("concurrentCalls", size.ConcurrentCalls);
            writer.WriteNumber("maxConnections", size.MaxConnections);
            writer.WriteNumber("maxIdleConnections", size.MaxIdleConnections);
            foreach (var (name, sockets, bytes) in new[] { ("http1", size.DescriptorsHttp1, size.MemoryHttp1), ("http2", size.DescriptorsHttp2, size.MemoryHttp2) })
            {
                writer.WriteStartObject(name);
                writer.WriteNumber("sockets", sockets);
                writer.WriteNumber("memoryBytes", bytes);
                writer.WriteEndObject();
            }

            writer.WriteString("code", size.ToCode());
            writer.WriteEndObject();
        }

        return System.Text.Encoding.UTF8.GetString(buffer.ToArray());
    }

    static string Megabytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1048576.0:0.0} MB");

    static Option<string?> Text(string name, string description) => new(name) { Description = description };

    static string Needed(ParseResult parsed, Option<string?> option, string example) =>
        parsed.GetValue(option) ?? throw new FormatException($"{option.Name} is missing: for example {option.Name} {example}.");

    static int Number(ParseResult parsed, Option<string?> option, int? otherwise)
    {
        if (parsed.GetValue(option) is null && otherwise is { } value)
        {
            return value;
        }

        var text = Needed(parsed, option, "100");
        return int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && number >= 1
            ? number : throw new FormatException($"{option.Name} is '{text}', must be a whole number, 1 or more: for example 100.");
    }

    static TimeSpan Time(ParseResult parsed, Option<string?> option)
    {
        var text = Needed(parsed, option, "8s");
        return Duration.TryParse(text, out var time) && time > TimeSpan.Zero && time <= TimeSpan.FromDays(1)
            ? time : throw new FormatException($"{option.Name} is '{text}', must be a time with its unit, above 0 and at most a day: for example 500ms, 8s or 2m.");
    }
}
