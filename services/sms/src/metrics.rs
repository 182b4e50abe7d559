//! What is counted: never by number or text.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.sms"));
static BINDS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_sms_binds").with_description("Binds to the operator, made and lost").build()
});
static MT: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_sms_mt").with_description("SMS to phones, by event").build()
});
static MO: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_sms_mo").with_description("SMS from phones, by what became of them").build()
});
static RECEIVER_LOST: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_sms_receiver_lost")
        .with_description("Inboxes that lost what they had taken: a defect")
        .build()
});
static SEGMENTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_sms_segments")
        .with_description("Segments submitted: what operators bill")
        .build()
});

/// `event`: `bound` or `lost`.
pub(crate) fn bind(event: &'static str) {
    BINDS.add(1, &[KeyValue::new("event", event)]);
}

/// `event`: `taken`, `throttled`, `submitted`, `delivered`, `failed`, `unknown`, `capped`.
pub(crate) fn mt(event: &'static str) {
    MT.add(1, &[KeyValue::new("event", event)]);
}

/// `event`: `claimed`, `keyword`, `unanswered` (a keyword), `routed`, `refused`, `busy`, `garbled`,
/// `incomplete`.
pub(crate) fn mo(event: &'static str) {
    MO.add(1, &[KeyValue::new("event", event)]);
}

pub(crate) fn receiver_lost() {
    RECEIVER_LOST.add(1, &[]);
}

pub(crate) fn segments(n: usize) {
    SEGMENTS.add(n as u64, &[]);
}
