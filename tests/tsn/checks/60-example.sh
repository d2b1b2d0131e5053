# examples/tsn: three nodes on two shaped links, the second skewed behind the first, and a function at the end. The scenes
# of the paper's Fig. 4: 1000 strict events a second, quiet, and beside 1 and 3 best-effort floods.
# checks: example-runs example-figures example-slower-is-seen
# checks: example-0-all-arrive example-0-road example-0-first-link example-0-second-link
# checks: example-1-all-arrive example-1-road example-1-first-link example-1-second-link example-1-leaves-it
# checks: example-3-all-arrive example-3-road example-3-first-link example-3-second-link example-3-leaves-it
export PROGRAMS=/t PLUGINS=/plugins FUNCTION=/t/control.so SECONDS_OF_EVENTS=1 RATE=1000 FLOODS='0 1 3' FLOOD_RATE=1000
# Where events pass: on the way into the first node, at the ends of both links, and as the function's answers. The
# nodes' own ports cannot be listened on.
cat >/tmp/hook <<'SH'
passes() { # NAMESPACE INTERFACE PORT NAME
    ip netns exec "tempos-$1" tsn-phases receive --interface "$2" --ethertype 0800 --port "$3" --seconds 2.6 --window 0-1 \
        --phases "/tmp/$4-$SCENE" --times "/tmp/$4-$SCENE-times" >/dev/null &
}
passes trigger lo 47001 sent
passes queue q-t 7001 first
passes invoker i-q 7001 second
passes invoker lo 47100 answered
wait
SH
export HOOK='sh /tmp/hook'
check example-runs 0 sh /examples/tsn/run.sh
cp /tmp/said /out/example.txt

# No strict event is lost, and each is in its window on both links; floods do not make it later.
for scene in $FLOODS; do
    this=example-$scene
    sed -n "/beside $scene best-effort floods/,/^Best effort/p" /out/example.txt >/tmp/scene
    if grep -q '"producer":"sensor","received":1000,"lost":0' /tmp/scene; then ok $this-all-arrive; else failed $this-all-arrive "$(cat /tmp/scene)"; fi
    check $this-road 0 tsn-road measure --into /tmp/road-$scene "sensor:/tmp/sent-$scene-times" \
        "trigger and first gate:/tmp/first-$scene-times" "queue and second gate:/tmp/second-$scene-times" \
        "invoker and function:/tmp/answered-$scene-times"
    check $this-first-link 0 tsn-phases judge --phases /tmp/first-$scene --window 0-500000 --tolerance-ns $TOLERANCE \
        --least 1000 --label $this-first
    check $this-second-link 0 tsn-phases judge --phases /tmp/second-$scene --window 263336-763336 --tolerance-ns $TOLERANCE \
        --least 1000 --label $this-second
done
# alike NAME CODE ROAD: whether the events of a scene took as long as those of the quiet one.
alike() {
    check "$1" "$2" tsn-road compare --road "$3" --with /tmp/road-0 --mean-ns 30000 --p90-ns 50000 --label "$1"
}
alike example-1-leaves-it 0 /tmp/road-1
alike example-3-leaves-it 0 /tmp/road-3
awk -F '\t' '{ print $1 "\t" $2 + 31000 }' /tmp/road-0 >/tmp/road-slower
alike example-slower-is-seen 1 /tmp/road-slower

{
    echo "Strict events, 1000 a second, over three nodes to a function's answer; the guest's time on Linux $(uname -r)."
    echo
    tsn-road table quiet:/tmp/road-0 "1 best-effort flood:/tmp/road-1" "3 best-effort floods:/tmp/road-3"
    echo
    echo "The paper, on its hardware: 501 all the way in the mean, 700 at most, 57 of it processing."
    sed -n '/in the node invoker, since/,/^$/p' /out/example.txt | sed -n '1,/^$/p'
} >/out/fig4.txt
tsn-road draw --svg /out/fig4.svg --title "1000 strict events a second over three nodes, guest time (Linux $(uname -r))" \
    --mark-us '501:paper: mean 501 µs' --mark-us '700:paper: max 700 µs' quiet:/tmp/road-0 \
    "beside 1 best-effort flood:/tmp/road-1" "beside 3 best-effort floods:/tmp/road-3"
cat /out/fig4.txt
if grep -q '^3 best-effort floods' /out/fig4.txt && grep -q '</svg>' /out/fig4.svg; then ok example-figures; else failed example-figures "something is missing"; fi
