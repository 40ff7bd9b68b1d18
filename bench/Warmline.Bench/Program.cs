using System.CommandLine;
using System.Net;
using Warmline.Bench;

// Every figure is a ratio from one run with its peer beside it: rounds are interleaved, medians are quoted, and a run of a way against itself tells how far
// the machine's noise alone reaches.
#pragma warning disable RS0030 // The outermost entry names the system's clock.
var time = TimeProvider.System;
#pragma warning restore RS0030

var rounds = new Option<int>("--rounds") { Description = "Interleaved rounds", DefaultValueFactory = _ => 11 };
var calls = new Option<int>("--calls") { Description = "Calls in a round", DefaultValueFactory = _ => 20_000 };
var atOnce = new Option<int>("--at-once") { Description = "Calls at the same time", DefaultValueFactory = _ => 64 };
var overhead = new Command("overhead", "CPU and bytes per call beside a bare SocketsHttpHandler, over loopback TLS") { rounds, calls, atOnce };
overhead.SetAction((result, _) => new Overhead(time, result.GetValue(rounds), result.GetValue(calls), result.GetValue(atOnce)).RunAsync());

var url = new Option<string>("--url") { Description = "The server, across the link to measure", Required = true };
var ca = new Option<string>("--ca-file") { Description = "The PEM file of the CA to trust", Required = true };
var rtt = new Option<double>("--rtt") { Description = "The link's round-trip time in ms", DefaultValueFactory = _ => 50 };
var service = new Option<double>("--service") { Description = "The server's service time in ms", DefaultValueFactory = _ => 100 };
var burstCalls = new Option<int>("--calls") { Description = "Calls at once", DefaultValueFactory = _ => 100 };
var prompt = new Option<int>("--prompt") { Description = "Bytes of the prompt", DefaultValueFactory = _ => 20 };
var proxy = new Option<string?>("--proxy") { Description = "Go through this HTTP proxy, such as http://user:password@proxy.example:3128; env for the one of the environment variables. Default: none" };
var burst = new Command("burst", "Wall time of a burst of calls beside .NET's own handler, over a link") { url, ca, rtt, service, burstCalls, prompt, rounds, proxy };
burst.SetAction((result, _) => new Burst(time, new Uri(result.GetValue(url)!), result.GetValue(ca)!, result.GetValue(rtt), result.GetValue(service), result.GetValue(burstCalls), result.GetValue(prompt), result.GetValue(rounds),
    result.GetValue(proxy) switch { null => null, "env" => HttpClient.DefaultProxy, { } address => ProxyAt(new Uri(address)) }).RunAsync());

var serve = new Command("serve", "The server that overhead starts for itself") { Hidden = true };
serve.SetAction((_, stop) => BenchServer.ServeAsync(stop));

static WebProxy ProxyAt(Uri address) => new(address) { Credentials = address.UserInfo.Split(':', 2) is [{ Length: > 0 } user, var password] ? new NetworkCredential(Uri.UnescapeDataString(user), Uri.UnescapeDataString(password)) : null };

return await new RootCommand("Measurements of Warmline") { overhead, burst, serve }.Parse(args).InvokeAsync();
