# What tempos-qdisc promises, on a real taprio.
# checks: qdisc-link qdisc-reads-back qdisc-etf qdisc-restores-mqprio qdisc-restores-gates qdisc-refusals qdisc-tells
# checks: qdisc-carrier
net_up
$A tsn-gates probe va

# The other end goes down and comes back: both are told.
$A tsn-gates watch va 2 >/tmp/watched &
sleep 0.5
ip -n b link set vb down
sleep 0.3
ip -n b link set vb up
wait
cat /tmp/watched
if grep -q 'carrier=false' /tmp/watched && tail -n 1 /tmp/watched | grep -q 'up=true carrier=true'; then
    ok qdisc-carrier
else
    failed qdisc-carrier "the loss of the carrier and its return were not both told"
fi
net_down
