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
var withLanes = new Option<bool>("--lanes") { Description = "The pool has the lanes stream and batch: every other call names batch, the rest are looked at" };
var withTenants = new Option<int>("--tenants") { Description = "Calls are made for so many tenants by turns. Default: 0, for nobody" };
var heard = new Option<string?>("--heard") { Description = "Somebody listens to the pool's telemetry: metrics, spans or all" };
var overhead = new Command("overhead", "CPU and bytes per call beside a bare SocketsHttpHandler, over loopback TLS") { rounds, calls, atOnce, withLanes, withTenants, heard };
overhead.SetAction((result, _) => new Overhead(time, result.GetValue(rounds), result.GetValue(calls), result.GetValue(atOnce), result.GetValue(withLanes), result.GetValue(withTenants), result.GetValue(heard)).RunAsync());

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

var pauseCalls = new Option<int>("--calls") { Description = "Calls of each way", DefaultValueFactory = _ => 500 };
var users = new Option<int>("--users") { Description = "Users with a client each", DefaultValueFactory = _ => 20 };
var longest = new Option<double>("--longest") { Description = "The longest pause in s", DefaultValueFactory = _ => 40 };
var hang = new Option<double>("--hang") { Description = "Seconds after which a call counts as hung", DefaultValueFactory = _ => 15 };
var seed = new Option<int>("--seed") { DefaultValueFactory = _ => 1 };
var peers = new Option<string?>("--peers") { Description = "Others in the same run, e.g. undici-h1,undici-h2,httpx-h1,httpx-h2 (npm install in the peers folder; Debian's python3-httpx and python3-h2)" };
var sleep = new Option<int>("--sleep-process") { Description = "The process of the link, to be stopped now and then: a machine that sleeps" };
var pauses = new Command("pauses", "Calls with pauses between them: failures, hangs and late calls beside .NET's own handler and other stacks") { url, ca, pauseCalls, users, longest, hang, seed, peers, sleep };
pauses.SetAction((result, _) => new Pauses(time, new Uri(result.GetValue(url)!), result.GetValue(ca)!, result.GetValue(pauseCalls), result.GetValue(users), result.GetValue(longest), result.GetValue(hang), result.GetValue(seed), result.GetValue(peers), result.GetValue(sleep)).RunAsync());

var times = new Option<int>("--times") { DefaultValueFactory = _ => 1_000 };
var abort = new Command("abort", "How soon the server learns that a reader has left") { times };
abort.SetAction((result, _) => new Streams(time).AbortAsync(result.GetValue(times)));
var streams = new Option<int>("--streams") { DefaultValueFactory = _ => 100_000 };
var abandon = new Command("abandon", "What abandoned streams leave behind") { streams };
abandon.SetAction((result, _) => new Streams(time).AbandonAsync(result.GetValue(streams)));
var openStreams = new Option<int>("--streams") { DefaultValueFactory = _ => 10_000 };
var seconds = new Option<int>("--seconds") { DefaultValueFactory = _ => 20 };
var open = new Command("open", "Memory and CPU of open, silent streams") { openStreams, seconds };
open.SetAction((result, _) => new Streams(time).OpenAsync(result.GetValue(openStreams), result.GetValue(seconds)));
var events = new Command("events", "CPU of each event of a stream") { rounds };
events.SetAction((result, _) => new Streams(time).EventsAsync(result.GetValue(rounds)));

var clocks = new Command("clocks", "What the library does for each event, and for each open stream at each tick of its clock") { openStreams, rounds };
clocks.SetAction(result => new Clocks(time, result.GetValue(openStreams), result.GetValue(rounds)).Run());

var tenantCounts = new Option<int[]>("--tenants") { Description = "Numbers of tenants to try", DefaultValueFactory = _ => [1, 10, 1_000], AllowMultipleArgumentsPerToken = true };
var originCounts = new Option<int[]>("--origins") { Description = "Numbers of origins to try, 8 at most", DefaultValueFactory = _ => [1, 8], AllowMultipleArgumentsPerToken = true };
var scheduler = new Command("scheduler", "What an event costs the scheduler alone, by waiters, tenants, lanes and origins") { rounds, tenantCounts, originCounts };
scheduler.SetAction(result => SchedulerCost.Run(result.GetValue(rounds), result.GetValue(tenantCounts)!, result.GetValue(originCounts)!));

var telemetry = new Command("telemetry", "What metrics and spans cost a call: with nobody listening, in a caller's trace, with a listener") { rounds };
telemetry.SetAction(result => TelemetryCost.Run(result.GetValue(rounds)));

var tokenGap = new Option<int>("--token-gap");
var serve = new Command("serve", "The server that the others start for themselves") { Hidden = true };
serve.Options.Add(tokenGap);
serve.SetAction((result, stop) => BenchServer.ServeAsync(result.GetValue(tokenGap), stop));

static WebProxy ProxyAt(Uri address) => new(address) { Credentials = address.UserInfo.Split(':', 2) is [{ Length: > 0 } user, var password] ? new NetworkCredential(Uri.UnescapeDataString(user), Uri.UnescapeDataString(password)) : null };

return await new RootCommand("Measurements of Warmline") { overhead, burst, pauses, abort, abandon, open, events, clocks, scheduler, telemetry, serve }.Parse(args).InvokeAsync();
