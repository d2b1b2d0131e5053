# The real daemon, with real plugins, forwards events in the guest.
# checks: node-starts node-forwards node-answers node-ends
mkdir -p /node/run /node/state /node/wiring /etc/tempos
echo '[node]' >/node/node.toml
cat >/node/wiring/10-forward.lua <<'LUA'
tempos.topic "raw" {
  qos     = "strict",
  ingress = { tempos.udp { bind = "127.0.0.1:47001" } },
  egress  = { tempos.group "sink" { tempos.unix { path = "/node/sink.sock" } } },
}
LUA
tempos-proc-producer sink --listen unix:/node/sink.sock --json >/node/received &
sink=$!
temposd --bus none --config /node/node.toml --run /node/run --state /node/state --plugins /plugins \
    --wiring /node/wiring >/node/log 2>&1 &
node=$!
ctl() { temposctl --bus unix:path=/node/run/control.sock "$@"; }
tries=0
until ctl topics >/node/topics 2>&1 && grep -q raw /node/topics; do
    tries=$((tries + 1))
    [ $tries -le 100 ] && kill -0 $node 2>/dev/null || break
    sleep 0.2
done
if grep -q raw /node/topics; then ok node-starts; else failed node-starts "$(tail -n 1 /node/log)"; fi

tempos-proc-producer --to udp:127.0.0.1:47001 --rate 500 --count 200 --json
sleep 1
check node-answers 0 ctl topics
kill -TERM $node
wait $node
code=$?
if [ $code -eq 0 ]; then ok node-ends; else failed node-ends "exit code $code: $(tail -n 1 /node/log)"; fi
kill -TERM $sink
wait $sink
cat /node/received
if grep -q '"received": *200[,}]' /node/received; then
    ok node-forwards
else
    failed node-forwards "of 200 events: $(cat /node/received)"
fi
cat /node/log
