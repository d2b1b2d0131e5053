# What the checks share; sourced before each of them.
#
# Two namespaces, a (sends, has the gates) and b (receives), joined by a veth pair: va with 4 transmit queues and
# 10.9.0.1, vb with 10.9.0.2. The cycle is 1 ms; strict traffic (priority 7, port 7001) has its first half, the rest
# (port 7002) its second.
A='ip netns exec a'
B='ip netns exec b'
HALF=500000
STRICT=0-500000
BEST_EFFORT=500000-1000000
# How late a frame may be behind its window (ns).
TOLERANCE=20000
# What stays free at a window's end (ns). With PREEMPT_RT threads hand frames over, which others may hold up.
GUARD=0
case $(uname -v) in *PREEMPT_RT*) GUARD=20000 ;; esac

ok() { echo "ok $1"; }
failed() { name=$1; shift; echo "FAILED $name: $*"; }

# check NAME WANTED-EXIT-CODE COMMAND...: runs it, shows what it says, and judges by its exit code.
check() {
    name=$1 wanted=$2; shift 2
    "$@" >/tmp/said 2>&1; code=$?
    cat /tmp/said
    if [ "$code" -eq "$wanted" ]; then ok "$name"; else failed "$name" "exit code $code instead of $wanted: $(tail -n 1 /tmp/said)"; fi
}

# Addresses of neighbours never wait at a gate: nobody asks for them.
neighbours() {
    $B ip neigh replace 10.9.0.1 lladdr "$($A cat /sys/class/net/va/address)" dev vb
    $A ip neigh replace 10.9.0.2 lladdr "$($B cat /sys/class/net/vb/address)" dev va
}

net_up() {
    ip netns add a
    ip netns add b
    ip link add va numtxqueues 4 numrxqueues 4 type veth peer name vb numtxqueues 4 numrxqueues 4
    ip link set va netns a
    ip link set vb netns b
    for side in a b; do ip -n $side link set lo up; done
    ip -n a addr add 10.9.0.1/24 dev va
    ip -n b addr add 10.9.0.2/24 dev vb
    ip -n a link set va up
    ip -n b link set vb up
    neighbours
}

net_down() {
    ip netns del a
    ip netns del b
    sleep 0.3
}

# gates [--strict-class 1]: half of the cycle for each class, less the guard band.
gates() {
    if [ $GUARD -eq 0 ]; then
        $A tsn-gates set va 1:$HALF 2:$HALF "$@"
    else
        $A tsn-gates set va 1:$((HALF - GUARD)) 0:$GUARD 2:$((HALF - GUARD)) 0:$GUARD "$@"
    fi
}

# traffic LABEL: 500 frames of both classes at once, at times spread over the cycle. Their phases are in
# /tmp/LABEL-strict and /tmp/LABEL-best-effort.
traffic() {
    for class in "7001 strict $STRICT" "7002 best-effort $BEST_EFFORT"; do
        set -- "$1" $class
        $B tsn-phases receive --udp "$2" --seconds 1.2 --window "$4" --phases "/tmp/$1-$3" >/dev/null &
    done
    sleep 0.2
    $A tsn-phases send --to 10.9.0.2:7001 --priority 7 --count 500 --period-ns 1370000 --bytes 200 --fifo 50 &
    $A tsn-phases send --to 10.9.0.2:7002 --priority 0 --count 500 --period-ns 1130000 --bytes 1000 --fifo 50 &
    wait
}

# judge LABEL CLASS WINDOW: whether 500 frames came, all of them in the window or up to $TOLERANCE later.
judge() {
    tsn-phases judge --phases "/tmp/$1-$2" --window "$3" --tolerance-ns $TOLERANCE --least 500 --label "$1-$2"
}

# both NAME LABEL: the checks NAME-strict and NAME-best-effort.
both() {
    check "$1-strict" 0 judge "$2" strict $STRICT
    check "$1-best-effort" 0 judge "$2" best-effort $BEST_EFFORT
}

# silent NAME LABEL: nothing arrived.
silent() {
    count=$(cat "/tmp/$2-strict" "/tmp/$2-best-effort" | wc -l)
    if [ "$count" -eq 0 ]; then ok "$1"; else failed "$1" "$count frames came although the gates had stopped"; fi
}
