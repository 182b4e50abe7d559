//! What is counted: never by user or number.

use std::sync::LazyLock;

use dialtone_proto::bus::v1::offer_answer;
use dialtone_proto::routing::v1::Way;
use dialtone_vocab::Reason;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Meter};

use crate::ledger::Ledger;

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

static LEDGER: LazyLock<Gauge<u64>> = LazyLock::new(|| {
    METER
        .u64_gauge("dialtone_routing_ledger")
        .with_description("Accepted messages of 31 days as last recounted from disk, by class")
        .build()
});
static DIFFERENCE: LazyLock<Gauge<i64>> = LazyLock::new(|| {
    METER
        .i64_gauge("dialtone_routing_ledger_difference")
        .with_description("Accepted messages without a fate, less fates too many: not 0 is a defect")
        .build()
});

pub(crate) fn ledger(ledger: &Ledger) {
    for (class, count) in ledger.classes().into_iter().chain([("accepted", ledger.accepted)]) {
        LEDGER.record(count, &[KeyValue::new("class", class)]);
    }
    DIFFERENCE.record(ledger.difference(), &[]);
}

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
