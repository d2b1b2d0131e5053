# What leaves the real daemon carries its VLAN priority, and datagrams are spaced where fq stands.
# checks: marks-pcp marks-pcp-by-wifi pacing-needs-fq pacing-by-fq
net_up
for side in "a va 10.9.5.1" "b vb 10.9.5.2"; do
    set -- $side
    ip -n "$1" link add link "$2" name "$2.5" type vlan id 5 egress-qos-map 6:5 262:6
    ip -n "$1" addr add "$3/24" dev "$2.5"
    ip -n "$1" link set "$2.5" up
done
$A ip neigh replace 10.9.5.2 lladdr "$($B cat /sys/class/net/vb/address)" dev va.5
rm -rf /marks
mkdir -p /marks/run /marks/state /marks/wiring
echo '[node]' >/marks/node.toml
cat >/marks/wiring/10-marks.lua <<'LUA'
local function way(name, port, to)
  tempos.topic(name) { qos = "strict", ingress = { tempos.udp { bind = "127.0.0.1:" .. port } }, egress = { tempos.udp(to) } }
end
way("vlan", 47101, { to = "10.9.5.2:7101" })
way("wifi", 47102, { to = "10.9.5.2:7102", wifi = "voice" })
way("paced", 47103, { to = "10.9.0.2:7103", pacing = "64KiB" })
LUA
$A temposd --bus none --config /marks/node.toml --run /marks/run --state /marks/state --plugins /plugins \
    --wiring /marks/wiring >/marks/log 2>&1 &
node=$!
tries=0
until grep -q 'ready: ' /marks/log || [ $tries -gt 100 ]; do
    tries=$((tries + 1))
    sleep 0.2
done
cat /marks/log

# seen INTERFACE PORT INGRESS-PORT COUNT: what is seen of that many datagrams of 1000 bytes, 0.1 ms apart.
seen() {
    $B tsn-marks see --interface "$1" --udp "$2" --seconds 2 >/tmp/seen &
    sees=$!
    sleep 0.2
    $A tsn-phases send --to "127.0.0.1:$3" --count "$4" --period-ns 100000 --bytes 1000
    wait $sees
    cat /tmp/seen
}
# is NAME PATTERN: whether that was seen.
is() {
    if grep -Eqx "$2" /tmp/seen; then ok "$1"; else failed "$1" "$(cat /tmp/seen)"; fi
}
seen vb 7101 47101 5
is marks-pcp 'frames 5 dscp 46 pcp 5 span-ms [0-9]+'
seen vb 7102 47102 5
is marks-pcp-by-wifi 'frames 5 dscp 46 pcp 6 span-ms [0-9]+'
# 60 of them take 0.9 s at 64 KiB a second.
seen vb 7103 47103 60
is pacing-needs-fq 'frames 60 dscp 46 pcp none span-ms [0-9]{1,2}'
$A tsn-marks fq va
seen vb 7103 47103 60
is pacing-by-fq 'frames 60 dscp 46 pcp none span-ms ([89][0-9]{2}|[1-9][0-9]{3})'
kill -TERM $node
wait $node
net_down
