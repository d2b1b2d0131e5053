# The clock that a schedule rests on: where ptp4l is killed the channel that asks it is degraded, and no frame is; it is
# granted again after the hold.
# checks: clock-starts clock-waits clock-granted clock-says clock-killed-strict clock-killed-best-effort clock-killed-told
# checks: clock-killed-counted clock-killed-others clock-granted-again clock-held clock-off-told clock-off-again
# checks: clock-gone-told clock-all-told
. /t/node.sh
net_up
schedule /node/a.toml 0 1
channels "schedule = '/node/a.toml', ptp4l = '/run/ptp-follower', ptp_role = 'follower', ptp_offset_max = '50us',
    ptp_hold = '1500ms', ptp_silence_max = '500ms'" "schedule = '/node/a.toml'"

# Both ends have one clock here: an offset is what stamps in software are wrong by, and nothing is ever stepped.
OPTIONS="-S -2 -P --transportSpecific 1 --first_step_threshold 0 --logSyncInterval -4 --logAnnounceInterval -2
    --logMinPdelayReqInterval -3 --socket_priority 7 --pi_proportional_const 0.7 --pi_integral_const 0.3
    --summary_interval 2 -m -q"
# shellcheck disable=SC2086 # several options
leader_up() { $B ptp4l -i vb --uds_address /run/ptp-leader --priority1 100 $OPTIONS >/tmp/leader 2>&1 & leader=$!; }
# shellcheck disable=SC2086 # several options
follower_up() { $A ptp4l -i va --uds_address /run/ptp-follower --slaveOnly 1 $OPTIONS "$@" >/tmp/follower 2>&1 & follower=$!; }
end() {
    kill -KILL "$1"
    wait "$1"
}
# says NAME CHANNEL WORDS...: within half a minute the channel says all of these.
says() {
    name=$1 of=$2; shift 2
    tries=0
    while [ $tries -lt 150 ]; do
        channel "$of" >/node/said
        missing=
        for words; do grep -q "$words" /node/said || missing=$words; done
        [ -n "$missing" ] || break
        tries=$((tries + 1))
        sleep 0.2
    done
    cat /node/said
    if [ -z "$missing" ]; then ok "$name"; else failed "$name" "$missing is not in: $(cat /node/said)"; fi
}

node_up clock-starts
says clock-waits strict '"State": "degraded"' 'the clock does not count'
leader_up
follower_up
says clock-granted strict '"State": "started"' 'the clock counts: port 1 is .* from grandmaster'
channel rest >/node/other
if grep -q 'by CLOCK_TAI, 0s ahead of UTC, to be within 50us by the ptp4l of /run/ptp-follower' /node/said &&
    grep -q 'by CLOCK_TAI, 0s ahead of UTC, of which no ptp4l is asked' /node/other; then
    ok clock-says
else
    failed clock-says "$(cat /node/said /node/other)"
fi

# Killed while events flow: they keep to their windows, until after it was told.
COUNT=1000 RECEIVE=2 through clock-killed &
traffic=$!
sleep 0.5
end $follower
wait $traffic
for class in "strict $STRICT" "best-effort $BEST_EFFORT"; do
    set -- $class
    check "clock-killed-$1" 0 tsn-phases judge --phases "/tmp/clock-killed-$1" --window "$2" --tolerance-ns $TOLERANCE \
        --least 1000 --label "clock-killed-$1"
done
says clock-killed-told strict '"State": "degraded"' 'the clock is lost: ptp4l has not '
if grep -q '"clock-lost": 1[, }]' /node/said; then ok clock-killed-counted; else failed clock-killed-counted "$(cat /node/said)"; fi
# Nobody asks on behalf of the other one.
channel rest >/node/other
if grep -q '"State": "started"' /node/other && ! grep -q 'clock-lost' /node/other; then
    ok clock-killed-others
else
    failed clock-killed-others "$(cat /node/other)"
fi

# Before the hold is over nothing is granted, however good the clock is.
follower_up
before=$(cut -d' ' -f1 /proc/uptime)
says clock-granted-again strict '"State": "started"' 'the clock counts'
after=$(cut -d' ' -f1 /proc/uptime)
if awk "BEGIN { exit !($after - $before >= 1.5) }"; then ok clock-held; else failed clock-held "granted after $before to $after s"; fi

# A road that is 1 ms longer one way than the other puts the clock half of that off.
end $follower
follower_up --ingressLatency 1000000
says clock-off-told strict '"State": "degraded"' 'the clock .*and may be 50.0 µs'
end $follower
follower_up
says clock-off-again strict '"State": "started"' 'the clock counts'

# The grandmaster is gone, and ptp4l goes on answering.
end $leader
says clock-gone-told strict '"State": "degraded"' 'the clock is lost: port 1 '
end $follower
node_down
tail -n 3 /tmp/leader /tmp/follower
if grep -q 'warning.*channel "strict": the clock is lost: ptp4l has not' /node/log &&
    grep -q 'channel "strict": the clock counts: port 1 is' /node/log; then
    ok clock-all-told
else
    failed clock-all-told "something is missing in the log"
fi
net_down
