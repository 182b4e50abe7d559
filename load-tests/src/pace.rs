//! When messages are due, whatever the server does: an open loop with Poisson arrivals.
#![expect(
    clippy::disallowed_methods,
    reason = "sleeps in a thread of its own, for want of a timer below a millisecond"
)]

use std::time::{Duration, Instant};

use dialtone_chassis::Rng;

/// The pacer sleeps at least so long: what falls due meanwhile leaves together. Bounds the wake-ups at high rates.
const REST: Duration = Duration::from_micros(200);

/// The moments at which messages are due.
pub(crate) struct Arrivals {
    rng: Rng,
    mean: f64,
    at: f64,
}

impl Arrivals {
    /// `rate` a second on average, the gaps distributed exponentially.
    pub(crate) fn new(rng: Rng, rate: u32) -> Self {
        Self { rng, mean: 1.0 / f64::from(rate), at: 0.0 }
    }
}

impl Iterator for Arrivals {
    /// Since the beginning.
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "53 random bits fit a double exactly")]
        let uniform = (self.rng.u64() >> 11) as f64 / (1u64 << 53) as f64;
        self.at -= (1.0 - uniform).ln() * self.mean;
        Some(Duration::from_secs_f64(self.at))
    }
}

/// Calls `send` with each moment when it has come, until `until`. Blocks: for a thread of its own.
pub(crate) fn keep(began: Instant, arrivals: Arrivals, until: Duration, mut send: impl FnMut(Duration)) {
    for due in arrivals.take_while(|due| *due < until) {
        let wait = due.saturating_sub(began.elapsed());
        if !wait.is_zero() {
            std::thread::sleep(wait.max(REST));
        }
        send(due);
    }
}

#[cfg(test)]
mod tests {
    use dialtone_chassis::Chassis;

    use super::*;

    #[test]
    fn gaps_are_exponential_with_the_mean_asked_for() {
        let moments: Vec<f64> = Arrivals::new(Chassis::for_tests(7).rng, 1_000)
            .take(20_000)
            .map(|due| due.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / 19_999.0;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / 19_999.0;
        assert!((mean - 0.001).abs() < 0.000_05, "mean {mean}");
        assert!((variance.sqrt() - mean).abs() < 0.000_05, "an exponential's deviation is its mean");
    }

    #[test]
    fn nothing_leaves_before_it_is_due() {
        let began = Instant::now();
        let mut early = 0;
        let mut count = 0;
        keep(began, Arrivals::new(Chassis::for_tests(1).rng, 2_000), Duration::from_millis(100), |due| {
            count += 1;
            early += u32::from(began.elapsed() < due);
        });
        assert!(count > 100 && early == 0, "{early} of {count} early");
    }
}
