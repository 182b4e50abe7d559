//! What is counted at the door.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.gateway"));
static SESSIONS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_gateway_sessions")
        .with_description("Session streams, opened and closed")
        .build()
});
static DROPPED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_gateway_items_dropped")
        .with_description("Items from the bus that found no room or no session")
        .build()
});
static UNKNOWN: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_gateway_unknown_frames")
        .with_description("Client frames of kinds not known")
        .build()
});

/// `event`: `opened` or `closed`.
pub(crate) fn session(event: &'static str) {
    SESSIONS.add(1, &[KeyValue::new("event", event)]);
}

/// `cause`: `full` or `gone`.
pub(crate) fn dropped(cause: &'static str) {
    DROPPED.add(1, &[KeyValue::new("cause", cause)]);
}

pub(crate) fn unknown_frames(n: u64) {
    if n > 0 {
        UNKNOWN.add(n, &[]);
    }
}
