#!/bin/sh
# Three nodes in three network namespaces on links that taprio shapes: sends strict events through them to a function,
# and says how long that took, from the sensor to the function's answer. As root, on a kernel with taprio (tests/tsn/run.sh has one in a virtual machine).
#
#   sh examples/tsn/run.sh                        five seconds of 1000 strict events/s
#   FLOODS=3 sh examples/tsn/run.sh               and three best-effort floods beside them, of FLOOD_RATE=2000 each
#   FLOODS='0 1 3' sh examples/tsn/run.sh         quiet, beside one flood, and beside three: scenes one after the other
#   SECONDS_OF_EVENTS=60 RATE=500 sh examples/tsn/run.sh
#   PROGRAMS=DIR PLUGINS=DIR sh examples/tsn/run.sh   takes programs and plugins from there and builds none
#   PHASE_US=600 sh examples/tsn/run.sh           each event so long after the first window opens; 0 by default
#   FUNCTION=FILE sh examples/tsn/run.sh          takes that function and compiles none
#   HOOK=COMMAND sh examples/tsn/run.sh           runs that while events flow; SCENE is the number of floods
#
# Everything that is made and started here is ended and deleted here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=${SECONDS_OF_EVENTS:-5}
rate=${RATE:-1000}
say() { printf '\n%s\n' "$*"; }
die() { printf 'examples/tsn: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || die "network namespaces and gates need root"
command -v ip >/dev/null 2>&1 || die "ip is missing: apt-get install iproute2"

if [ -z "${PROGRAMS:-}" ]; then
    cd "$here/../.."
    say "Building (the first time takes some minutes)"
    cargo build --quiet --release --locked -p temposd -p tempos-dbus -p tempos-gates -p tempos-proc-producer \
        -p tempos-adapter-udp -p tempos-adapter-unix -p tempos-adapter-tsn -p tempos-queue-fifo -p tempos-queue-priority \
        -p tempos-invoker-dlf
    target=${CARGO_TARGET_DIR:-target}
    case $target in /*) ;; *) target=$PWD/$target ;; esac
    PROGRAMS=$target/release
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/tempos-tsn.XXXXXX")
started=''
# Set where the cause has been said.
plain=''
end() {
    code=$?
    trap - EXIT INT TERM HUP
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    for pid in $started; do wait "$pid" 2>/dev/null || true; done
    for name in trigger queue invoker; do ip netns del tempos-$name 2>/dev/null || true; done
    if [ "$code" -ne 0 ] && [ -z "$plain" ]; then tail -n 20 "$folder"/*.log >&2 2>/dev/null || true; fi
    rm -rf "$folder"
    exit "$code"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
chmod 755 "$folder"
if [ -n "${PLUGINS:-}" ]; then
    plugins=$PLUGINS
else
    plugins=$folder/plugins
    mkdir "$plugins"
    for plugin in adapter_udp adapter_unix adapter_tsn queue_fifo queue_priority invoker_dlf; do
        cp "$PROGRAMS/libtempos_$plugin.so" "$plugins/"
    done
    # The daemon takes plugins that nobody else may write.
    chmod 644 "$plugins"/*
fi
cp "$here/plan.toml" "$folder/"
if [ -n "${FUNCTION:-}" ]; then
    cp "$FUNCTION" "$folder/control.so"
else
    "${CC:-cc}" -O2 -shared -fPIC -I"$here/../../abi/include" -o "$folder/control.so" "$here/control.c" -lm
fi
chmod 644 "$folder/control.so"
echo '[node]' >"$folder/node.toml"
export TEMPOS_TSN_FOLDER="$folder"

# --- namespaces and links --------------------------------------------------------------------------------
in_ns() { name=$1; shift; ip netns exec "tempos-$name" "$@"; }
for name in trigger queue invoker; do
    ip netns add "tempos-$name"
    ip -n "tempos-$name" link set lo up
done
# link FROM INTERFACE ADDRESS TO INTERFACE ADDRESS: each class has a transmit queue; addresses are never asked for, for
# that would wait at a gate.
link() {
    ip link add "$2" netns "tempos-$1" numtxqueues 4 numrxqueues 4 type veth \
        peer name "$5" netns "tempos-$4" numtxqueues 4 numrxqueues 4
    ip -n "tempos-$1" addr add "$3/24" dev "$2"
    ip -n "tempos-$4" addr add "$6/24" dev "$5"
    ip -n "tempos-$1" link set "$2" up
    ip -n "tempos-$4" link set "$5" up
    ip -n "tempos-$1" neigh replace "$6" lladdr "$(in_ns "$4" cat "/sys/class/net/$5/address")" dev "$2"
    ip -n "tempos-$4" neigh replace "$3" lladdr "$(in_ns "$1" cat "/sys/class/net/$2/address")" dev "$5"
}
link trigger t-q 10.9.1.1 queue q-t 10.9.1.2
link queue q-i 10.9.2.1 invoker i-q 10.9.2.2

# --- nodes, from the last to the first ----------------------------------------------------------------------
ctl() { name=$1; shift; "$PROGRAMS/temposctl" --bus "unix:path=$folder/$name/run/control.sock" "$@"; }
for node in invoker queue trigger; do
    mkdir -p "$folder/$node/run" "$folder/$node/state" "$folder/$node/wiring"
    cp "$here/$node.lua" "$folder/$node/wiring/10-$node.lua"
    chmod 644 "$folder/$node/wiring/10-$node.lua"
    ip netns exec "tempos-$node" "$PROGRAMS/temposd" --bus none --config "$folder/node.toml" --run "$folder/$node/run" \
        --state "$folder/$node/state" --plugins "$plugins" --wiring "$folder/$node/wiring" 2>"$folder/$node.log" &
    pid=$!
    started="$started $pid"
    tries=0
    until ctl $node channels >"$folder/$node.channels" 2>/dev/null && grep -q sensor "$folder/$node.channels"; do
        kill -0 $pid 2>/dev/null || die "the node $node has ended"
        tries=$((tries + 1))
        [ $tries -le 300 ] || die "the node $node is not ready after a minute"
        sleep 0.2
    done
done
say "The first link"
in_ns trigger "$PROGRAMS/temposctl" tsn show t-q
say "The second link"
in_ns queue "$PROGRAMS/temposctl" tsn show q-i
if ! in_ns trigger "$PROGRAMS/temposctl" tsn show t-q | grep -q 'taprio'; then
    plain=1
    why=$(ctl trigger --json channels | sed -n 's/.*\(mode none.*\)",$/\1/p' | head -n 1)
    die "the links have no gates: $why
sh tests/tsn/run.sh runs this in a virtual machine that has them"
fi

# --- events ----------------------------------------------------------------------------------------------
# begin NODE FILE ARGUMENT...: a producer or sink in a node's namespace; its number is in $begun.
begin() {
    node=$1 file=$2; shift 2
    ip netns exec "tempos-$node" "$PROGRAMS/tempos-proc-producer" "$@" --json >"$folder/$file" &
    begun=$!
    started="$started $begun"
}
stop() {
    for pid; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid; do wait "$pid" || true; done
}
for floods in ${FLOODS:-0}; do
    say "Sending $rate strict events/s for $seconds s beside $floods best-effort floods"
    begin invoker strict.received sink --listen udp:127.0.0.1:47100 --fifo 30
    sinks=$begun
    rm -f "$folder/best-effort.sock"
    begin invoker best-effort.received sink --listen "unix:$folder/best-effort.sock"
    sinks="$sinks $begun"
    # The floods begin earlier and end later: strict events wait for the next second, which their phase begins with.
    flooding=''
    n=0
    while [ $n -lt "$floods" ]; do
        begin trigger flood --to udp:127.0.0.1:47002 --name "flood-$n" --rate "${FLOOD_RATE:-2000}" --seconds 1000000
        flooding="$flooding $begun"
        n=$((n + 1))
    done
    if [ -n "${HOOK:-}" ]; then
        SCENE=$floods sh -c "$HOOK" &
        hook=$!
        started="$started $hook"
        sleep 0.3
    fi
    begin trigger strict.sent --to udp:127.0.0.1:47001 --name sensor --rate "$rate" --seconds "$seconds" \
        --phase-us "${PHASE_US:-0}" --fifo 95
    wait "$begun"
    # shellcheck disable=SC2086 # several numbers
    stop $flooding
    [ -z "${HOOK:-}" ] || wait $hook
    sleep 0.5
    # shellcheck disable=SC2086 # several numbers
    stop $sinks
    say "Strict events, from the producer to the function's answer at the sink"
    cat "$folder/strict.sent" "$folder/strict.received"
    say "Best effort"
    cat "$folder/best-effort.received"
    for node in trigger queue invoker; do
        say "Hop by hop, in the node $node, since it was started"
        ctl $node latency
    done
done
