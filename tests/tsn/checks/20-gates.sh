# Arrival phases through gates that tempos-qdisc has set; and that these checks can fail.
# checks: baseline-is-seen gates-set gates-strict gates-best-effort mutant-is-seen mutant-leaves-best-effort
# checks: graft-freezes graft-mended-strict graft-mended-best-effort
# checks: flap-freezes flap-mended-strict flap-mended-best-effort
# checks: step-back-is-seen step-back-mended-strict step-back-mended-best-effort
net_up
# Without gates about half of the frames are outside: were they all inside, the check would show nothing.
traffic baseline
check baseline-is-seen 1 judge baseline strict $STRICT

check gates-set 0 gates
traffic gates
both gates gates
tsn-phases draw --svg /out/arrival-phases.svg --title "Arrival phases behind a software taprio, $(uname -r)" \
    "strict, priority 7:/tmp/gates-strict:$STRICT" "best effort, priority 0:/tmp/gates-best-effort:$BEST_EFFORT"
cp /tmp/gates-strict /out/arrival-phases-strict.txt
cp /tmp/gates-best-effort /out/arrival-phases-best-effort.txt

# Strict traffic mapped to the other class.
$A tsn-gates delete va
gates --strict-class 1
traffic mutant
check mutant-is-seen 1 judge mutant strict $STRICT
# All of it shares the second half now, where best effort belongs: only strict traffic is wrong.
check mutant-leaves-best-effort 0 judge mutant best-effort $BEST_EFFORT
$A tsn-gates delete va

# A child is grafted: the gates stop for good. The schedule set again starts them.
gates
$A tsn-gates etf va 3 50000
traffic graft
count=$(cat /tmp/graft-strict /tmp/graft-best-effort | wc -l)
if [ "$count" -lt 1000 ]; then ok graft-freezes; else failed graft-freezes "all $count frames came"; fi
$A tsn-gates delete va
gates
$A tsn-gates etf va 3 50000
gates
traffic graft-mended
both graft-mended graft-mended

# The link goes down and comes back.
$A tsn-gates delete va
gates
ip -n a link set va down
ip -n a link set va up
neighbours
traffic flap
silent flap-freezes flap
$A tsn-gates delete va
gates
ip -n a link set va down
ip -n a link set va up
neighbours
gates
traffic flap-mended
both flap-mended flap-mended

# The clock goes back by 20 s: one class flows at any time, the other waits. Only a schedule that is set anew helps.
date -s "@$(($(date +%s) - 20))" >/dev/null
gates
traffic step-back
if judge step-back strict $STRICT && judge step-back best-effort $BEST_EFFORT; then
    failed step-back-is-seen "both classes were on time after a step back"
else
    ok step-back-is-seen
fi
$A tsn-gates delete va
gates
traffic step-back-mended
both step-back-mended step-back-mended
net_down
