# What the examples share: a folder of their own, ports that are free, and an end for everything that they start.
set -euo pipefail
portcullis=${PORTCULLIS:-portcullis}
example=$(cd "$(dirname "$0")" && pwd)
work=${WORK:-$(mktemp -d)}
started=()
ended() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  [ -n "${WORK:-}" ] || rm -rf "$work"
}
trap ended EXIT

# Copies configuration and policies, with this user and the ports that the environment names.
take() {
  cp -r "$example/." "$work"
  cd "$work"
  find . -name portcullis.toml -exec sed -i "
    s/unix:uid:1000/unix:uid:$(id -u)/
    s#/run/portcullis/workload.sock#$work/authority/data/workload.sock#
    s/127.0.0.1:9443/127.0.0.1:${GATEWAY_PORT:-9443}/
    s/127.0.0.1:8080/127.0.0.1:${ADMIN_PORT:-8080}/
    s/127.0.0.1:8000/127.0.0.1:${SERVICE_PORT:-8000}/
    s/127.0.0.1:15001/127.0.0.1:${OUT_PORT:-15001}/
    s/127.0.0.1:15443/127.0.0.1:${IN_PORT:-15443}/" {} +
}

start() {
  "$@" >"$work/${#started[@]}.log" 2>&1 &
  started+=($!)
}

# Waits until something answers there.
up() {
  for attempt in $(seq 100); do
    curl -so /dev/null "$1" && return
    sleep 0.1
  done
  echo "nothing answers at $1" >&2
  exit 1
}

say() { printf '\n== %s\n' "$*"; }

# A call by the identity in tls/; prints its status.
call() {
  curl -sS -o answer --write-out '%{http_code}' --cacert tls/bundle.pem --cert tls/svid.pem --key tls/svid.key "$@"
}

# Ends the example when two words differ.
expect() {
  if [ "$1" != "$2" ]; then
    echo "expected $2, got $1" >&2
    cat "$work"/*.log >&2
    exit 1
  fi
  echo "$1"
}
