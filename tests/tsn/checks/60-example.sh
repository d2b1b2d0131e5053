# examples/tsn: three nodes on two shaped links, the second skewed behind the first.
# checks: example-runs example-all-arrive example-first-link example-second-link example-floods-run example-floods-first-link
# checks: example-floods-second-link
export PROGRAMS=/t PLUGINS=/plugins SECONDS_OF_EVENTS=1 RATE=300
# Both links are looked at where they end: UDP port 7001 cannot be, it is the nodes' own.
cat >/tmp/hook <<'SH'
ip netns exec tempos-queue tsn-phases receive --interface q-t --ethertype 0800 --port 7001 --seconds 1.6 --window 0-500000 \
    --phases /tmp/example-first >/dev/null &
ip netns exec tempos-invoker tsn-phases receive --interface i-q --ethertype 0800 --port 7001 --seconds 1.6 \
    --window 263336-763336 --phases /tmp/example-second >/dev/null &
wait
SH
export HOOK='sh /tmp/hook'
judge_links() {
    check "$1-first-link" 0 tsn-phases judge --phases /tmp/example-first --window 0-500000 --least 300 --label "$1-first"
    check "$1-second-link" 0 tsn-phases judge --phases /tmp/example-second --window 263336-763336 --least 300 --label "$1-second"
}
check example-runs 0 sh /examples/tsn/run.sh
if grep -q '"received": *300[,}]' /tmp/said; then ok example-all-arrive; else failed example-all-arrive "$(tail -n 4 /tmp/said)"; fi
judge_links example
export FLOODS=3
check example-floods-run 0 sh /examples/tsn/run.sh
judge_links example-floods
