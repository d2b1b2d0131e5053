#!/bin/sh
# Packs the guest: sh initrd.sh CACHE KERNEL PROGRAMS OUT
#
# From CACHE come the kernel's modules and Debian's busybox, dash and ip; from PROGRAMS what was built. Programs are
# stripped and bring the shared libraries that they need.
set -eu
cache=$1 kernel=$2 programs=$3 out=$4
here=$(dirname "$(realpath "$0")")
root=$(mktemp -d "${TMPDIR:-/tmp}/tempos-initrd.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/bin" "$root/sbin" "$root/lib64" "$root/lib/x86_64-linux-gnu" "$root/proc" "$root/sys" "$root/dev" \
    "$root/run" "$root/tmp" "$root/root" "$root/etc" "$root/t" "$root/checks" "$root/plugins" "$root/modules" "$root/out" \
    "$root/var/run"
busybox=$cache/tools/bin/busybox

# Modules in the order in which they can be loaded: each behind those that it needs.
modules=$(echo "$cache/kernels/$kernel"/lib/modules/*)
: >"$root/modules/order"
add_module() {
    grep -qx "$1" "$root/modules/order" && return 0
    file=$(find "$modules/kernel" -name "$1.ko*" -o -name "$(echo "$1" | tr _ -).ko*" | head -n 1)
    if [ -z "$file" ]; then
        grep -Eq "/$(echo "$1" | sed 's/_/[-_]/g')\.ko" "$modules/modules.builtin" || echo "no module $1 in $kernel" >&2
        return 0
    fi
    case $file in *.xz) xz -dc "$file" ;; *) cat "$file" ;; esac >"$root/modules/$1.ko"
    for needed in $(grep -az '^depends=' "$root/modules/$1.ko" | tr -d '\0' | sed 's/^depends=//; s/,/ /g'); do
        ( add_module "$(echo "$needed" | tr - _)" )
    done
    echo "$1" >>"$root/modules/order"
}
for module in sch_taprio sch_etf sch_mqprio veth 8021q; do add_module $module; done

add_module sch_fq

# A program or plugin into a folder, with its libraries.
put() {
    cp -L "$1" "$root/$2/"
    case $1 in "$programs"/*) strip --strip-unneeded "$root/$2/$(basename "$1")" ;; esac
    LD_LIBRARY_PATH=$cache/tools/lib/x86_64-linux-gnu:$cache/tools/usr/lib/x86_64-linux-gnu ldd "$1" 2>/dev/null |
        grep -o '/[^ ]*\.so[^ ]*' | while read -r library; do
        case $library in
            */ld-linux*) folder=$root/lib64 ;;
            *) folder=$root/lib/x86_64-linux-gnu ;;
        esac
        [ -e "$folder/$(basename "$library")" ] || cp -L "$library" "$folder/"
    done
}
cp "$busybox" "$root/bin/busybox"
put "$cache/tools/bin/dash" bin
ln -s dash "$root/bin/sh"
put "$cache/tools/bin/ip" sbin
put "$cache/tools/usr/bin/setfattr" sbin
put "$cache/tools/usr/sbin/ptp4l" sbin
put "$cache/tools/usr/bin/chrt" sbin
for program in temposd temposctl tempos-tsn tempos-proc-producer tsn-gates tsn-phases tsn-road; do put "$programs/$program" t; done
# Those that the checks need: each node that starts takes all of them, in the guest's time.
for plugin in adapter_udp adapter_unix adapter_tsn queue_fifo queue_priority invoker_spawn invoker_dlf; do
    put "$programs/libtempos_$plugin.so" plugins
done
put "$programs/tsn-marks" t
# The daemon takes plugins that nobody else may write.
chmod 644 "$root"/plugins/*
cp "$here/guest/lib.sh" "$here/guest/node.sh" "$root/t/"
if [ -z "${BENCH:-}" ]; then
    cp "$here"/checks/*.sh "$root/checks/"
else
    # A bench of the house finds programs and plugins in the folder above its own.
    cp "$here/benches/$BENCH.sh" "$root/checks/"
    mkdir "$root/t/deps"
    put "$BENCH_PROGRAM" t/deps
    mv "$root/t/deps/$(basename "$BENCH_PROGRAM")" "$root/t/deps/$BENCH"
    put "$(command -v busctl)" bin
    for plugin in adapter_udp adapter_unix queue_fifo queue_edf invoker_dlf; do put "$programs/libtempos_$plugin.so" t; done
    cc -O2 -shared -fPIC -I"$here/../../abi/include" -o "$root/t/work.so" "$here/../benches/wirings/work.c"
fi
mkdir "$root/examples"
cp -r "$here/../../examples/tsn" "$root/examples/"
# The guest has no compiler.
cc -O2 -shared -fPIC -I"$here/../../abi/include" -o "$root/t/control.so" "$here/../../examples/tsn/control.c" -lm
cp "$here/guest/init" "$root/init"
chmod 755 "$root/init" "$root"/t/*
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
# The same bytes from the same files: the guest's clock counts what it takes to unpack them.
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . | LC_ALL=C sort | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null) | gzip -1n >"$out"
