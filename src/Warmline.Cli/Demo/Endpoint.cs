using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Text;
using Warmline.MockLlm;
using Warmline.Transport;

namespace Warmline.Cli.Demo;

/// <summary>Where the calls of one way go, and how to get there.</summary>
internal abstract class Endpoint : IAsyncDisposable
{
    static readonly MediaTypeHeaderValue Json = new("application/json");

    byte[]? _body;

    public abstract Uri Address { get; }

    /// <summary>The network, the same for every way.</summary>
    public abstract INetwork Network { get; }

    /// <summary>Sockets that the server saw; null where only the client can count.</summary>
    public virtual long? SocketsAtServer => null;

    /// <summary>What is asked. Plain letters: it goes into JSON as it is.</summary>
    public string Prompt { get; init; } = "Say hello.";

    /// <summary>The most tokens of an answer.</summary>
    public int Tokens { get; init; } = DemoSettings.Tokens;

    protected abstract string Body { get; }

    /// <summary>What to trust; a new object at each call. Null: what the platform trusts.</summary>
    public abstract SslClientAuthenticationOptions? CreateSslOptions();

    /// <summary>A call as SDKs make it: no version said, which is HTTP/1.1.</summary>
    public HttpRequestMessage CreateRequest()
    {
        var request = new HttpRequestMessage(HttpMethod.Post, Address)
        {
            Content = new ByteArrayContent(_body ??= Encoding.UTF8.GetBytes(Body)),
        };
        request.Content.Headers.ContentType = Json;
        AddHeaders(request.Headers);
        return request;
    }

    public abstract ValueTask DisposeAsync();

    protected virtual void AddHeaders(HttpRequestHeaders headers)
    {
    }
}

/// <summary>
/// A provider in this process, over real sockets and real TLS. Each way gets a server and a host name that nobody has talked to: no TLS
/// session to resume, no connection left over.
/// </summary>
internal sealed class SimulatedEndpoint : Endpoint
{
    readonly MockLlmServer _server;
    readonly bool _stream;

    SimulatedEndpoint(MockLlmServer server, string host, bool stream)
    {
        _server = server;
        _stream = stream;
        Address = new UriBuilder(server.BaseAddress) { Host = host, Path = "/v1/chat/completions" }.Uri;
        Network = new SimulatedNetwork(server.CreateNetwork());
    }

    public override Uri Address { get; }

    public override INetwork Network { get; }

    public override long? SocketsAtServer => _server.GetCounters().ConnectionsAccepted;

    protected override string Body => $$"""{"model":"gpt-4o-mini","max_tokens":{{Tokens}},"stream":{{(_stream ? "true" : "false")}},"messages":[{"role":"user","content":"{{Prompt}}"}]}""";

    /// <summary>What the server saw and what can be done to it.</summary>
    public MockLlmServer Server => _server;

    /// <param name="host">The name it is called by.</param>
    /// <param name="roundTrip">Of the simulated network.</param>
    /// <param name="service">Time to the first byte.</param>
    /// <param name="tokenGap">Time between two tokens.</param>
    /// <param name="stream">Whether the calls ask for streams.</param>
    /// <param name="stop">Ends the start.</param>
    /// <param name="script">Adds faults.</param>
    /// <param name="prompt">What is asked; null: as usual.</param>
    /// <param name="tokens">Of an answer.</param>
    public static async Task<SimulatedEndpoint> StartAsync(
        string host, TimeSpan roundTrip, TimeSpan service, TimeSpan tokenGap, bool stream, CancellationToken stop, Action<MockLlmOptions>? script = null,
        string? prompt = null, int tokens = DemoSettings.Tokens)
    {
        var options = new MockLlmOptions
        {
            RoundTripTime = roundTrip,
            ServiceTime = service,
            TokenGap = tokenGap,
            Tokens = tokens,
            TcpHandshakeAtServer = false,   // the client's network charges for it
        };
        options.HostNames.Add(host);
        script?.Invoke(options);
        var server = await MockLlmServer.StartAsync(options, cancellationToken: stop);
        return prompt is null ? new SimulatedEndpoint(server, host, stream) { Tokens = tokens } : new SimulatedEndpoint(server, host, stream) { Tokens = tokens, Prompt = prompt };
    }

    public override SslClientAuthenticationOptions CreateSslOptions() => _server.CreateClientSslOptions();

    public override ValueTask DisposeAsync() => _server.DisposeAsync();

    /// <summary>
    /// The pool's view of the mock's network. A lookup takes a round trip: that is what one costs that the resolver next door has not
    /// cached.
    /// </summary>
    sealed class SimulatedNetwork(MockNetwork network) : INetwork
    {
        public ValueTask<IPAddress[]> ResolveAsync(string host, CancellationToken cancellationToken) => network.ResolveAsync(host, cancellationToken);

        public ValueTask<Stream> ConnectAsync(IPEndPoint endPoint, CancellationToken cancellationToken) => network.ConnectAsync(endPoint, cancellationToken);
    }
}
