using System.Runtime.InteropServices;
using Microsoft.AspNetCore.Http;

namespace Warmline.MockLlm;

/// <summary>One request while it runs; its fields belong to the board's lock.</summary>
internal sealed class RequestEntry
{
    public required long Sequence { get; init; }
    public required MockConnection Connection { get; init; }
    public required string Protocol { get; init; }
    public required string Method { get; init; }
    public required string Path { get; init; }
    public required string? MockId { get; init; }
    public required DateTimeOffset Started { get; init; }
    public required int Attempt { get; init; }
    public required int Number { get; init; }
    public required bool Processed;
    public long BodyLength;
    public int Status;
    public DateTimeOffset? Ended;
    public bool Aborted;

    // Counted by the handler alone; a record shows what it has reached.
    public int Tokens;

    public MockRequestRecord ToRecord() => new(
        Sequence, Connection.Id, Protocol, Method, Path, MockId, BodyLength, Status, Started, Ended, Aborted, Processed, Attempt, Number, Volatile.Read(ref Tokens));
}

/// <summary>Everything the server counts, behind one lock, so that a snapshot is consistent and a peak is exact.</summary>
internal sealed class CounterBoard(TimeProvider time, bool recordRequests)
{
    const int ClosedConnectionsKept = 10_000;

    readonly Lock _lock = new();
    readonly Dictionary<string, long> _requestsByPath = new(StringComparer.Ordinal);
    readonly SortedDictionary<long, MockConnection> _open = [];
    readonly Queue<MockConnectionRecord> _closed = new();
    readonly List<RequestEntry> _requests = [];
    TaskCompletionSource? _changed;
    MockCounters _counts = new();
    long _connectionIds, _requestIds;

    public long NextConnectionId() => Interlocked.Increment(ref _connectionIds);

    public void ConnectionOpened(MockConnection connection) => Change(counts =>
    {
        _open.Add(connection.Id, connection);
        return counts with
        {
            ConnectionsAccepted = counts.ConnectionsAccepted + 1,
            ConnectionsOpen = _open.Count,
            PeakConnections = Math.Max(counts.PeakConnections, _open.Count),
        };
    });

    public void ConnectionClosed(MockConnection connection, bool handshakeFailed) => Change(counts =>
    {
        _open.Remove(connection.Id);
        _closed.Enqueue(connection.ToRecord());
        if (_closed.Count > ClosedConnectionsKept)
        {
            _closed.Dequeue();
        }

        return counts with { ConnectionsOpen = _open.Count, TlsHandshakesFailed = counts.TlsHandshakesFailed + (handshakeFailed ? 1 : 0) };
    });

    public void TlsCompleted(MockConnection connection, bool resumed) => Change(counts =>
    {
        connection.TlsResumed = resumed;
        return counts with { TlsHandshakes = counts.TlsHandshakes + 1, TlsHandshakesResumed = counts.TlsHandshakesResumed + (resumed ? 1 : 0) };
    });

    /// <param name="connection">Its connection.</param>
    /// <param name="http">The request.</param>
    /// <param name="mockId">Its <c>x-mock-id</c>.</param>
    /// <param name="attempt">Which one with that id.</param>
    /// <param name="number">Its number on the connection.</param>
    /// <param name="processed">False: it is noted and nothing more, so it has ended already and never was an open stream.</param>
    public RequestEntry RequestStarted(MockConnection connection, HttpRequest http, string? mockId, int attempt, int number, bool processed)
    {
        var (now, path) = (time.GetUtcNow(), http.Path.Value ?? "/");
        var entry = new RequestEntry
        {
            Sequence = Interlocked.Increment(ref _requestIds), Connection = connection, Protocol = http.Protocol, Method = http.Method, Path = path,
            MockId = mockId, Started = now, Ended = processed ? null : now, Attempt = attempt, Number = number, Processed = processed,
        };
        Change(counts =>
        {
            connection.Protocol = http.Protocol;
            connection.Requests++;
            if (!processed)
            {
                Note_NeedsLock(entry);
                return counts with { Requests = counts.Requests + 1, RequestsUnprocessed = counts.RequestsUnprocessed + 1 };
            }

            connection.StreamsOpen++;
            connection.PeakStreams = Math.Max(connection.PeakStreams, connection.StreamsOpen);
            Note_NeedsLock(entry);
            var open = counts.StreamsOpen + 1;
            return counts with
            {
                Requests = counts.Requests + 1,
                StreamsOpen = open,
                PeakStreams = Math.Max(counts.PeakStreams, open),
                PeakStreamsPerConnection = Math.Max(counts.PeakStreamsPerConnection, connection.PeakStreams),
            };
        });
        return entry;
    }

    /// <summary>It turned out that nothing will be done with it.</summary>
    public void Unprocessed(RequestEntry entry) => Change(counts =>
    {
        entry.Processed = false;
        return counts with { RequestsUnprocessed = counts.RequestsUnprocessed + 1 };
    });

    /// <summary>Idempotent: the first end counts.</summary>
    public void RequestEnded(RequestEntry entry, int status, bool completed, bool abortedByClient) => Change(counts =>
    {
        if (entry.Ended is not null)
        {
            return counts;
        }

        entry.Ended = time.GetUtcNow();
        entry.Status = status;
        entry.Aborted = abortedByClient;
        entry.Connection.StreamsOpen--;
        return counts with
        {
            StreamsOpen = counts.StreamsOpen - 1,
            RequestsCompleted = counts.RequestsCompleted + (completed ? 1 : 0),
            AbortedRequests = counts.AbortedRequests + (abortedByClient ? 1 : 0),
            TooManyRequests = counts.TooManyRequests + (status == StatusCodes.Status429TooManyRequests ? 1 : 0),
        };
    });

    public void SettingsInjected() => Change(counts => counts with { SettingsInjected = counts.SettingsInjected + 1 });

    public void SettingsAcknowledged() => Change(counts => counts with { SettingsAcknowledged = counts.SettingsAcknowledged + 1 });

    public void StreamBeyondLimit() => Change(counts => counts with { StreamsBeyondLimit = counts.StreamsBeyondLimit + 1 });

    public MockConnection[] OpenConnections()
    {
        lock (_lock)
        {
            return [.. _open.Values];
        }
    }

    /// <param name="which">Asked outside the lock.</param>
    public MockConnection[] OpenConnections(Func<MockConnectionRecord, bool> which)
    {
        (MockConnection Connection, MockConnectionRecord Record)[] open;
        lock (_lock)
        {
            open = [.. _open.Values.Select(c => (c, c.ToRecord()))];
        }

        return [.. open.Where(o => which(o.Record)).Select(o => o.Connection)];
    }

    public MockRequestRecord[] Requests()
    {
        lock (_lock)
        {
            return [.. _requests.Select(r => r.ToRecord())];
        }
    }

    public MockCounters Snapshot()
    {
        lock (_lock)
        {
            return Snapshot_NeedsLock();
        }
    }

    public void Reset() => Change(counts =>
    {
        _requestsByPath.Clear();
        _closed.Clear();
        _requests.Clear();
        foreach (var connection in _open.Values)
        {
            connection.Requests = connection.StreamsOpen;
            connection.PeakStreams = connection.StreamsOpen;
        }

        return new MockCounters
        {
            ConnectionsOpen = _open.Count,
            PeakConnections = _open.Count,
            StreamsOpen = counts.StreamsOpen,
            PeakStreams = counts.StreamsOpen,
            PeakStreamsPerConnection = _open.Count == 0 ? 0 : _open.Values.Max(c => c.StreamsOpen),
        };
    });

    public async Task WaitForAsync(Func<MockCounters, bool> reached, CancellationToken cancellationToken)
    {
        while (true)
        {
            MockCounters counts;
            Task changed;
            lock (_lock)
            {
                // Snapshot and signal are taken under one lock, so a change after the snapshot is never missed.
                counts = Snapshot_NeedsLock();
                _changed ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                changed = _changed.Task;
            }

            if (reached(counts))
            {
                return;
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    void Change(Func<MockCounters, MockCounters> change)
    {
        TaskCompletionSource? changed;
        lock (_lock)
        {
            _counts = change(_counts);
            changed = _changed;
            _changed = null;
        }

        changed?.SetResult();
    }

    void Note_NeedsLock(RequestEntry entry)
    {
        CollectionsMarshal.GetValueRefOrAddDefault(_requestsByPath, entry.Path, out _)++;
        if (recordRequests)
        {
            _requests.Add(entry);
        }
    }

    MockCounters Snapshot_NeedsLock() => _counts with
    {
        RequestsByPath = new Dictionary<string, long>(_requestsByPath, StringComparer.Ordinal),
        Connections = [.. _closed.Concat(_open.Values.Select(c => c.ToRecord())).OrderBy(c => c.Id)],
    };
}
