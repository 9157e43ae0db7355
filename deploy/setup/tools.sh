#!/usr/bin/env bash
# Installs the pinned tools of tools.txt into .tools. Usage: tools.sh [NAME…], all without a name.
# A tool that is there in the right version is left as it is. They are built outside the workspace, so that what they
# depend on stays out of ours.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
into=$(cd "$here/../.." && pwd)/.tools

wanted() { [ $# -eq 1 ] || [[ " ${*:2} " == *" $1 "* ]]; }

while read -r name package version; do
  case $name in '' | '#'*) continue ;; esac
  wanted "$name" "$@" || continue
  # The third field of the "mod" line of a Go program is the version of its module.
  if [ "$(go version -m "$into/$name" 2>/dev/null | awk '$1 == "mod" { print $3 }')" = "$version" ]; then
    continue
  fi
  echo "setup: building $name $version (once)"
  GOBIN="$into" GOWORK=off GOFLAGS= CGO_ENABLED=0 go install "$package@$version" </dev/null
done <"$here/tools.txt"
