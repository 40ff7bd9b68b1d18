using System.CommandLine;
using System.CommandLine.Help;
using System.Text;
using Warmline.Cli.Commands;

const int BadUsage = 2;

// The bars and the box lines need it, and a redirected stream should not depend on the machine's locale.
Console.OutputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);

// A plain Command and not a RootCommand: that one calls itself after the assembly's file.
var root = new Command("warmline", "A connection pool made for calls to AI APIs. Start with: warmline demo")
{
    new HelpOption { Action = new CommandHelp() },
    new VersionOption(),
    DemoCommand.Create(),
    ProbeCommand.Create(),
    MockCommand.Create(),
    SizeCommand.Create(),
    BenchCommand.Create(),
};

var parsed = root.Parse(args.Length == 0 ? ["--help"] : args);
if (parsed.Errors.Count > 0)
{
    // One mistake often counts as several there: an unknown word is an error, its value is another, and a command is missing too.
    var mistake = parsed.UnmatchedTokens.Count > 0 ? $"'{parsed.UnmatchedTokens[0]}' is not known here." : parsed.Errors[0].Message;
    Console.Error.WriteLine($"error: {mistake} See: {(parsed.CommandResult.Command == root ? "warmline" : "warmline " + parsed.CommandResult.Command.Name)} --help");
    return BadUsage;
}

return await parsed.InvokeAsync();
