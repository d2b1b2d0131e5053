#!/bin/sh
# A node in one command: installs what is missing, builds, starts a node on a private bus, sends this
# machine's own counters through it on two QoS levels, and prints where the time went.
#
#   sh examples/quickstart/run.sh                 ten seconds of events
#   SECONDS_OF_EVENTS=60 sh examples/quickstart/run.sh
#   KEEP=1 sh examples/quickstart/run.sh          leaves the node running until Enter is pressed
#   PROGRAMS=DIR sh examples/quickstart/run.sh    takes programs and plugins from there and builds none
#
# Nothing outside a temporary folder and target/ is touched. Everything that is started here is ended here,
# also when the script is interrupted.
set -eu
cd "$(dirname "$0")/../.."
seconds=${SECONDS_OF_EVENTS:-10}
target=${CARGO_TARGET_DIR:-target}

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# --- what is missing -----------------------------------------------------------------------------------
packages=''
want() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }
want cc gcc
want dbus-daemon dbus-daemon
want busctl systemd
[ -e /usr/include/stdio.h ] || packages="$packages libc6-dev"
if [ -n "$packages" ]; then
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 ||
        die "missing:$packages; install them as root, for example: apt-get install$packages"
    say "Installing$packages"
    apt-get update -qq
    # shellcheck disable=SC2086 # several names
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null
fi
command -v cargo >/dev/null 2>&1 || die "cargo is missing; install a Rust toolchain: https://rustup.rs"

# --- build ---------------------------------------------------------------------------------------------
quiet=--quiet
if [ -t 2 ]; then quiet=''; fi
plugins='adapter-udp adapter-unix queue-fifo queue-priority invoker-dlf'
set --
for plugin in $plugins; do set -- "$@" -p "tempos-$plugin"; done
if [ -z "${PROGRAMS:-}" ]; then
    say "Building (the first time takes some minutes)"
    # shellcheck disable=SC2086 # empty or one flag
    cargo build $quiet --release --locked -p temposd -p tempos-dbus -p tempos-proc-producer "$@"
fi
# shellcheck disable=SC2086
cargo build $quiet --release --manifest-path examples/functions/summary-rust/Cargo.toml --target-dir "$target/functions"
case $target in /*) ;; *) target=$PWD/$target ;; esac
bin=${PROGRAMS:-$target/release}
producer=$bin/tempos-proc-producer

# --- a folder, and an end for everything that is started ------------------------------------------------
folder=$(mktemp -d "${TMPDIR:-/tmp}/tempos.XXXXXX")
started=''
end() {
    code=$?
    trap - EXIT INT TERM HUP
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    for pid in $started; do wait "$pid" 2>/dev/null || true; done
    if [ "$code" -ne 0 ] && [ -s "$folder/log" ]; then
        printf '\nThe log of the node:\n' >&2
        tail -n 40 "$folder/log" >&2
    fi
    rm -rf "$folder"
    exit "$code"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$folder/run" "$folder/state" "$folder/plugins" "$folder/wiring" "$folder/wiring/functions"
chmod 755 "$folder/plugins" "$folder/wiring" "$folder/wiring/functions"
for plugin in $plugins; do
    install -m 0644 "$bin/libtempos_$(echo "$plugin" | tr - _).so" "$folder/plugins/"
done
install -m 0644 "$target/functions/release/libsummary.so" "$folder/wiring/functions/"
install -m 0644 examples/quickstart/wiring.lua "$folder/wiring/10-quickstart.lua"
# Everything at its default, whatever this machine's own /etc/tempos says.
echo '[node]' >"$folder/node.toml"

# Two UDP ports that nobody listens on.
port=$((47000 + $$ % 1000 * 2))
free_port() {
    while grep -qi ":$(printf '%04X' "$port") " /proc/net/udp /proc/net/udp6 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}
strict_port=$(free_port)
port=$((port + 1))
bulk_port=$(free_port)

# Strict flows begin and end in real time too, where the system grants it: a consumer that waits for the
# CPU is as late as a node that does.
fifo=''
if [ "$(id -u)" -eq 0 ]; then fifo='--fifo 30'; fi

# --- start ---------------------------------------------------------------------------------------------
bus=unix:path=$folder/bus
dbus-daemon --session --nofork --nopidfile --nosyslog --address="$bus" 2>"$folder/bus.log" &
bus_pid=$!
started="$started $bus_pid"
# shellcheck disable=SC2086 # empty, or a flag and its value
"$producer" sink --listen "unix:$folder/strict.sock" $fifo --json >"$folder/strict.received" &
strict_sink=$!
started="$started $strict_sink"
"$producer" sink --listen "unix:$folder/best-effort.sock" --json >"$folder/best-effort.received" &
bulk_sink=$!
started="$started $bulk_sink"
tries=0
until [ -S "$folder/bus" ] && [ -S "$folder/strict.sock" ] && [ -S "$folder/best-effort.sock" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 200 ] || die "the bus or a sink did not start: $(cat "$folder/bus.log")"
    sleep 0.05
done

say "Starting a node on a private bus"
TEMPOS_QUICKSTART_FOLDER=$folder TEMPOS_QUICKSTART_STRICT_PORT=$strict_port TEMPOS_QUICKSTART_BULK_PORT=$bulk_port \
    "$bin/temposd" --bus "$bus" --run "$folder/run" --state "$folder/state" --config "$folder/node.toml" \
    --plugins "$folder/plugins" --wiring "$folder/wiring" 2>"$folder/log" &
node=$!
started="$started $node"
ctl() { "$bin/temposctl" --bus "$bus" "$@"; }
tries=0
until [ -S "$folder/run/control.sock" ] && { ctl workflows >"$folder/workflows" 2>/dev/null && grep -q summarise "$folder/workflows"; }; do
    kill -0 "$node" 2>/dev/null || die "the node has ended"
    tries=$((tries + 1))
    [ "$tries" -le 300 ] || die "the node is not ready after half a minute"
    sleep 0.1
done
ctl plugins

# --- events --------------------------------------------------------------------------------------------
say "Sending this machine's counters for $seconds s: 1000 events/s strict, as many as possible best-effort"
"$producer" --to "udp:127.0.0.1:$bulk_port" --name bulk --flood --seconds "$seconds" --json >"$folder/best-effort.sent" &
bulk=$!
started="$started $bulk"
# shellcheck disable=SC2086
"$producer" --to "udp:127.0.0.1:$strict_port" --name vitals --rate 1000 --seconds "$seconds" $fifo --json \
    >"$folder/strict.sent" &
strict=$!
started="$started $strict"
wait "$strict"
wait "$bulk"
# What is queued is delivered; then the sinks say what they got.
sleep 1

say "Hop by hop, in the node"
ctl latency
say "The node"
ctl status || true
ctl topics
ctl --json topics >"$folder/topics.json"
ctl --json channels >"$folder/channels.json"
if [ -n "${KEEP:-}" ]; then
    say "The node runs on; talk to it from another terminal, and press Enter here to end it"
    echo "  $bin/temposctl --bus $bus status"
    echo "  busctl --address=$bus tree org.tempos.Host1"
    read -r _ || true
fi

kill "$node"
wait "$node" || true
kill "$strict_sink" "$bulk_sink"
wait "$strict_sink" "$bulk_sink" || true
started=$bus_pid

# --- the account ---------------------------------------------------------------------------------------
field() { sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p" "$folder/$1" | head -n 1; }
micros() { awk -v ns="${1:-0}" 'BEGIN { if (ns < 1e6) printf "%.0f us", ns / 1e3; else printf "%.2f ms", ns / 1e6 }'; }
# What the node says of a level: dropped by the kernel at its sockets, and by the node, whatever the reason.
# Each figure of the JSON stands on a line of its own, an object's name comes last.
counted() {
    awk -v level="$1" -F '": ' '
        /"EventsDropped": [{]$/ { dropped = 1; next }
        dropped && /[}]/ { dropped = 0 }
        dropped || /"(KernelDropped|SendErrors)": / { sum += $2 + 0 }
        /"Level": / { mine = index($2, "\"" level "\"") }
        /^    "name": / { if (mine) all += sum; sum = 0 }
        END { printf "%d", all }' "$folder/topics.json" "$folder/channels.json"
}
say "From the producer's socket to the sink's"
printf '%-12s %9s %9s %9s %9s %9s  %9s %9s %9s %9s\n' \
    LEVEL SENT RECEIVED LOST COUNTED REORDERED P50 P99 P99.9 MAX
for level in strict best-effort; do
    sent=$(field $level.sent sent)
    received=$(field $level.received received)
    sent=${sent:-0} received=${received:-0}
    printf '%-12s %9s %9s %9s %9s %9s  %9s %9s %9s %9s\n' "$level" "$sent" "$received" "$((sent - received))" \
        "$(counted $level)" "$(field $level.received reordered)" "$(micros "$(field $level.received p50)")" \
        "$(micros "$(field $level.received p99)")" "$(micros "$(field $level.received 'p99\.9')")" \
        "$(micros "$(field $level.received max)")"
done
cat <<'END'

Best-effort is a flood that no queue can hold. COUNTED is what the node says it lost: dropped by the kernel at its
sockets, or by itself from a full queue. Strict loses nothing to it.

Next: examples/node.toml (every setting), lua/README.md (wiring), examples/plugin-template (your own plugin).
END
