//! What the store tells about itself.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;

/// Upper bounds of the buckets: from a fsync of a fast disk to a stall.
const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.001_5, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1,
    0.25, 1.0, 5.0,
];
/// Upper bounds of the buckets, up to what one group takes.
const BATCHES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

static COMMIT: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.store")
        // The exporter adds the unit to the name: dialtone_store_commit_seconds.
        .f64_histogram("dialtone_store_commit")
        .with_unit("s")
        .with_description("Time of one group commit, by service")
        .with_boundaries(SECONDS.to_vec())
        .build()
});
static GROUP: LazyLock<Histogram<u64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.store")
        .u64_histogram("dialtone_store_group_batches")
        .with_description("Commits that shared one group commit, by service")
        .with_boundaries(BATCHES.to_vec())
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
