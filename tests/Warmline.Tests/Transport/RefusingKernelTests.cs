using System.Diagnostics;
using Warmline.MockLlm;
using Warmline.Tests.Support;
using Warmline.Transport;
using Xunit;

namespace Warmline.Tests.Transport;

/// <summary>The same as <see cref="RefusedOptionTests"/> below .NET: a library between it and the kernel refuses one system call.
/// (TCP_NODELAY is left out: the server of the test, in the same process, needs it.)</summary>
public sealed class RefusingKernelTests
{
    const string Shim = """
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/socket.h>

        static int is(const char *what, int level, int name) {
            const char *wanted = getenv("SHIM");
            return wanted && strcmp(wanted, what) == 0 && level == 6 && name == atoi(getenv("SHIM_NAME"));
        }

        int setsockopt(int fd, int level, int name, const void *value, socklen_t size) {
            static int (*real)(int, int, int, const void *, socklen_t);
            if (!real) real = dlsym(RTLD_NEXT, "setsockopt");
            if (is("set", level, name)) { errno = atoi(getenv("SHIM_ERRNO")); return -1; }
            return real(fd, level, name, value, size);
        }

        int getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
            static int (*real)(int, int, int, void *, socklen_t *);
            if (!real) real = dlsym(RTLD_NEXT, "getsockopt");
            if (is("get", level, name)) { errno = atoi(getenv("SHIM_ERRNO")); return -1; }
            if (is("zeros", level, name)) { memset(value, 0, *size); return 0; }
            return real(fd, level, name, value, size);
        }
        """;

    [Theory(Timeout = 2 * Rig.Patience)]
    [InlineData("set", 18, 92)]    // TCP_USER_TIMEOUT, ENOPROTOOPT
    [InlineData("set", 6, 22)]     // TCP_KEEPCNT, EINVAL
    [InlineData("set", 4, 92)]     // TCP_KEEPIDLE
    [InlineData("set", 5, 1)]      // TCP_KEEPINTVL, EPERM
    [InlineData("set", 3, 92)]     // TCP_CORK, of a close in good order
    [InlineData("get", 11, 92)]    // TCP_INFO
    [InlineData("get", 11, 13)]    // EACCES
    [InlineData("zeros", 11, 0)]
    public async Task Calls_and_warm_connections_do_not_depend_on_it(string what, int name, int errno)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "The numbers are Linux's.");
        var folder = Directory.CreateTempSubdirectory("warmline-shim-");
        try
        {
            var library = Path.Combine(folder.FullName, "shim.so");
            Assert.SkipUnless(await CompileAsync(folder.FullName, library), "There is no C compiler here.");

            var found = await ChildProcess.RunAsync(typeof(Child),
                ("LD_PRELOAD", library), ("SHIM", what), ("SHIM_NAME", $"{name}"), ("SHIM_ERRNO", $"{errno}"));

            Assert.Equal("h2: 4 calls, 1 dials, 2 warm, 0 lost; h1: 4 calls, 1 dials, 2 warm, 0 lost", found);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    static async Task<bool> CompileAsync(string folder, string library)
    {
        var source = Path.Combine(folder, "shim.c");
        await File.WriteAllTextAsync(source, Shim, Rig.Ct);
        foreach (var compiler in new[] { "/usr/bin/cc", "/usr/bin/gcc", "/usr/bin/clang" }.Where(File.Exists))
        {
            using var process = Process.Start(compiler, ["-shared", "-fPIC", "-o", library, source, "-ldl"]);
            await process.WaitForExitAsync(Rig.Ct);
            if (process.ExitCode == 0)
            {
                return true;
            }
        }

        return false;
    }

    public sealed class Child
    {
        [Fact(Timeout = Rig.Patience)]
        public async Task Plays()
        {
            ChildProcess.SkipUnlessChild();
            ChildProcess.Tell($"h2: {await PlayAsync(http2: true)}; h1: {await PlayAsync(http2: false)}");
        }

        static async Task<string> PlayAsync(bool http2)
        {
            var (time, network) = (new ManualTime(), new CountedNetwork());
            await using var rig = await Rig.StartAsync(Mode, time: time, network: network);
            for (var i = 0; i < 4; i++)
            {
                await rig.CallAsync();
                await rig.QuietAsync();
                time.Advance(TimeSpan.FromSeconds(2));
            }

            var (warmTime, warmNetwork) = (new ManualTime(), new CountedNetwork());
            await using var mock = await MockLlmServer.StartAsync(cancellationToken: Rig.Ct);
            await using var pool = new ConnectionPool(Rig.Options(mock, options =>
            {
                Mode(options);
                options.Hosts[mock.BaseAddress.ToString()] = new() { WarmConnections = 2 };
            }), null, warmTime, warmNetwork);
            await pool.StatsAsync(static stats => stats.Idle == 2);
            for (var second = 0; second < 12; second++)
            {
                warmTime.Advance(TimeSpan.FromSeconds(1));
            }

            await Eventually.TrueAsync(() => pool.GetStats().Idle == 2);
            var lost = rig.Stats.LostConnections + pool.GetStats().LostConnections;
            return $"{rig.Counters.RequestsCompleted} calls, {network.Dialed} dials, {warmNetwork.Dialed} warm, {lost} lost";

            void Mode(ConnectionPoolOptions options) => options.Http2.Mode = http2 ? Http2Mode.Preferred : Http2Mode.Disabled;
        }
    }
}
