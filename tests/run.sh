#!/bin/sh
# Installs what is missing, builds everything, runs every check and every test. The last lines are cargo's
# own and a verdict; the exit code is 0 only where all of it passed.
#
#   sh tests/run.sh              everything
#   sh tests/run.sh NAME...      only the tests whose names hold one of these words
set -eu
cd "$(dirname "$0")/.."

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
die() { printf 'tests/run.sh: %s\n' "$*" >&2; exit 1; }

# What the tests need beside a Rust toolchain: a C compiler for Lua and for functions in C, a bus, busctl, a browser.
packages=
want() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }
want cc gcc
want make make
want dbus-daemon dbus-daemon
want busctl systemd
# A browser for the page of the REST door, and what schemathesis runs in.
want chromium chromium
want chromedriver chromium-driver
want python3 python3
python3 -c 'import ensurepip' >/dev/null 2>&1 || packages="$packages python3-venv"
want ip iproute2
want ptp4l linuxptp
# Containers for the functions that run in them; without root there are none.
if [ "$(id -u)" -eq 0 ]; then
    want dockerd docker.io
    want runc runc
fi
[ -e /usr/include/stdio.h ] || packages="$packages libc6-dev"
if [ -n "$packages" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing$packages"
        apt-get update -q
        # shellcheck disable=SC2086 # several names
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    else
        die "missing:$packages; install them as root, for example: apt-get install$packages"
    fi
fi
command -v cargo >/dev/null 2>&1 || die "cargo is missing; install a Rust toolchain: https://rustup.rs"

say "cargo fmt --check"
cargo fmt --all --check

say "cargo clippy, warnings are errors"
cargo clippy --locked --workspace --all-targets -- -D warnings

say "what a third party would write"
for manifest in examples/plugin-template/Cargo.toml examples/functions/*/Cargo.toml examples/functions/*/*/Cargo.toml; do
    echo "$manifest"
    cargo fmt --manifest-path "$manifest" --check
    cargo clippy --locked --quiet --manifest-path "$manifest" --target-dir target/third-party --all-targets -- -D warnings
    cargo test --locked --quiet --manifest-path "$manifest" --target-dir target/third-party
done

say "models of what lanes share"
manifest=host/engine/models/Cargo.toml
cargo fmt --manifest-path "$manifest" --check
cargo clippy --locked --quiet --manifest-path "$manifest" --target-dir target/models --all-targets -- -D warnings
cargo test --locked --quiet --manifest-path "$manifest" --target-dir target/models

say "programs and plugins"
cargo build --locked --workspace

say "licences, advisories, bans"
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check
else
    echo "cargo-deny is not installed: licences are checked by tests/tests/licences.rs, advisories are not"
fi

say "cargo test"
# The tests use what was built above; without this each of them would ask cargo again.
# Garbage is thrown at scripts more often than cargo test alone does it.
TEMPOS_TESTS_BUILT=1 TEMPOS_FUZZ_INPUTS=${TEMPOS_FUZZ_INPUTS:-40000} cargo test --locked --workspace --no-fail-fast -- "$@"

# Not where single tests are asked for.
if [ $# -eq 0 ]; then
    say "the REST door, by its own description"
    sh tests/rest/schemathesis.sh
fi

# Real gates in virtual machines, which installs QEMU and kernels where they are missing: an ordinary kernel and one with
# PREEMPT_RT side by side, on a CPU each.
case " ${*:-tsn} " in
    *tsn*)
        say "gates of two real kernels, in QEMU"
        target=${CARGO_TARGET_DIR:-target}
        PROGRAMS=$target/debug sh tests/tsn/run.sh cloud-amd64 6.12-rt-amd64
        ;;
esac

say "everything passed"
