//! What is counted: never by number or user.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.contacts"));
static SYNCS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_contacts_syncs")
        .with_description("Chunks of address books, by outcome: answered, repeated, refused, acknowledged")
        .build()
});
static VERDICTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_contacts_verdicts")
        .with_description("Verdicts on entries, by verdict")
        .build()
});
static FACTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_contacts_facts")
        .with_description("Facts taken and told, by kind and outcome")
        .build()
});

/// `outcome`: `answered`, `repeated`, `refused`, `acknowledged`.
pub(crate) fn sync(outcome: &'static str) {
    SYNCS.add(1, &[KeyValue::new("outcome", outcome)]);
}

/// `verdict`: the word of the proto.
pub(crate) fn verdict(verdict: &'static str) {
    VERDICTS.add(1, &[KeyValue::new("verdict", verdict)]);
}

/// `kind`: `number`, `block`, `contact_event`; `outcome`: `taken`, `told`, `again`, `lost`.
pub(crate) fn fact(kind: &'static str, outcome: &'static str) {
    FACTS.add(1, &[KeyValue::new("kind", kind), KeyValue::new("outcome", outcome)]);
}
