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

# Attacks on the shipped gateway, as tables: id -> expected -> seen
hostile *names:
    cargo test --locked -p portcullis --no-run
    cargo test --locked -p tests --test e2e -- --nocapture {{ if names == "" { "hostile" } else { names } }}

# The demo; the README's first command
demo:
    cargo run --release --locked -p portcullis -- demo

# Pages, dashboards and the SBOM, which are written from the sources: docs/reference, deploy/dashboards, deploy/sbom
reference:
    PORTCULLIS_WRITE_REFERENCE=1 cargo test --locked -p portcullis --bin portcullis reference
    PORTCULLIS_WRITE_REFERENCE=1 cargo test --locked -p tests --test arch
    python3 deploy/dashboards/generate.py
    python3 deploy/sbom/generate.py

# Two builds of the last commit in two directories give the same bytes
reproduce profile="dist":
    deploy/reproduce {{profile}}

# How many packages the binary is made of, and which exist in several versions
packages:
    python3 deploy/sbom/generate.py --report

# Install test peers
peers:
    bash .ci/peers

# Ours beside nginx, HAProxy and Envoy; installs them, writes docs/benchmarks.md
bench *flags:
    bash tests/load/run {{flags}}

# What a pair of sidecars adds to a call, beside a pair of Envoys; writes its part of docs/benchmarks.md
bench-pair *flags:
    cargo build --profile dist --locked -p portcullis
    python3 tests/load/pair.py {{flags}}

# Decisions beside stock Cedar; writes its part of docs/benchmarks.md
bench-policy *flags:
    python3 tests/load/policy.py {{flags}}

# The decision ledger, beside sled and PostgreSQL with the same records; writes its part of docs/benchmarks.md
bench-ledger *flags:
    python3 tests/load/ledger.py {{flags}}

# The engine against stock Cedar over a million random cases
oracle:
    PORTCULLIS_TEST_SCALE=50 cargo test --release --locked -p policies-engine --test oracle -- --nocapture

# Commits and activations of policies under kill -9, 200 times
kill-policies:
    PORTCULLIS_TEST_SCALE=5 cargo test --locked -p policies-store --lib ps7_no_acknowledged -- --nocapture

# Everything that changes, under load that accounts for every call: pushes, reloads, rotations, upgrades, kill -9
chaos-local:
    cargo test --locked -p portcullis --no-run
    PORTCULLIS_TEST_SCALE=20 cargo test --locked -p tests --test e2e -- --nocapture --test-threads 1 chaos

# The ledger under kill -9 and load: so many times six kills, every answer accounted for
kill-ledger scale="20":
    cargo test --locked -p portcullis --no-run
    PORTCULLIS_TEST_SCALE={{scale}} cargo test --locked -p tests --test e2e -- --nocapture dl3_whatever

# A push of policies every second under load, every call accounted for
soak-push minutes="1":
    cargo test --locked -p portcullis --no-run
    PORTCULLIS_SOAK_MINUTES={{minutes}} cargo test --locked -p tests --test e2e -- --nocapture ps5_a_push

# Every parser of network bytes under mutation, so many seconds each
fuzz seconds="60" *names:
    PORTCULLIS_FUZZ_SECONDS={{seconds}} cargo test --locked -p tests --test fuzz -- --nocapture {{names}}
