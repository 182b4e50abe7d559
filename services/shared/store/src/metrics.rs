//! What the store tells about itself.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;

static COMMIT: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.store")
        .f64_histogram("dialtone_store_commit_seconds")
        .with_unit("s")
        .with_description("Time of one group commit, by service")
        .build()
});
static GROUP: LazyLock<Histogram<u64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.store")
        .u64_histogram("dialtone_store_group_batches")
        .with_description("Commits that shared one group commit, by service")
        .build()
});

/// What a database has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Group commits: with the file engine, fsyncs.
    pub groups: u64,
    /// Batches in them.
    pub batches: u64,
    /// Commits that wait in the queue now.
    pub waiting: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    groups: AtomicU64,
    batches: AtomicU64,
}

impl Counters {
    pub(crate) fn group(&self, service: &'static str, batches: usize, took: Duration) {
        let batches = batches as u64;
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.batches.fetch_add(batches, Ordering::Relaxed);
        let labels = [KeyValue::new("service", service)];
        COMMIT.record(took.as_secs_f64(), &labels);
        GROUP.record(batches, &labels);
    }

    pub(crate) fn stats(&self, waiting: usize) -> Stats {
        Stats {
            groups: self.groups.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            waiting: waiting as u64,
        }
    }
}
