# A root node in a control group of version 2 bounds how many processes a function has.
# checks: groups-undelegated groups-starts groups-bounded groups-free groups-left
mkdir -p /groups /g/run /g/state /g/wiring
mount -t cgroup2 cgroup2 /groups
mkdir -p /groups/service/node
echo +pids >/groups/cgroup.subtree_control
echo +pids >/groups/service/cgroup.subtree_control
echo '[node]' >/g/node.toml
# Starts as many processes as the event says.
cat >/g/forks <<'SCRIPT'
#!/bin/sh
count=$(cat)
while [ "$count" -gt 0 ]; do
    sleep 60 &
    count=$((count - 1))
done
SCRIPT
chmod 755 /g/forks
cat >/g/wiring/10-forks.lua <<'LUA'
tempos.topic "forks" { qos = "best-effort" }
tempos.workflow "forks" { from = "forks",
  call = { method = "spawn", file = "/g/forks", processes = 20, deadline = "20s" } }
LUA
ctl() { temposctl --bus unix:path=/g/run/control.sock "$@"; }
within() { # TRIES COMMAND...
    tries=$1; shift
    while [ "$tries" -gt 0 ]; do
        "$@" && return 0
        tries=$((tries - 1))
        sleep 0.2
    done
    return 1
}
# started OPTION...: becomes the node, in its control group; for the background.
started() { exec sh -c 'echo $$ >/groups/service/node/cgroup.procs && exec "$@"' - temposd --bus none \
    --config /g/node.toml --run /g/run --state /g/state --plugins /plugins "$@"; }
# how TEXT: whether the figures of the workflow say so.
how() { ctl --json workflows | tr -d ' \n' | grep -q "$1"; }

started --wiring /g/wiring >/g/log 2>&1 &
node=$!
within 100 grep -q 'Delegate=' /g/log
kill -TERM $node
wait $node
if grep -q 'Delegate=pids and DelegateSubgroup=node' /g/log; then
    ok groups-undelegated
else
    failed groups-undelegated "$(tail -n 1 /g/log)"
fi

# What a service manager does for Delegate=pids.
setfattr -n trusted.delegate -v 1 /groups/service
started --wiring /g/wiring >/g/log 2>&1 &
node=$!
check groups-starts 0 within 100 ctl workflows
ctl pub forks 5
ctl pub forks 60
within 100 how '"failed":1' || true
ctl --json workflows
if how '"failed":1' && how '"EventsIn":2'; then ok groups-bounded; else failed groups-bounded "$(tail -n 1 /g/log)"; fi
left() { [ "$(cat /groups/service/tempos-*/cgroup.procs | wc -l)" -eq 0 ]; }
if within 50 left; then ok groups-free; else failed groups-free "$(cat /groups/service/tempos-*/cgroup.procs | wc -l) are left"; fi
kill -TERM $node
wait $node
if ls -d /groups/service/tempos-* >/dev/null 2>&1; then failed groups-left "a group is left"; else ok groups-left; fi
cat /g/log
umount /groups
