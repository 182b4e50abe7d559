//! What is counted: never by user or number.

use std::sync::LazyLock;

use dialtone_proto::bus::v1::offer_answer;
use dialtone_proto::routing::v1::Way;
use dialtone_vocab::Reason;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.routing"));
static ACCEPTED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_routing_accepted").with_description("Messages accepted, by way").build()
});
static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_routing_refused").with_description("Sends refused, by reason").build()
});
static ANSWERED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_routing_answers").with_description("Answers of inboxes, by kind").build()
});
static BELOW: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_routing_receiver_lost")
        .with_description("Inboxes that lost what they had taken: a defect")
        .build()
});
static BUSY: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_routing_busy")
        .with_description("Items refused because too much was waiting")
        .build()
});

pub(crate) fn accepted(way: Way) {
    ACCEPTED.add(1, &[KeyValue::new("way", if way == Way::Data { "data" } else { "sms" })]);
}

pub(crate) fn refused(reason: Reason) {
    REFUSED.add(1, &[KeyValue::new("reason", reason.as_str())]);
}

pub(crate) fn answered(answer: offer_answer::Kind) {
    ANSWERED.add(1, &[KeyValue::new("kind", answer.as_str_name())]);
}

pub(crate) fn below() {
    BELOW.add(1, &[]);
}

pub(crate) fn busy() {
    BUSY.add(1, &[]);
}
