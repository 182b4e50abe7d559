//! What is counted on the bus: by subject pattern, never by node or user.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.bus"));
static PUBLISHED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_bus_published").with_description("Messages published, by subject").build()
});
static DROPPED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_bus_dropped").with_description("Messages dropped, by cause").build()
});

pub(crate) fn published(subject: &'static str) {
    PUBLISHED.add(1, &[KeyValue::new("subject", subject)]);
}

/// `cause`: `overflow`, `garbled`, `reply`, `slow_consumer`, `forbidden`.
pub(crate) fn dropped(cause: &'static str) {
    DROPPED.add(1, &[KeyValue::new("cause", cause)]);
}
