namespace Warmline.Tests.Faults;

/// <summary>The words of the server's scripts. A script that ends without having ended or silenced its connection goes on as a good server.</summary>
internal static class Steps
{
    /// <summary>The TLS handshake, and nothing of HTTP.</summary>
    public static Step Tls => wire => wire.OpenTlsAsync();

    /// <summary>The client's first bytes are there.</summary>
    public static Step Hello => wire => wire.HelloAsync();

    /// <summary>A request is there, and no work on it has begun.</summary>
    public static Step Arrives => wire => wire.ArriveAsync();

    /// <summary>The next request is read whole: its work begins.</summary>
    public static Step Take => wire => wire.TakeAsync();

    /// <summary>Work begins when the request's head is there.</summary>
    public static Step TakeHead => wire => wire.TakeAsync(whole: false);

    /// <summary>200, a body that goes on.</summary>
    public static Step Head => HeadOf();

    /// <summary>Something of the body.</summary>
    public static Step Part => Say("data: something\n\n");

    /// <summary>The caller has all that was said: a reset could overtake it.</summary>
    public static Step Heard => wire => wire.Server.HeardAsync(wire.Current);

    public static Step End => wire => wire.EndAsync(wire.Current);

    public static Step Fin => wire => wire.FinAsync();

    /// <summary>As <see cref="Fin"/> without TLS's close_notify: what the kernel sends for a process that died.</summary>
    public static Step FinBelowTls => wire => wire.FinAsync(notify: false);

    public static Step Reset => wire =>
    {
        wire.Reset();
        return Task.CompletedTask;
    };

    /// <summary>Says nothing more, and reads on.</summary>
    public static Step Silence => wire => wire.KeepSilentAsync(deaf: false);

    /// <summary>A middlebox forgot the flow: nothing passes any more.</summary>
    public static Step BlackHole => wire => wire.KeepSilentAsync(deaf: true);

    /// <summary>Waits for the row.</summary>
    public static Step Cue => CueFor("go");

    /// <summary>GOAWAY that leaves out the request that was read last, which is not run.</summary>
    public static Step GoAwayBelow => async wire => await GoAwayBelowAsync(wire, await wire.TakeAsync(runs: false));

    /// <summary>The same while its body is still coming.</summary>
    public static Step GoAwayBelowUpload => async wire =>
    {
        var copy = await wire.TakeAsync(whole: false, runs: false);
        await Uploaded(4096)(wire);
        await GoAwayBelowAsync(wire, copy);
    };

    /// <summary>GOAWAY that lets all run that came.</summary>
    public static Step GoAwayAbove => wire => Http2(wire).GoAwayAsync(wire.Current.Stream);

    public static Step Refuse => async wire => await Http2(wire).RefuseAsync(await wire.TakeAsync(runs: false));

    public static Step Cancel => wire => Http2(wire).CancelAsync(wire.Current);

    /// <summary>A whole answer to the next request.</summary>
    public static async Task Answer(Wire wire) => await AnswerAsync(wire, await wire.TakeAsync());

    public static Step CueFor(string name) => async wire =>
    {
        await wire.OpenAsync();
        await wire.WaitAsync(wire.Server.CuedAsync(name));
    };

    public static Step HeadOf(long? length = null, int status = 200, string headers = "") => wire => wire.HeadAsync(wire.Current, status, length, headers);

    public static Step Say(string text) => wire => wire.PartAsync(wire.Current, text);

    /// <summary>Tells the row where the script is.</summary>
    public static Step Tell(string cue) => wire =>
    {
        wire.Server.Cue(cue);
        return Task.CompletedTask;
    };

    /// <summary>Another answer than 200, whole.</summary>
    public static Step AnswerWith(int status, string headers = "") => async wire =>
    {
        var copy = await wire.TakeAsync();
        await wire.HeadAsync(copy, status, headers: headers);
        await wire.PartAsync(copy, """{"error":{"message":"no"}}""");
        await wire.EndAsync(copy);
    };

    public static Step Allow(int maxConcurrentStreams) => async wire =>
    {
        await wire.OpenAsync();
        await Http2(wire).SettingsAsync(maxConcurrentStreams);
    };

    public static Step Raw(string bytes) => wire => wire.RawAsync(System.Text.Encoding.Latin1.GetBytes(bytes));

    /// <summary>A frame that ends it all.</summary>
    public static Step Frame(byte type, byte flags, int stream, params byte[] payload) => wire =>
    {
        wire.Answered(wire.Current);
        return Http2(wire).FrameAsync(type, flags, stream, payload);
    };

    /// <summary>So many bytes of the request body are there.</summary>
    public static Step Uploaded(long bytes) => async wire =>
    {
        while (wire.Current.Uploaded < bytes)
        {
            await wire.Server.PollAsync();
        }
    };

    /// <summary>Says a text so often; between two of them the client gets what was said, and the clock turns.</summary>
    public static Step Drip(string text, int times, TimeSpan apart) => async wire =>
    {
        for (var i = 0; i < times && !wire.Current.Left.IsCompleted; i++)
        {
            await wire.PartAsync(wire.Current, text);
            await wire.Server.HeardAsync(wire.Current);
            wire.Server.Time.Advance(apart);
        }
    };

    /// <summary>Takes what comes and begins its answers, until so many are under way on all connections together.</summary>
    public static Step Gather(int calls) => async wire =>
    {
        await wire.OpenAsync();
        var gathered = wire.Server.CuedAsync("gathered");
        while (!gathered.IsCompleted)
        {
            await wire.WaitForRequestOrAsync(gathered);
            if (!gathered.IsCompleted)
            {
                var copy = await wire.TakeAsync();
                await wire.HeadAsync(copy);
                await wire.PartAsync(copy, "data: something\n\n");
                if (wire.Server.Ledger.Copies.Count(each => each.SaidHead) >= calls)
                {
                    wire.Server.Cue("gathered");
                }
            }
        }
    };

    /// <summary>Answers, until nothing has come for so long: then the connection ends.</summary>
    public static Step CloseWhenIdleFor(TimeSpan time) => async wire =>
    {
        await wire.OpenAsync();
        for (var over = Task.CompletedTask; ; await Answer(wire))
        {
            over = Task.Delay(time, wire.Server.Time, wire.Server.End);
            await wire.WaitForRequestOrAsync(over);
            if (!wire.HasRequest)
            {
                await wire.FinAsync();
                return;
            }
        }
    };

    /// <summary>Ends all answers that are under way.</summary>
    public static async Task EndAll(Wire wire)
    {
        foreach (var copy in wire.Held.ToArray())
        {
            await wire.EndAsync(copy);
        }
    }

    /// <summary>Refuses calls, each once, as long as the server has refusals left.</summary>
    public static async Task RefuseOrAnswer(Wire wire)
    {
        while (true)
        {
            var copy = await wire.TakeAsync(runs: false);
            var refuses = wire.Server.TryRefuse(copy);
            copy.Ran = !refuses;
            await (refuses ? Http2(wire).RefuseAsync(copy) : AnswerAsync(wire, copy));
        }
    }

    static async Task AnswerAsync(Wire wire, Copy copy)
    {
        var body = $"answer to {copy.Call}";
        await wire.HeadAsync(copy, length: body.Length);
        await wire.PartAsync(copy, body);
        await wire.EndAsync(copy);
    }

    static Task GoAwayBelowAsync(Wire wire, Copy copy)
    {
        wire.Answered(copy);
        return Http2(wire).GoAwayAsync(Math.Max(0, copy.Stream - 2));
    }

    static Http2Wire Http2(Wire wire) => (Http2Wire)wire;
}
