#!/bin/sh
# Two C programs and a node between them, over shared memory: builds, starts the node, sends events through, and
# says what came out.
#
#   sh examples/shm/run.sh               200,000 events
#   EVENTS=1000000 sh examples/shm/run.sh
#   PROGRAMS=DIR sh examples/shm/run.sh  takes programs and plugins from there and builds none
#
# Nothing outside a temporary folder and target/ is touched, and everything that is started here is ended here.
set -eu
cd "$(dirname "$0")/../.."
events=${EVENTS:-200000}
target=${CARGO_TARGET_DIR:-target}
die() { printf 'examples/shm: %s\n' "$*" >&2; exit 1; }
command -v cc >/dev/null 2>&1 || die "cc is missing; install a C compiler, for example: apt-get install gcc libc6-dev"

if [ -z "${PROGRAMS:-}" ]; then
    command -v cargo >/dev/null 2>&1 || die "cargo is missing; install a Rust toolchain: https://rustup.rs"
    cargo build --quiet --release --locked -p temposd -p tempos-adapter-shm -p tempos-queue-fifo
fi
bin=${PROGRAMS:-$target/release}

folder=$(mktemp -d "${TMPDIR:-/tmp}/tempos.XXXXXX")
started=''
end() {
    code=$?
    trap - EXIT INT TERM HUP
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    for pid in $started; do wait "$pid" 2>/dev/null || true; done
    if [ "$code" -ne 0 ] && [ -s "$folder/log" ]; then tail -n 40 "$folder/log" >&2; fi
    rm -rf "$folder"
    exit "$code"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$folder/run" "$folder/state" "$folder/plugins" "$folder/wiring"
chmod 755 "$folder/plugins" "$folder/wiring"
for plugin in adapter_shm queue_fifo; do install -m 0644 "$bin/libtempos_$plugin.so" "$folder/plugins/"; done
install -m 0644 examples/shm/wiring.lua "$folder/wiring/10-shm.lua"
echo '[node]' >"$folder/node.toml"
for program in producer consumer; do cc -std=c11 -O2 -I abi/include -o "$folder/$program" "examples/shm/$program.c"; done

TEMPOS_SHM_FOLDER=$folder "$bin/temposd" --bus none --run "$folder/run" --state "$folder/state" \
    --config "$folder/node.toml" --plugins "$folder/plugins" --wiring "$folder/wiring" 2>"$folder/log" &
started=$!
tries=0
until [ -S "$folder/in" ] && [ -S "$folder/out" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 200 ] || die "the node did not start"
    sleep 0.05
done
"$folder/consumer" "$folder/out" "$events" &
consumer=$!
started="$started $consumer"
# The consumer is there before the first event is: what nobody is there for is given up.
sleep 1
"$folder/producer" "$folder/in" "$events"
wait "$consumer"
