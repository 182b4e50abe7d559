//! What is counted: never by number or user.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

static METER: LazyLock<Meter> = LazyLock::new(|| opentelemetry::global::meter("dialtone.identity"));
static FLOWS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER
        .u64_counter("dialtone_identity_flows")
        .with_description("Registrations and one-time passwords, by kind and event")
        .build()
});
static LOGINS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    METER.u64_counter("dialtone_identity_logins").with_description("Logins, by way and outcome").build()
});

/// `event`: `opened`, `code_sent`, `passed`, `not_passed`, `refused`, `completed`.
pub(crate) fn flow(login: bool, event: &'static str) {
    let kind = if login { "login" } else { "registration" };
    FLOWS.add(1, &[KeyValue::new("kind", kind), KeyValue::new("event", event)]);
}

/// `way`: `key`, `code`, `refresh`; `outcome`: `passed`, `refused`, `stolen`.
pub(crate) fn login(way: &'static str, outcome: &'static str) {
    LOGINS.add(1, &[KeyValue::new("way", way), KeyValue::new("outcome", outcome)]);
}
