# The desk. Every recipe is a command that can also be typed by hand.

# what there is
default:
    @just --list

# the whole product in one process
run:
    cargo run

# a phone to play with
phone number:
    cargo run -- phone {{number}}

# the story of the product, checked step by step
tour:
    cargo run -- tour

# everything that needs no server; with a nats-server on the PATH the tests that need one run too
test:
    cargo test --workspace

# what CI runs
ci:
    bash .ci/run

# format, lints
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# whole-system simulation over N seeds
weather seeds="200":
    WEATHER_SEEDS={{seeds}} cargo test -p dialtone --test it weather -- --nocapture

# simulation of the logs on three replicas over N seeds
weather-logs seeds="1000":
    WEATHER_LOGS={{seeds}} cargo test -p dialtone-log --test it what_was_told_is_found_by -- --nocapture

# deliberately broken builds: each must be caught
sabotage:
    cargo test -p dialtone -p dialtone-routing -p dialtone-offline --test it sabotage -- --nocapture
    cargo test -p dialtone-log --test it weather::broken -- --nocapture

# the benchmark of instant messages, with its floor, in one run
load rate="10000" seconds="20":
    cargo run --release -p dialtone-load -- run one-to-one --self --rate {{rate}} --seconds {{seconds}}

# what each wall costs: one process, split over NATS, split over NATS and the CQL server at `cql`
walls cql="127.0.0.1:9042" rate="2000" seconds="20":
    cargo run --release -p dialtone-load -- run walls --cql {{cql}} --rate {{rate}} --seconds {{seconds}}

# a nats-server for the tests that want one
nats action="start":
    deploy/local/nats-server {{action}}

# an Apache Cassandra for the tests that want a CQL server
cql action="start":
    deploy/local/cql-server {{action}}

# three CQL servers that hold everything three times: start, stop; `deploy/local/cql-nodes` says how to take one away
cql-nodes action="start":
    deploy/local/cql-nodes {{action}}

# every service a process of its own on this machine: up, status, down
cluster action="up":
    deploy/local/cluster {{action}}

# a certificate authority for development, and a certificate for processes on this machine
certs folder="target/certs":
    deploy/local/certs {{folder}}

# the cluster restarted and killed process by process, and its CQL replicas, under load; needs DIALTONE_TEST_CQL, a nats-server and an idle machine
cluster-tests:
    DIALTONE_TEST_CLUSTER=1 cargo test -p dialtone --test it cluster -- --nocapture
