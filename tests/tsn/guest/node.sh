# A node in the namespace a whose events leave through va; sourced by the checks that need one.
#
# Events for udp 47001 are strict (priority 7, to 10.9.0.2:7001), those for 47002 best effort (priority 0, to 7002).
rm -rf /node
mkdir -p /node/run /node/state /node/wiring /etc/tempos
echo '[node]' >/node/node.toml

# schedule FILE STRICT-CLASS REST-CLASS: the first half of each millisecond for class 0, the rest for class 1.
schedule() {
    cat >"$1" <<TOML
cycle = "1ms"
link_mbit = 10000
guard_band = "${GUARD}ns"
priorities = { 7 = $2, 0 = $3, 1 = $3, 2 = $3, 3 = $3, 4 = $3, 5 = $3, 6 = $3 }

[[window]]
classes = [0]
length = "500us"

[[window]]
classes = [1]
length = "500us"
TOML
}

# channels STRICT-OPTIONS REST-OPTIONS: writes the wiring.
channels() {
    cat >/node/wiring/10-gated.lua <<LUA
tempos.topic "fast" { qos = "strict",
  ingress = { tempos.udp { bind = "127.0.0.1:47001" } },
  egress = { tempos.tsn { name = "strict", over = "udp", to = "10.9.0.2:7001", interface = "va", priority = 7, $1 } } }
tempos.topic "slow" { qos = "best-effort",
  ingress = { tempos.udp { bind = "127.0.0.1:47002" } },
  egress = { tempos.tsn { name = "rest", over = "udp", to = "10.9.0.2:7002", interface = "va", priority = 0, $2 } } }
LUA
}

ctl() { temposctl --bus unix:path=/node/run/control.sock "$@"; }

# node_up NAME: starts it; the check NAME is that it came up with its channels.
node_up() {
    $A temposd --bus none --config /node/node.toml --run /node/run --state /node/state --plugins /plugins \
        --wiring /node/wiring >/node/log 2>&1 &
    node=$!
    tries=0
    until ctl channels >/node/channels 2>&1 && grep -q strict /node/channels; do
        tries=$((tries + 1))
        [ $tries -le 100 ] && kill -0 $node 2>/dev/null || break
        sleep 0.2
    done
    if grep -q strict /node/channels; then ok "$1"; else failed "$1" "$(tail -n 1 /node/log)"; fi
}

node_down() {
    kill -TERM $node
    wait $node
    cat /node/log
}

# channel NAME: what it says of itself, on one line.
channel() {
    ctl --json channels | tr -d '\n' | sed 's/  */ /g; s/}, { "Adapter/}\n{ "Adapter/g' | grep "\"name\": \"$1\""
    echo
}

# through LABEL: 500 events ($COUNT) of each class through the node; their phases are in /tmp/LABEL-strict and -best-effort.
through() {
    for class in "7001 strict $STRICT" "7002 best-effort $BEST_EFFORT"; do
        set -- "$1" $class
        $B tsn-phases receive --udp "$2" --seconds "${RECEIVE:-1.2}" --window "$4" --phases "/tmp/$1-$3" \
            --times "/tmp/$1-$3-times" >/dev/null &
        receivers="$receivers $!"
    done
    sleep 0.2
    $A tsn-phases send --to 127.0.0.1:47001 --count "${COUNT:-500}" --period-ns 1370000 --bytes 200 --fifo 50 &
    receivers="$receivers $!"
    $A tsn-phases send --to 127.0.0.1:47002 --count "${COUNT:-500}" --period-ns 1130000 --bytes 1000 --fifo 50 &
    # shellcheck disable=SC2086 # several numbers
    wait $receivers $!
    receivers=
}
receivers=
