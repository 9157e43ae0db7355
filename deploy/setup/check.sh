#!/usr/bin/env bash
# Everything that is checked without running Onebell. All checks run; the exit status says whether one found something.
# The tools of tools.txt are expected on PATH.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root" || exit 1
mapfile -t modules < <(go list -m -f '{{.Dir}}')
problems=0

# check NAME COMMAND…: one line when all is well, else what the command said.
check() {
  local name=$1 out begin=$SECONDS
  shift
  if out=$("$@" 2>&1 </dev/null); then
    echo "check: ok    $name ($((SECONDS - begin)) s)"
  else
    echo "check: FAIL  $name"
    sed 's/^/    /' <<<"$out"
    problems=$((problems + 1))
  fi
}

# silent COMMAND…: fails when the command prints anything.
silent() {
  local out
  out=$("$@" 2>&1) && [ -z "$out" ] || { echo "$out"; return 1; }
}

lint() { # golangci-lint does not know the workspace: a run for each module
  local failed=0
  for module in "${modules[@]}"; do
    (cd "$module" && golangci-lint run --config "$root/.golangci.yml" ./...) || failed=1
  done
  return $failed
}

contracts() { (cd proto && buf lint && buf format --diff --exit-code); }

generated() { # what is generated now is what is committed
  local fresh failed=0
  fresh=$(mktemp -d)
  (cd proto && buf generate --output "$fresh") || failed=1
  (cd proto && find . -name '*.pb.go' | sort) >"$fresh/have"
  (cd "$fresh" && find . -name '*.pb.go' | sort) >"$fresh/want"
  diff "$fresh/have" "$fresh/want" || failed=1
  while read -r file; do
    cmp "proto/$file" "$fresh/$file" || failed=1
  done <"$fresh/want"
  rm -rf "$fresh"
  [ $failed -eq 0 ] || { echo 'run: make generate'; return 1; }
}

tidy() {
  local failed=0
  for module in "${modules[@]}"; do
    (cd "$module" && GOWORK=off go mod tidy -diff 2>&1 | head -n 30) || { echo "$module: run: make tidy"; failed=1; }
  done
  return $failed
}

alone() { # images are built so, and whoever takes one module
  local failed=0
  for module in "${modules[@]}"; do
    (cd "$module" && GOWORK=off go build ./... && GOWORK=off go vet ./...) || { echo "in $module"; failed=1; }
  done
  return $failed
}

scripts() {
  local failed=0
  while read -r file; do bash -n "$file" || failed=1; done < <(git ls-files '*.sh' .ci/run)
  return $failed
}

check 'gofmt -l .'                  silent gofmt -l .
check 'gofumpt -l'                  silent gofumpt -l "${modules[@]}"
check 'go vet work'                 go vet work
check 'buf lint, buf format'        contracts
check 'generated code is fresh'     generated
check 'go mod tidy, each module'    tidy
check 'each module builds alone'    alone
check 'shell scripts parse'         scripts
check 'golangci-lint, each module'  lint

if [ $problems -gt 0 ]; then
  echo "check: $problems with problems"
  exit 1
fi
echo 'check: all well'
