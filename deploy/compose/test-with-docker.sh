#!/usr/bin/env bash
# Brings docker-compose.yml up, runs the smoke test against it, and takes it down again, data included.
#
# With a Docker engine that answers, that one is used (under another project name than `make up`). Without one, and as
# root, an engine is installed and started for this run only, and what it leaves in the kernel is removed at the end.
# Images that cannot be pulled get local stand-ins of the same name, so that the compose file runs unchanged.
set -euo pipefail
cd "$(dirname "$0")/../.."

compose_version=v5.4.0
nats_version=v2.15.2
work=$(mktemp -d /tmp/onebell-docker.XXXXXX)
engine='' # process id of an engine of our own

say() { echo "compose: $*"; }

# ---- the engine

start_engine() {
  if [ "$(id -u)" -ne 0 ]; then
    echo 'compose: no Docker engine answers, and starting one takes root' >&2
    exit 1
  fi
  deploy/setup/packages.sh dockerd=docker.io iptables busybox=busybox-static ip=iproute2
  deploy/setup/packages.sh docker=docker-cli # newer releases have the client in a package of its own
  iptables-save >"$work/iptables"
  cat /proc/sys/net/ipv4/ip_forward >"$work/ip_forward"
  export DOCKER_HOST="unix://$work/docker.sock"
  dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
    </dev/null >"$work/dockerd.log" 2>&1 &
  engine=$!
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && return
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 20 "$work/dockerd.log" >&2
  echo 'compose: the engine did not start' >&2
  exit 1
}

# An engine leaves its bridge, its chains and forwarding behind.
stop_engine() {
  kill "$engine" 2>/dev/null && wait "$engine" || true
  ip link delete docker0 2>/dev/null || true
  for table in filter nat; do
    printf '*%s\nCOMMIT\n' "$table" | iptables-restore || true
  done
  iptables --policy FORWARD ACCEPT
  iptables-restore <"$work/iptables"
  cat "$work/ip_forward" >/proc/sys/net/ipv4/ip_forward
  awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | xargs --no-run-if-empty umount || true
}

# ---- compose

compose() { "${compose_command[@]}" --project-name onebell-test "$@"; }

# Where the engine's client has no compose, it is built from the Go proxy: not by go install, which refuses modules
# that exclude versions, but as a dependency of an empty module.
find_compose() {
  if docker compose version >/dev/null 2>&1; then
    compose_command=(docker compose)
    return
  fi
  compose_command=("$PWD/.tools/docker-compose")
  if [ ! -x "${compose_command[0]}" ]; then
    say "building compose $compose_version (once)"
    mkdir -p "$work/compose" .tools
    (cd "$work/compose" && export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0 && go mod init empty && go mod edit -require "github.com/docker/compose/v5@$compose_version" &&
      go build -o "${compose_command[0]}" github.com/docker/compose/v5/cmd) >"$work/compose.log" 2>&1 || { tail "$work/compose.log" >&2; exit 1; }
  fi
}

# ---- stand-ins

# have IMAGE: it is here, or can be pulled.
have() {
  docker image inspect "$1" >/dev/null 2>&1 || timeout 120 docker pull --quiet "$1" >/dev/null 2>&1
}

# import IMAGE DIR CHANGE…: an image of one layer from a directory.
import() {
  local image=$1 dir=$2 changes=()
  shift 2
  for change in "$@"; do changes+=(--change "$change"); done
  tar -C "$dir" -c . | docker import "${changes[@]}" - "$image" >/dev/null
  say "made a stand-in for $image"
}

# take DIR PROGRAM…: programs of this machine with their libraries.
take() {
  local dir=$1 program library
  shift
  for program in "$@"; do
    install -D "$(command -v "$program")" "$dir/usr/local/bin/$program"
    ldd "$(command -v "$program")" | grep -o '/[^ ]*' | while read -r library; do
      install -D "$(realpath "$library")" "$dir$library"
    done
  done
}

stand_in_nats() {
  local dir=$work/nats
  mkdir -p "$dir/usr/local/bin" "$dir/tmp" "$dir/etc" "$dir/data"
  GOBIN="$dir/usr/local/bin" GOWORK=off GOFLAGS= CGO_ENABLED=0 go install "github.com/nats-io/nats-server/v2@$nats_version"
  install "$(command -v busybox)" "$dir/usr/local/bin/busybox"
  for name in sh wget; do ln -s busybox "$dir/usr/local/bin/$name"; done
  import "$1" "$dir" 'ENV PATH=/usr/local/bin' 'ENTRYPOINT ["nats-server"]'
}

stand_in_redis() {
  local dir=$work/redis
  deploy/setup/packages.sh redis-server redis-cli=redis-tools
  take "$dir" redis-server redis-cli
  mkdir -p "$dir/etc" "$dir/data" "$dir/tmp"
  echo 'redis:x:999:1000::/data:/bin/false' >"$dir/etc/passwd"
  echo 'redis:x:1000:' >"$dir/etc/group"
  chown 999:1000 "$dir/data"
  import "$1" "$dir" 'ENV PATH=/usr/local/bin' 'WORKDIR /data'
}

# The Go tree of this machine with a shell, and the modules that the images need, so that building needs no network.
stand_in_golang() {
  local dir=$work/golang name
  mkdir -p "$dir/usr/local/bin" "$dir/etc/ssl/certs" "$dir/tmp" "$dir/modules"
  cp -a "$(go env GOROOT)" "$dir/usr/local/go"
  cp -L /etc/ssl/certs/ca-certificates.crt "$dir/etc/ssl/certs/"
  install "$(command -v busybox)" "$dir/usr/local/bin/busybox"
  for name in sh ls mkdir cat; do ln -s busybox "$dir/usr/local/bin/$name"; done
  mkdir -p "$dir/bin" && ln -s /usr/local/bin/sh "$dir/bin/sh"
  for module in services/*/; do
    (cd "$module" && GOWORK=off GOMODCACHE="$work/modules" GOFLAGS=-modcacherw GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" go mod download)
  done
  cp -a "$work/modules/cache/download/." "$dir/modules/"
  import "$1" "$dir" 'ENV PATH=/usr/local/go/bin:/usr/local/bin' 'ENV HOME=/tmp' 'ENV GOPROXY=file:///modules' 'ENV GOSUMDB=off' 'ENV GOTOOLCHAIN=local'
}

# ---- the run

finish() {
  status=$?
  if [ -n "${up:-}" ]; then
    if [ $status -ne 0 ]; then
      compose ps --all || true
      compose logs --tail 40 || true
    fi
    say 'taking it down'
    compose down --volumes --timeout 30 >/dev/null 2>&1 || true
  fi
  if [ -n "$engine" ]; then stop_engine; fi
  chmod -R u+w "$work" 2>/dev/null || true
  rm -rf "$work"
  exit $status
}
trap finish EXIT

command -v docker >/dev/null && docker info >/dev/null 2>&1 || start_engine
say "engine $(docker version --format '{{.Server.Version}}')"
find_compose
say "compose $("${compose_command[@]}" version --short 2>/dev/null || echo "$compose_version")"

deploy/compose/secrets.sh # first: the compose file reads one of them
images=$(compose config --images | sort -u)
have golang:1.26 || stand_in_golang golang:1.26
for image in $images; do
  case $image in
    nats:*) have "$image" || stand_in_nats "$image" ;;
    redis:*) have "$image" || stand_in_redis "$image" ;;
  esac
done

say 'building the images'
# The first fills the cache of the stage that all share.
compose build ingestor >"$work/build.log" 2>&1 && compose build >>"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; exit 1; }
up=yes
compose up --detach --wait --wait-timeout 180
compose ps
deploy/compose/smoke.sh
say 'the compose file comes up and rings once'
