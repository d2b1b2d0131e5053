# A p99 that is granted as guaranteed holds where the kernel can be preempted: a node calibrates itself in this guest,
# promises two ways, and events of both are timed from producer to consumer, alone and beside best-effort events.
# checks: promise-is-given promise-needs-a-rate promise-kept promise-kept-by-function promise-kept-beside-others promise-is-tight
rm -rf /node
mkdir -p /node/run /node/state /node/wiring /node/plugins
# What is measured is what is there.
for plugin in adapter_unix adapter_udp queue_fifo invoker_dlf; do cp "/plugins/libtempos_$plugin.so" /node/plugins; done
echo '[node]' >/node/node.toml
ctl() { NO_COLOR=1 temposctl --bus unix:path=/node/run/control.sock "$@"; }
wiring() { # KEYS of the endpoint of "line"
    cat <<LUA
tempos.topic "line" { qos = "strict", ingress = { tempos.unix { path = "/node/line", $1 } },
  egress = { tempos.unix { path = "/node/line.out" } }, request = { latency_p99 = "10ms" } }
tempos.topic "asked" { qos = "strict", ingress = { tempos.unix { path = "/node/asked", rate = 50, burst = 2 } } }
tempos.topic "answers" { qos = "strict", egress = { tempos.unix { path = "/node/answers.out" } } }
tempos.workflow "answer" { from = "asked", to = "answers", request = { latency_p99 = "20ms" },
  call = { method = "dlf", file = "/t/control.so", deadline = "1ms" } }
tempos.topic "bulk" { ingress = { tempos.udp { bind = "127.0.0.1:47009" } } }
LUA
}
wiring 'rate = 1000, burst = 2' >/node/wiring/10.lua
temposd --bus none --config /node/node.toml --run /node/run --state /node/state --plugins /node/plugins --wiring /node/wiring \
    >/node/log 2>&1 &
node=$!
tries=0
until ctl topics >/dev/null 2>&1 || [ $tries -gt 100 ]; do tries=$((tries + 1)); sleep 0.2; done
ctl calibrate --time 45s >/tmp/said 2>&1 || { cat /tmp/said /node/log; }
ctl calibrate --show
sleep 1
# bound NAME: the p99 that it has, in nanoseconds; nothing where it is not guaranteed.
bound() {
    ctl explain "$1" | sed -n 's/.*: guaranteed, p99 at most \([0-9.]*\) \([nµm]*s\).*/\1 \2/p' | head -n 1 |
        awk '{ print int($1 * ($2 == "ns" ? 1 : $2 == "ms" ? 1000000 : 1000)) }'
}
ctl explain line
ctl explain answer
line=$(bound line) answer=$(bound answer)
if [ -n "$line" ] && [ -n "$answer" ]; then ok promise-is-given; else failed promise-is-given "$(ctl explain line | tail -n 1)"; fi
# timed PLACE RATE: sends for two seconds; the p99 from producer to consumer, in nanoseconds, where all arrived.
timed() {
    tempos-proc-producer sink --listen "unix:/node/$2.out" --fifo 60 --json --seconds 3 >/tmp/timed &
    sink=$!
    sleep 0.3
    tempos-proc-producer --to "unix:/node/$1" --rate "$3" --seconds 2 --fifo 60 --json >/dev/null
    wait $sink
    grep -q '"lost":0' /tmp/timed && sed -n 's/.*"p99":\([0-9]*\).*/\1/p' /tmp/timed | head -n 1
}
# kept NAME MEASURED BOUND
kept() {
    echo "$1: p99 $2 ns, guaranteed $3 ns"
    if [ -n "$2" ] && [ -n "$3" ] && [ "$2" -le "$3" ]; then ok "$1"; else failed "$1" "p99 ${2:-of nothing} above ${3:-no bound}"; fi
}
alone=$(timed line line 900)
kept promise-kept "$alone" "$line"
kept promise-kept-by-function "$(timed asked answers 45)" "$answer"
tempos-proc-producer --to udp:127.0.0.1:47009 --rate 2000 --seconds 4 --json >/dev/null &
others=$!
kept promise-kept-beside-others "$(timed line line 900)" "$line"
wait $others
# A bound of many times what it takes would hold always.
if [ -n "$alone" ] && [ "${line:-0}" -le $((alone * 4)) ] && [ -n "$line" ]; then ok promise-is-tight; else failed promise-is-tight "$alone ns, guaranteed $line ns"; fi
wiring '' >/tmp/loose.lua
ctl apply /tmp/loose.lua
if ctl explain line | grep -q 'not guaranteed: .*give its endpoints a rate'; then ok promise-needs-a-rate; else failed promise-needs-a-rate "$(ctl explain line | tail -n 1)"; fi
kill -TERM $node
wait $node
cat /node/log
