#!/bin/sh
# TEMPOS beside its peers, in one run: installs what is missing, builds both, and prints a table for each scene.
#
#   sh tests/peers/run.sh                              everything: about 25 minutes, 10 of them the soak
#   sh tests/peers/run.sh --quick                      a few minutes
#   sh tests/peers/run.sh --scene flood --system nats --system tempos-tcp --system bare-forwarder
set -eu
cd "$(dirname "$0")/../.."

packages=
for program in mosquitto nats-server; do
    command -v "$program" >/dev/null 2>&1 || packages="$packages $program"
done
if [ -n "$packages" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -q
        # Their own services are not to start: the bench starts what it compares, on ports of its own.
        policy=
        if [ ! -e /usr/sbin/policy-rc.d ]; then
            policy=/usr/sbin/policy-rc.d
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        # shellcheck disable=SC2086 # several names
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages ||
            echo "not all of$packages could be installed: what is missing is left out of the comparison" >&2
        if [ -n "$policy" ]; then rm -f "$policy"; fi
    else
        echo "missing:$packages; what is missing is left out of the comparison" >&2
    fi
fi

cargo build --locked --release --workspace
cargo build --locked --release --manifest-path tests/peers/Cargo.toml
exec tests/peers/target/release/tempos-peers "$@"
