#!/bin/sh
# Real gates in a virtual machine: builds, boots a Debian kernel in QEMU, runs tests/tsn/checks in it, and prints
# `ok NAME` or `FAILED NAME: why` for each check, and a summary.
#
#   sh tests/tsn/run.sh                          the kernel cloud-amd64
#   sh tests/tsn/run.sh cloud-amd64 6.12-rt-amd64    several kernels, side by side: any linux-image-NAME of Debian
#   PROGRAMS=DIR sh tests/tsn/run.sh             takes programs and plugins from there and builds none
#   ONLY=20-gates sh tests/tsn/run.sh            only the checks of that file
#   BENCH=wirings sh tests/tsn/run.sh            a bench of tests/tsn/benches instead, with programs of the release build
#   LIMIT=300 sh tests/tsn/run.sh                seconds that one boot may take; 900 by default
#
# The guest's clock counts instructions (2 ns each) on one virtual CPU: a busy machine makes the run longer, not its
# frames later. Figures show logic and order, not the speed of any product; from run to run they differ a little.
#
# A check is a line `ok NAME` or `FAILED NAME: why` that a file of tests/tsn/checks prints, and NAME stands in one of
# its `# checks:` lines: one that never reports has failed. Pictures and logs are left in target/tsn/out/KERNEL.
# Everything is skipped, and counted as skipped, only where QEMU or a kernel is missing and cannot be installed.
set -eu
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
cache=$target/tsn
[ $# -gt 0 ] || set -- cloud-amd64
say() { printf '\n== %s\n' "$*"; }
root() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; }

export BENCH=${BENCH:-}
if [ -n "$BENCH" ]; then
    names() { sed -n 's/^# checks: //p' "tests/tsn/benches/$BENCH.sh"; }
else
    names() { sed -n 's/^# checks: //p' tests/tsn/checks/${ONLY:-*}.sh; }
fi
count=$(names | wc -w)
skip() {
    echo "skipped: $*"
    echo "summary: 0 passed, 0 failed, $((count * kernels)) skipped"
    exit 0
}
kernels=$#

# --- QEMU ----------------------------------------------------------------------------------------------
mkdir -p "$cache/debs" "$cache/kernels" "$cache/out"
if ! command -v qemu-system-x86_64 >/dev/null 2>&1; then
    root || skip "qemu-system-x86_64 is missing, and only root can install it: apt-get install qemu-system-x86"
    say "installing qemu-system-x86"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends qemu-system-x86; } \
        >"$cache/install.log" 2>&1 || skip "qemu-system-x86 cannot be installed: $(tail -n 1 "$cache/install.log")"
fi

# --- kernels and tools, from Debian's packages -----------------------------------------------------------
# Unpacks a package into a folder; it is fetched where it is not in the cache.
unpack() {
    file=$(find "$cache/debs" -name "$1_*.deb" | head -n 1)
    if [ -z "$file" ]; then
        (cd "$cache/debs" && apt-get download -q "$1") >"$cache/fetch.log" 2>&1 ||
            { root && apt-get update -q >/dev/null && (cd "$cache/debs" && apt-get download -q "$1") >"$cache/fetch.log" 2>&1; } ||
            skip "the package $1 cannot be fetched: $(tail -n 1 "$cache/fetch.log")"
        file=$(find "$cache/debs" -name "$1_*.deb" | head -n 1)
    fi
    dpkg-deb -x "$file" "$2"
}
if [ ! -e "$cache/tools/complete" ]; then
    say "fetching busybox, dash and ip"
    for package in busybox-static dash iproute2 libbpf1 libelf1 libmnl0 libbsd0 libcap2 libxtables12 libmd0 zlib1g; do
        unpack $package "$cache/tools"
    done
    : >"$cache/tools/complete"
fi
[ -e "$cache/tools/usr/sbin/ptp4l" ] || unpack linuxptp "$cache/tools"
[ -e "$cache/tools/usr/bin/chrt" ] || unpack util-linux "$cache/tools"
[ -e "$cache/tools/usr/bin/setfattr" ] || { unpack libattr1 "$cache/tools" && unpack attr "$cache/tools"; }
for kernel; do
    [ ! -e "$cache/kernels/$kernel/complete" ] || continue
    say "fetching linux-image-$kernel"
    # The package of that name only names the newest one.
    image() { apt-cache depends "linux-image-$kernel" 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }'; }
    package=$(image)
    if [ -z "$package" ] && root; then apt-get update -q >/dev/null && package=$(image); fi
    [ -n "$package" ] || skip "Debian's lists name no package linux-image-$kernel"
    rm -rf "$cache/kernels/$kernel"
    unpack "$package" "$cache/kernels/$kernel"
    : >"$cache/kernels/$kernel/complete"
done

# --- programs --------------------------------------------------------------------------------------------
if [ -n "$BENCH" ]; then
    say "building, in release"
    cargo build --quiet --locked --release --workspace
    BENCH_PROGRAM=$(cargo bench --locked -p tempos-tests --bench "$BENCH" --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')
    export BENCH_PROGRAM
    PROGRAMS=$target/release
elif [ -z "${PROGRAMS:-}" ]; then
    say "building"
    cargo build --quiet --locked -p temposd -p tempos-dbus -p tempos-gates -p tempos-proc-producer -p tempos-tsn-rig \
        -p tempos-adapter-udp -p tempos-adapter-unix -p tempos-adapter-tsn -p tempos-queue-fifo -p tempos-queue-priority \
        -p tempos-invoker-spawn -p tempos-invoker-dlf
    PROGRAMS=$target/debug
fi

# --- boot, and judge ---------------------------------------------------------------------------------------
passed=0 failed=0 booted='' booting=''
trap 'kill $booting 2>/dev/null || true; exit 130' INT TERM HUP

# Starts a machine.
boot() {
    out=$cache/out/$1
    rm -rf "$out" && mkdir -p "$out"
    sh tests/tsn/initrd.sh "$cache" "$1" "$PROGRAMS" "$out/initrd.gz"
    date +%s >"$out/started"
    # Consoles go to files: a pipe that blocks would let this machine's time into the guest.
    timeout -k 5 "${LIMIT:-900}" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -M q35 \
        -accel tcg,thread=single -cpu max,-rdrand,-rdseed -icount shift=1,sleep=off \
        -rtc base=2026-01-01T00:00:00,clock=vm -smp 1 -m 1024 \
        -kernel "$(echo "$cache/kernels/$1"/boot/vmlinuz-*)" -initrd "$out/initrd.gz" \
        -append "console=ttyS0 panic=-1 quiet tsc=reliable nokaslr norandmaps preempt=full random.trust_bootloader=off checks=${ONLY:-}" \
        -serial "file:$out/console" -serial "file:$out/artefacts" </dev/null &
    booting="$booting $!"
    booted="$booted $1"
}

# What a machine said.
judge() {
    out=$cache/out/$1
    say "kernel $1"
    tr -d '\r' <"$out/console" >"$out/log"
    tr -d '\r' <"$out/artefacts" | awk -v out="$out" '/^=== [-.a-z0-9]+$/ { file = out "/" $2; next } file { print >file }'
    grep -E '^(GUEST|ok |FAILED )' "$out/log" || true
    [ ! -e "$out/$BENCH.txt" ] || cat "$out/$BENCH.txt"
    echo "log and pictures: $out; $(($(date -r "$out/console" +%s) - $(cat "$out/started"))) s"
    rm -f "$out/initrd.gz" "$out/console" "$out/artefacts" "$out/started"
    for name in $(names); do
        if grep -q "^FAILED $name:" "$out/log"; then
            failed=$((failed + 1))
        elif grep -qx "ok $name" "$out/log"; then
            passed=$((passed + 1))
        else
            echo "FAILED $name: it never reported"
            failed=$((failed + 1))
        fi
    done
    for name in $(sed -n 's/^ok \([^ ]*\)$/\1/p; s/^FAILED \([^ :]*\):.*/\1/p' "$out/log"); do
        case " $(names | tr '\n' ' ') " in
            *" $name "*) ;;
            *)
                echo "FAILED $name: it stands in no \"# checks:\" line"
                failed=$((failed + 1))
                ;;
        esac
    done
}

# As many at once as there are CPUs: each needs one.
at_once=$(nproc)
while [ $# -gt 0 ]; do
    while [ $# -gt 0 ] && [ "$(echo "$booted" | wc -w)" -lt "$at_once" ]; do
        boot "$1"
        shift
    done
    for pid in $booting; do wait "$pid" || true; done
    booting=''
    for kernel in $booted; do judge "$kernel"; done
    booted=''
done
echo
echo "summary: $passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
