//! What is counted: never by user or number.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

use crate::state::Answer;

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.offline"));
static TAKEN: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_offline_taken").with_description("Offered entries taken, by answer").build()
});
static PUSHED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_offline_pushed").with_description("Entries pushed to devices").build()
});
static REFUSED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_offline_busy")
        .with_description("Items refused because too much was waiting")
        .build()
});

pub(crate) fn taken(answer: Answer) {
    let answer = match answer {
        Answer::Kept => "kept",
        Answer::NotAttached => "not_attached",
        Answer::MailboxFull => "mailbox_full",
        Answer::Moved => "moved",
        Answer::Withdrawn => "withdrawn",
        Answer::Delivered => "delivered",
    };
    TAKEN.add(1, &[KeyValue::new("answer", answer)]);
}

pub(crate) fn pushed() {
    PUSHED.add(1, &[]);
}

pub(crate) fn busy() {
    REFUSED.add(1, &[]);
}
