//! What is counted: never by number or user.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.presence"));
static ITEMS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_presence_items")
        .with_description("Items that came over the bus, by kind and outcome")
        .build()
});
static TOLD: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_presence_told")
        .with_description("Items sent to gateways and other owners, by kind and outcome")
        .build()
});
static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_presence_refused")
        .with_description("What was refused, by what it was")
        .build()
});
static JUDGED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_presence_judged")
        .with_description("Questions to contacts about who may see whom, by outcome")
        .build()
});

/// `outcome`: `taken`, `busy`, `malformed`.
pub(crate) fn item(kind: &'static str, outcome: &'static str) {
    ITEMS.add(1, &[KeyValue::new("kind", kind), KeyValue::new("outcome", outcome)]);
}

/// `kind`: `gateway`, `subscribe`, `update`, `typing`; `outcome`: `sent`, `lost`.
pub(crate) fn told(kind: &'static str, outcome: &'static str) {
    TOLD.add(1, &[KeyValue::new("kind", kind), KeyValue::new("outcome", outcome)]);
}

/// `what`: `table`.
pub(crate) fn refused(what: &'static str) {
    REFUSED.add(1, &[KeyValue::new("what", what)]);
}

/// `outcome`: `answered`, `unanswered`, `later`.
pub(crate) fn judged(outcome: &'static str) {
    JUDGED.add(1, &[KeyValue::new("outcome", outcome)]);
}
