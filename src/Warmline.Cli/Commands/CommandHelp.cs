using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Warmline.Cli.Commands;

/// <summary>A command that says more in its own help than in the list of all commands.</summary>
/// <param name="name">What it is called.</param>
/// <param name="sentence">What the list says: one short sentence.</param>
/// <param name="details">What its own help adds to that.</param>
/// <param name="exitCodes">What each of its exit codes means.</param>
internal sealed class DetailedCommand(string name, string sentence, string details, params IReadOnlyList<(int Code, string Meaning)> exitCodes) : Command(name, sentence)
{
    public string Details => details;

    public IReadOnlyList<(int Code, string Meaning)> ExitCodes => exitCodes;
}

/// <summary>The usual help, with the details and exit codes of the command that it is asked of.</summary>
internal sealed class CommandHelp : SynchronousCommandLineAction
{
    readonly HelpAction _usual = new();

    public override bool ClearsParseErrors => _usual.ClearsParseErrors;

    public override bool Terminating => _usual.Terminating;

    public override int Invoke(ParseResult parseResult)
    {
        if (parseResult.CommandResult.Command is not DetailedCommand command)
        {
            return _usual.Invoke(parseResult);
        }

        command.Description = $"{command.Description} {command.Details}".TrimEnd();
        var code = _usual.Invoke(parseResult);
        var output = parseResult.InvocationConfiguration.Output;
        output.WriteLine("Exit codes:");
        foreach (var (number, meaning) in command.ExitCodes)
        {
            output.WriteLine($"  {number,-3}  {meaning}");
        }

        return code;
    }
}
