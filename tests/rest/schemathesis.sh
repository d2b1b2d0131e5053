#!/bin/sh
# Throws what schemathesis makes of the door's own description at a real node: no server error, no answer that is not
# described, nothing but what is described accepted, no way around the token.
#
#   sh tests/rest/schemathesis.sh           needs cargo and python3; schemathesis comes from the Python index
#   EXAMPLES=500 sh tests/rest/schemathesis.sh
set -eu
cd "$(dirname "$0")/../.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=$target/schemathesis
if ! [ -x "$venv/bin/schemathesis" ]; then
    python3 -m venv "$venv"
    if ! "$venv/bin/pip" install -q --disable-pip-version-check 'schemathesis>=4,<5' >"$venv/log" 2>&1; then
        if grep -qE 'Could not find a version|connection|Connection|resolve|timed out' "$venv/log"; then
            rm -rf "$venv"
            echo "SKIPPED: no Python index can be reached, so the REST door is not tried with schemathesis"
            exit 0
        fi
        cat "$venv/log" >&2
        exit 1
    fi
fi
# All of it, as the tests do: fewer packages would be built anew, with fewer features.
cargo build --locked --quiet --workspace

folder=$(mktemp -d)
node=
end() {
    [ -z "$node" ] || kill "$node" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT
mkdir "$folder/run" "$folder/state" "$folder/plugins" "$folder/wiring"
cp "$target"/debug/libtempos_adapter_udp.so "$target"/debug/libtempos_adapter_unix.so \
    "$target"/debug/libtempos_queue_fifo.so "$target"/debug/libtempos_queue_priority.so \
    "$target"/debug/libtempos_invoker_dlf.so "$folder/plugins"
cat >"$folder/wiring/10.lua" <<'LUA'
tempos.topic "press/vibration" { qos = "strict", ingress = { tempos.udp { bind = "127.0.0.1:0" } } }
tempos.topic "press" { ingress = { tempos.udp { bind = "127.0.0.1:0" } }, request = { latency_p99 = "5ms" }, on_unmet = "degrade" }
LUA
token=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
umask 077
echo "schemathesis change $token" >"$folder/tokens"

# Starts the node anew and waits until it takes requests.
start() {
    if [ -n "$node" ]; then
        kill "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    fi
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat >"$folder/node.toml" <<TOML
[rest]
listen = "127.0.0.1:$port"
tokens = "$folder/tokens"
[log]
lines_per_second = 10
TOML
    "$target/debug/temposd" --config "$folder/node.toml" --run "$folder/run" --state "$folder/state" \
        --plugins "$folder/plugins" --wiring "$folder/wiring" --bus none >"$folder/log" 2>&1 &
    node=$!
    python3 - "$port" <<'PY'
import socket, sys, time
for _ in range(600):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
        sys.exit()
    except OSError:
        time.sleep(0.05)
sys.exit("the node does not listen")
PY
}

# Not positive_data_acceptance: that a text is a text does not make it a wiring.
try() {
    (cd "$folder" && "$venv/bin/schemathesis" run "http://127.0.0.1:$port/openapi.json" --url "http://127.0.0.1:$port" \
        --header "Authorization: Bearer $token" --checks all --exclude-checks positive_data_acceptance \
        --max-examples "${EXAMPLES:-40}" --seed 2026 --rate-limit 150/s --request-timeout 20 --no-color "$@") || {
        tail -n 20 "$folder/log" >&2
        exit 1
    }
    kill -0 "$node" 2>/dev/null || {
        echo "the node has ended" >&2
        tail -n 40 "$folder/log" >&2
        exit 1
    }
}

# Streams do not end by themselves, and where something is being measured already the answer is 503, as it should be:
# tests/tests/rest.rs has both. A drain is the end of a node's work: it comes last.
start
try --exclude-path /v1/notices --exclude-path /v1/live --exclude-path /v1/drain --exclude-path /v1/calibrate
start
try --include-path /v1/drain
echo "schemathesis found nothing"
