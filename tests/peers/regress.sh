#!/bin/sh
# Whether this tree is slower than an earlier commit: both are built in release, and the highest rate without a loss of each
# adapter is taken by turns, nine rounds, of which the quickest counts. Exit code 1 where one fell by more than 5 %. On a
# shared machine three rounds are too few: two builds of the same code were up to 9 % apart then, 4 % with nine.
#
#   sh tests/peers/regress.sh             beside the commit before this one
#   sh tests/peers/regress.sh COMMIT      beside that one
#
# The rates are added to target/rates.jsonl, each with its commit: on one machine they make a history.
set -eu
cd "$(dirname "$0")/../.."
commit=$(git rev-parse --verify --quiet "${1:-HEAD~1}^{commit}") || {
    echo "regress.sh: there is no commit ${1:-HEAD~1}" >&2
    exit 64
}
tree=$PWD/target/before/tree
git worktree remove --force "$tree" 2>/dev/null || true
git worktree prune
git worktree add --quiet --detach "$tree" "$commit"
trap 'git worktree remove --force "$tree"' EXIT
echo "building $(git log -1 --format='%h %s' "$commit"), and this tree"
cargo build --locked --quiet --release --workspace --manifest-path "$tree/Cargo.toml" --target-dir target/before/target
cargo build --locked --quiet --release --workspace
cargo build --locked --quiet --release --manifest-path tests/peers/Cargo.toml
name=$(git rev-parse --short HEAD)
git diff --quiet HEAD || name="$name, changed"
tests/peers/target/release/tempos-peers --scene rate --rounds "${ROUNDS:-9}" --system tempos-udp --system tempos-unix \
    --system tempos-tcp --system tempos-shm --before target/before/target/release --record target/rates.jsonl "$name"
