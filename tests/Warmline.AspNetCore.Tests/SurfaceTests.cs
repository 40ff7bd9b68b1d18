using Microsoft.AspNetCore.Builder;
using Warmline.Tests.Guards;

namespace Warmline.AspNetCore.Tests;

/// <summary>What the package shows to its users, and what its page says of it.</summary>
public sealed class SurfaceTests
{
    const string Approved = "tests/Warmline.AspNetCore.Tests/PublicApi.approved.txt", Accept = "WARMLINE_ACCEPT_API";

    [Fact]
    public void The_public_surface_is_the_approved_one()
    {
        var actual = PublicApi.Describe(typeof(PoolEndpointExtensions).Assembly.GetExportedTypes());
        if (Environment.GetEnvironmentVariable(Accept) == "1")
        {
            File.WriteAllText(Path.Combine(Repo.Root, Approved), actual);
        }

        Repo.AssertNone($"The public surface differs from {Approved} (- approved, + actual). If that is meant, run this test once with {Accept}=1, read the file's diff and commit it.",
            PublicApi.Differences(Repo.Read(Approved), actual));
    }

    [Fact]
    public void The_page_on_monitoring_names_every_option_and_every_alert()
    {
        var page = Repo.Read("docs/monitoring.md");
        var options = new[] { typeof(PoolStatsEndpointOptions), typeof(PoolMetricsEndpointOptions) }.SelectMany(type => type.GetProperties()).Select(property => property.Name).Distinct();
        var alerts = Repo.Read("monitoring/alerts.yml").Split('\n').Where(line => line.Contains("- alert: ", StringComparison.Ordinal)).Select(line => line.Split(": ")[1].Trim());

        Repo.AssertNone("Not in docs/monitoring.md:", options.Concat(alerts).Where(name => !page.Contains(name, StringComparison.Ordinal)));
    }
}
