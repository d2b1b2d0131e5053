# Five recipes; CI runs the same.

# What is there.
default:
    @just --list

# Everything that CI checks.
test:
    sh tests/run.sh

# The node with real events, in one minute.
quickstart:
    sh examples/quickstart/run.sh

# The two that complain most often, quickly.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Figures: what a hop costs beside the bare system calls.
bench:
    cargo bench --workspace
