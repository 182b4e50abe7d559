//! What the logs tell about themselves.

use std::sync::LazyLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

use crate::LogKind;

fn counter(name: &'static str, help: &'static str) -> Counter<u64> {
    opentelemetry::global::meter("dialtone.log").u64_counter(name).with_description(help).build()
}

static OPENED: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("dialtone_log_opened", "Logs opened, by kind"));
static GHOSTS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("dialtone_log_ghosts", "Rows found at opening that are not the log, by kind"));
static SWEPT: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("dialtone_log_swept", "Rows dropped past their time, by kind"));

static REPEATED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter("dialtone_log_repeated", "Writes repeated because their outcome was unknown, by kind")
});

fn label(kind: LogKind) -> [KeyValue; 1] {
    let name = match kind {
        LogKind::Outbox => "outbox",
        LogKind::Inbox => "inbox",
        LogKind::Inbound => "inbound",
    };
    [KeyValue::new("kind", name)]
}

pub(crate) fn opened(kind: LogKind, ghosts: usize) {
    OPENED.add(1, &label(kind));
    GHOSTS.add(ghosts as u64, &label(kind));
}

pub(crate) fn swept(kind: LogKind, rows: u64) {
    SWEPT.add(rows, &label(kind));
}

pub(crate) fn repeated(kind: LogKind) {
    REPEATED.add(1, &label(kind));
}
