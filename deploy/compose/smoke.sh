#!/usr/bin/env bash
# Walks the main road once through what `make up` started: see smoke/main.go.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec go run ./deploy/compose/smoke -secrets deploy/compose/secrets
