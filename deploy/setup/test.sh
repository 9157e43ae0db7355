#!/usr/bin/env bash
# Runs `go test` with the given arguments, shows its lines, and ends with a summary: how many packages passed, failed, or
# were skipped for they have no tests. The exit status is that of go test.
set -uo pipefail

out=$(mktemp)
trap 'rm -f "$out"' EXIT
go test "$@" 2>&1 </dev/null | tee "$out"
status=${PIPESTATUS[0]}

count() { grep -cE "$1" "$out" || true; }
passed=$(count '^ok ') failed=$(count '^FAIL[[:space:]]') skipped=$(count '\[no test files\]')
if [ "$failed" -gt 0 ]; then
  echo
  grep -E '^FAIL[[:space:]]|^--- FAIL' "$out"
fi
echo
echo "packages: $passed passed, $failed failed, $skipped skipped"
exit "$status"
