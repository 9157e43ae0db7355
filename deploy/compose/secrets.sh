#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml in deploy/compose/secrets, those that are missing. Existing ones stay: put a real
# page's access token, app secret and verify token there before the first start.
set -euo pipefail
umask 077
dir=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p "$dir"

random() { head -c "$1" /dev/urandom; }
hex() { random 32 | od -An -v -tx1 | tr -d ' \n'; }

# The programs run as nobody in particular, so each file is readable by all; the directory keeps other people out.
put() { # put NAME, the content on stdin
  if [ -s "$dir/$1" ]; then
    cat >/dev/null
    return
  fi
  cat >"$dir/$1.new"
  chmod 644 "$dir/$1.new"
  mv "$dir/$1.new" "$dir/$1"
  echo "secrets: made deploy/compose/secrets/$1"
}

# Seals one-time tokens before they reach Redis.
echo "ONEBELL_SEAL_KEY=$(random 32 | base64)" | put seal.env

# The page's: what the simulator and the services agree on.
for name in page_access_token app_secret verify_token; do
  hex | put "$name"
done

# Who may come in at the gRPC, events and console doors: one identity for each program, one for the shop's inventory
# system, one for the operator.
for name in alert sender console simulator shop operator; do
  hex | put "token_$name"
done
for line in 'alert caller' 'sender caller' 'console operator' 'simulator publisher' 'shop publisher' 'operator operator'; do
  echo "$line $(cat "$dir/token_${line%% *}")"
done | put api_tokens
