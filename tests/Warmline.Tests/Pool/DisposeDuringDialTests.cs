using Microsoft.Extensions.Logging;
using Warmline.Tests.Support;
using Xunit;

namespace Warmline.Tests.Pool;

public sealed class DisposeDuringDialTests
{
    [Fact(Timeout = TestLimit.Milliseconds)]
    public async Task ADialThatEndsWhileThePoolIsDisposedIsClosedAndNothingHangs()
    {
        var transport = new FakeStream();
        var network = new FakeNetwork { Connect = (_, _) => new(transport) };
        using var log = new HoldingLog("opened");
        var pool = new ConnectionPool(new ConnectionPoolOptions(), log, null, network);

        // The dial has its slot and says so in the log; the scheduler does not know of it yet.
        var warmUp = Task.Run(() => pool.WarmUpAsync(new Uri("http://provider.example"), 1, TestContext.Current.CancellationToken), TestContext.Current.CancellationToken);
        await log.Reached;
        var disposed = pool.DisposeAsync();
        log.GoOn();

        await disposed;
        await Assert.ThrowsAsync<PoolRejectedException>(() => warmUp);
        Assert.True(transport.IsDisposed);
        Assert.Equal(0, pool.GetStats().Connections);
    }

    /// <summary>Holds whoever logs a message with this word in it until told to go on.</summary>
    sealed class HoldingLog(string word) : ILoggerFactory, ILogger
    {
        readonly TaskCompletionSource _reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        readonly ManualResetEventSlim _goOn = new();

        public Task Reached => _reached.Task;

        public void GoOn() => _goOn.Set();

        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider)
        {
        }

        public bool IsEnabled(LogLevel logLevel) => true;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (formatter(state, exception).Contains(word, StringComparison.Ordinal) && _reached.TrySetResult())
            {
                _goOn.Wait();
            }
        }

        public void Dispose() => _goOn.Dispose();
    }
}
