using Warmline.Hosting.Tests;

return args switch
{
    ["app", .. var rest] => await TestApp.RunAsync(rest),
    ["leave-open", var origin, var authority] => await TestApp.LeaveOpenAsync(new Uri(origin), authority),
    _ => await Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(args),
};
