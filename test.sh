#!/usr/bin/env bash
# Builds everything, with warnings as errors, and runs every test. Needs the .NET SDK of global.json; no key, no network but the package feed.
#   ./test.sh                     all tests
#   ./test.sh Warmline.Tests …    these test projects only
set -euo pipefail
cd "$(dirname "$0")"
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1

echo "== build"
dotnet build Warmline.slnx -c Release --nologo -v quiet

projects=("$@")
if [ ${#projects[@]} -eq 0 ]; then
  for p in tests/*/*.csproj; do projects+=("$(basename "$p" .csproj)"); done
fi

passed=0 failed=0 skipped=0 crashed=0
for name in "${projects[@]}"; do
  echo "== $name"
  log=$(mktemp)
  status=0
  "tests/$name/bin/Release/net10.0/$name" -noColor 2>&1 | tee "$log" || status=$?
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

failed=$((failed + crashed))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
