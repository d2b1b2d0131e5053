# What the kernel stops or loses comes back by itself, and is told.
# checks: dog-hears-gates dog-notices-silence heal-starts
# checks: heal-peer-told heal-peer-counted heal-peer-strict heal-peer-best-effort heal-peer-soon
# checks: heal-flap-counted heal-flap-strict heal-flap-best-effort heal-flap-soon
# checks: heal-graft-counted heal-graft-strict heal-graft-best-effort heal-graft-soon
# checks: heal-deleted-counted heal-deleted-strict heal-deleted-best-effort heal-deleted-soon
# checks: heal-back-counted heal-back-strict heal-back-best-effort heal-back-soon
# checks: heal-ahead-counted heal-ahead-strict heal-ahead-best-effort heal-ahead-soon
# checks: heal-silent-counted heal-silent-strict heal-silent-best-effort heal-silent-soon
# checks: heal-all-told
. /t/node.sh
net_up
# The watchdog alone, on gates that nobody mends.
gates
check dog-hears-gates 0 $A tsn-gates dog va 1
$A tsn-gates etf va 3 50000
check dog-notices-silence 1 $A tsn-gates dog va 2
$A tsn-gates delete va

schedule /node/a.toml 0 1
channels "schedule = '/node/a.toml'" "schedule = '/node/a.toml'"
node_up heal-starts

# The kernel opens all gates while it takes a schedule; the node holds its events back from the moment that the kernel tells
# of a change. What may be outside is one that just then was on its way, or waited at a gate when the kernel opened it.
# heal NAME INCIDENT LEAST OUTSIDE COMMAND...: traffic flows, the command breaks it, and it goes on: that many of 500
# frames at least, at most so many outside of their window, and the first within two cycles of the last repair.
heal() {
    what=heal-$1 incident=$2 least=$3 outside=$4; shift 4
    $A tsn-gates watch va ${SECONDS_OF_TRAFFIC:-2} >/node/watched &
    watcher=$!
    RECEIVE=${SECONDS_OF_TRAFFIC:-2} through "$what" &
    traffic=$!
    sleep 0.5
    "$@"
    wait $traffic $watcher
    grep 'set taprio' /node/watched >/node/repairs
    cat /node/watched
    sleep 1
    channel strict >/node/told
    cat /node/told
    if grep -q "\"$incident\"" /node/told && grep -q '"State": "started"' /node/told; then
        ok "$what-counted"
    else
        failed "$what-counted" "$(sed 's/.*"Incidents": \({[^}]*}\).*/\1/' /node/told)"
    fi
    for class in "strict $STRICT" "best-effort $BEST_EFFORT"; do
        set -- $class
        check "$what-$1" 0 tsn-phases judge --phases "/tmp/$what-$1" --window "$2" --tolerance-ns $TOLERANCE \
            --least "$least" --outside-most "$outside" --label "$what-$1"
    done
    check "$what-soon" 0 tsn-phases resumed --times "/tmp/$what-strict-times" --after /node/repairs \
        --within-ns 2020000 --label "$what"
}

peer_down_and_up() {
    ip -n b link set vb down
    sleep 0.3
    channel strict >/node/down
    ip -n b link set vb up
    neighbours
}
COUNT=1000
heal peer link-returned 600 1 peer_down_and_up
cat /node/down
if grep -q '"State": "degraded"' /node/down && grep -q 'va has no carrier' /node/down; then
    ok heal-peer-told
else
    failed heal-peer-told "$(cat /node/down)"
fi

COUNT=500
flap() {
    ip -n a link set va down
    ip -n a link set va up
    neighbours
}
heal flap link-returned 300 1 flap
heal graft child-grafted 470 1 $A tsn-gates etf va 3 50000
heal deleted gates-lost 450 1 $A tsn-gates delete va

step() { date -s "@$(($(date +%s) + $1))" >/dev/null; }
heal back clock-stepped 450 1 step -20
heal ahead clock-stepped 450 1 step 30

# A program that never stops is not answered at once for ever: after ten repairs within ten seconds there is one each two seconds,
# and events are held back until it. What is silent is found by the watchdog before.
grafts() {
    n=0
    while [ $n -lt 13 ]; do
        $A tsn-gates etf va 3 $((50000 + n))
        n=$((n + 1))
    done
}
COUNT=1500 SECONDS_OF_TRAFFIC=3
heal silent gate-silent 600 1 grafts
node_down
if grep -q 'warning.*channel "strict": va has no carrier' /node/log &&
    grep -q 'channel "strict": va: its link is back: the gates were set again' /node/log &&
    grep -q 'another program changed a discipline beneath the gates' /node/log &&
    grep -q 'another program deleted or changed the gates' /node/log &&
    grep -q 'the clock was stepped back by' /node/log && grep -q 'the clock was stepped ahead by' /node/log; then
    ok heal-all-told
else
    failed heal-all-told "something is missing in the log"
fi
net_down
