#!/usr/bin/env bash
# Builds everything, with warnings as errors, and runs every test. Needs the .NET SDK of global.json and, for some tests, tinyproxy and
# prometheus, which it installs where apt-get and root are there; no key, no network but the package feeds.
#   ./test.sh                     all tests, with fixed seeds
#   ./test.sh Warmline.Tests …    these test projects only
#   ./test.sh --quick             the library's tests without sockets, and the rules of the code: about a minute
#   ./test.sh --soak              the library's tests with fresh random seeds and ten times the rounds: long
set -euo pipefail
cd "$(dirname "$0")"
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1

library() { # configuration arguments…
  local configuration=$1
  shift
  "tests/Warmline.Tests/bin/$configuration/net10.0/Warmline.Tests" -noColor -longRunning 120 "$@"
}

case "${1:-}" in
  --quick)
    dotnet build tests/Warmline.Tests -c Release --nologo -v quiet -p:RunAnalyzers=false
    library Release -namespace Warmline.Tests.Scheduling -namespace Warmline.Tests.Providers -namespace Warmline.Tests.Guards
    exit ;;
  --soak)
    dotnet build tests/Warmline.Tests -c Release --nologo -v quiet -p:RunAnalyzers=false
    WARMLINE_SOAK=1 library Release
    exit ;;
esac

# Some tests need a real proxy, others a real Prometheus. They fail without it; they are never skipped.
# A package brings its program only: no service of it is started, now or at the next boot, and nothing that it merely recommends comes along.
install() { # program package
  if [ -x "/usr/bin/$1" ] || [ -x "/usr/sbin/$1" ] || command -v "$1" >/dev/null; then return; fi
  local sudo=() policy=/usr/sbin/policy-rc.d held=""
  [ "$(id -u)" -eq 0 ] || sudo=(sudo -n)
  if ! command -v apt-get >/dev/null || { [ ${#sudo[@]} -gt 0 ] && ! "${sudo[@]}" true 2>/dev/null; }; then
    echo "$1 is missing and cannot be installed from here: run 'apt-get install --no-install-recommends $2' as root, or the like. The tests that need it will fail." >&2
    return
  fi
  echo "== $1 is missing: installing $2"
  if ! [ -e "$policy" ]; then   # where Debian's scripts ask whether they may start a service
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null && "${sudo[@]}" chmod +x "$policy" && held=yes
  fi
  { "${sudo[@]}" apt-get update -q && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2"; } >/dev/null \
    || echo "$2 could not be installed: the tests that need it will fail" >&2
  [ -z "$held" ] || "${sudo[@]}" rm -f "$policy"
  if command -v systemctl >/dev/null; then "${sudo[@]}" systemctl disable "$1" >/dev/null 2>&1 || true; fi
}
install tinyproxy tinyproxy-bin
install prometheus prometheus

echo "== build"
dotnet build Warmline.slnx -c Release --nologo -v quiet

asserted=0
if [ $# -eq 0 ]; then
  # Debug.Assert runs in a Debug build only.
  echo "== assertions"
  dotnet build tests/Warmline.Tests -c Debug --nologo -v quiet -p:RunAnalyzers=false
  library Debug -namespace Warmline.Tests.Scheduling -namespace Warmline.Tests.Sharing || asserted=1
fi

projects=("$@")
if [ ${#projects[@]} -eq 0 ]; then
  for p in tests/*/*.csproj; do projects+=("$(basename "$p" .csproj)"); done
fi

passed=0 failed=0 skipped=0 crashed=0
for name in "${projects[@]}"; do
  echo "== $name"
  log=$(mktemp)
  status=0
  # A proxy of this machine must not come between the tests and their own servers.
  # A test that hangs is named after two minutes, and its project ended after twenty, so that the others still run.
  env -u HTTPS_PROXY -u https_proxy -u HTTP_PROXY -u http_proxy -u ALL_PROXY -u all_proxy \
    timeout --kill-after=10 20m "tests/$name/bin/Release/net10.0/$name" -noColor -longRunning 120 2>&1 | tee "$log" || status=$?
  # xUnit's closing line: Total: N, Errors: N, Failed: N, Skipped: N, Not Run: N, Time: Ns
  line=$(grep -E 'Total: [0-9]+, Errors: [0-9]+, Failed: [0-9]+' "$log" | tail -n 1 || true)
  rm -f "$log"
  if [ -z "$line" ]; then
    echo "$name ended without a summary (exit code $status)"
    crashed=$((crashed + 1))
    continue
  fi
  total=$(sed -E 's/.*Total: ([0-9]+).*/\1/' <<<"$line")
  bad=$(($(sed -E 's/.*Errors: ([0-9]+).*/\1/' <<<"$line") + $(sed -E 's/.*Failed: ([0-9]+).*/\1/' <<<"$line")))
  left=$(sed -E 's/.*Skipped: ([0-9]+).*/\1/' <<<"$line")
  passed=$((passed + total - bad - left)) failed=$((failed + bad)) skipped=$((skipped + left))
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then crashed=$((crashed + 1)); fi
done

failed=$((failed + crashed + asserted))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
