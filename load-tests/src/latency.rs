//! Times in a histogram of bounded size.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time told apart from longer ones, in microseconds.
const LONGEST_US: u64 = 120_000_000;

/// Times, kept in microseconds with three digits.
#[derive(Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// What is told of them, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST_US));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the same bounds");
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
    pub(crate) fn count(&self) -> f64 {
        self.0.len() as f64
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        #[expect(clippy::cast_precision_loss, reason = "microseconds below two minutes")]
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Quantiles { p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_told_in_milliseconds() {
        let mut times = Latencies::new();
        for ms in 1..=1_000 {
            times.record(Duration::from_millis(ms));
        }
        let told = times.quantiles();
        assert!((told.p50_ms - 500.0).abs() < 1.0 && (told.p99_ms - 990.0).abs() < 1.0, "{told:?}");
        assert!((told.max_ms - 1_000.0).abs() < 1.0, "{told:?}");
    }
}
