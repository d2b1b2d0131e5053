# The real daemon with the loaded adapter: its gates, its classes, its launch times, what it puts back.
# checks: adapter-starts adapter-mode adapter-refusals adapter-gates adapter-shows adapter-check adapter-check-says
# checks: adapter-strict adapter-best-effort adapter-floods-strict adapter-floods-leave-it
# checks: adapter-second-node adapter-second-node-harmless adapter-mutant-is-seen adapter-mutant-leaves-best-effort adapter-restores
# checks: adapter-heir-first adapter-heir-adopts adapter-heir-inherits adapter-heir-restores
# checks: adapter-launch-starts adapter-launch-instant
. /t/node.sh
net_up
$A tsn-gates delete va
schedule /node/a.toml 0 1
schedule /node/mutant.toml 1 1
channels "schedule = '/node/a.toml'" "schedule = '/node/a.toml'"
node_up adapter-starts

channel strict >/node/reason
cat /node/reason
if grep -q 'class 0, mode software' /node/reason; then ok adapter-mode; else failed adapter-mode "$(cat /node/reason)"; fi
# What is refused on the way is told in the kernel's own words.
if grep -q 'does not have a PTP clock' /node/reason && grep -q 'offload' /node/reason; then
    ok adapter-refusals
else
    failed adapter-refusals "$(cat /node/reason)"
fi
$A tsn-gates show va >/node/root
cat /node/root
if grep -q 'taprio 7e05: at root' /node/root; then ok adapter-gates; else failed adapter-gates "$(head -n 1 /node/root)"; fi
$A temposctl tsn show va >/node/shown
cat /node/shown
if grep -q 'class 0 ██████*.*· priority 7' /node/shown && grep -q 'mode software' /node/shown; then ok adapter-shows; else failed adapter-shows "$(cat /node/shown)"; fi
# What an interface can do is asked of the loopback, which is left as it was.
check adapter-check 0 $A temposctl tsn check va
$A tsn-gates show lo >/node/loopback
if grep -q 'good  taprio' /tmp/said && grep -q 'good  etf' /tmp/said && grep -q '^noqueue 0: at root' /node/loopback; then
    ok adapter-check-says
else
    failed adapter-check-says "$(cat /tmp/said /node/loopback)"
fi

through adapter
both adapter adapter
tsn-phases draw --svg /out/node-phases.svg --title "Events of one node behind its own gates (taprio in software, $(uname -r))" \
    "strict, priority 7:/tmp/adapter-strict:$STRICT" "best effort, priority 0:/tmp/adapter-best-effort:$BEST_EFFORT"
# Three best-effort floods beside it: neither late, nor otherwise spread.
for flood in 1 2 3; do
    $A tsn-phases send --to 10.9.0.2:900$flood --priority 0 --count 4000 --period-ns 250000 --bytes 1400 >/dev/null &
done
through floods
check adapter-floods-strict 0 judge floods strict $STRICT
check adapter-floods-leave-it 0 tsn-phases compare --phases /tmp/floods-strict --with /tmp/adapter-strict --most-permille 80 --label 'strict with and without floods'

# A second node does not take the interface from the first.
mkdir -p /second/run /second/state /second/wiring
sed "s/4700/4800/; s#schedule = '/node/a.toml'#schedule = '/node/mutant.toml', on_unmet = 'refuse'#" /node/wiring/10-gated.lua \
    >/second/wiring/10-gated.lua
$A temposd --bus none --config /node/node.toml --run /second/run --state /second/state --plugins /plugins \
    --wiring /second/wiring >/second/log 2>&1 &
second=$!
sleep 4
kill -TERM $second
wait $second
if grep -q 'rules the gates of va, and its schedule is another one' /second/log; then
    ok adapter-second-node
else
    failed adapter-second-node "$(tail -n 3 /second/log)"
fi
$A tsn-gates show va | head -n 1 >/node/root
if grep -q 'map: \[1, 1, 1, 1, 1, 1, 1, 0,' /node/root; then ok adapter-second-node-harmless; else failed adapter-second-node-harmless "$(cat /node/root)"; fi

channels "schedule = '/node/mutant.toml'" "schedule = '/node/mutant.toml'"
ctl apply /node/wiring
sleep 0.5
channel strict
through mutant
check adapter-mutant-is-seen 1 judge mutant strict $STRICT
check adapter-mutant-leaves-best-effort 0 judge mutant best-effort $BEST_EFFORT
node_down
$A tsn-gates show va >/node/root
cat /node/root
if grep -q taprio /node/root; then failed adapter-restores "$(head -n 1 /node/root)"; else ok adapter-restores; fi

# Launch times: 250 us after the window opens, whenever the event came. A kernel with PREEMPT_RT sends from a thread:
# one or two frames may come later than 50 us behind it.
channels "schedule = '/node/a.toml', launch = true, lead = '200us', slot = '250us'" "schedule = '/node/a.toml'"
node_up adapter-launch-starts
channel strict
sleep 0.3
$B tsn-phases receive --udp 7001 --seconds 1 --window 250000-300000 --phases /tmp/launch-strict >/dev/null &
sleep 0.2
$A tsn-phases send --to 127.0.0.1:47001 --count 500 --period-ns 1000000 --phase-ns 500000 --bytes 200 --fifo 50
wait $!
check adapter-launch-instant 0 tsn-phases judge --phases /tmp/launch-strict --window 250000-300000 --tolerance-ns 0 \
    --least 500 --outside-most 2 --label launch-strict
$A tsn-gates show va

channel strict
node_down

# A node that finds the gates of another goes by them, keeps them when that one ends, and puts back what stood before.
channels "schedule = '/node/a.toml'" "schedule = '/node/a.toml'"
node_up adapter-heir-first
sed 's/4700/4800/' /node/wiring/10-gated.lua >/second/wiring/10-gated.lua
$A temposd --bus none --config /node/node.toml --run /second/run --state /second/state --plugins /plugins \
    --wiring /second/wiring >/second/log 2>&1 &
second=$!
sleep 4
temposctl --bus unix:path=/second/run/control.sock --json channels >/second/channels
if grep -q 'class 0, mode software' /second/channels; then ok adapter-heir-adopts; else failed adapter-heir-adopts "$(cat /second/channels)"; fi
node_down
sleep 1
$A tsn-gates show va | head -n 1 >/node/root
if grep -q 'taprio 7e05: at root' /node/root; then ok adapter-heir-inherits; else failed adapter-heir-inherits "$(cat /node/root)"; fi
kill -TERM $second
wait $second
cat /second/log
$A tsn-gates show va | head -n 1 >/node/root
if grep -q '^noqueue' /node/root; then ok adapter-heir-restores; else failed adapter-heir-restores "$(cat /node/root)"; fi
net_down
