//! When a second server is asked: when the first takes longer than requests take these days.
//!
//! A fixed wait would double the load as soon as all servers are slower than that, which makes them slower still. So the
//! wait grows with the mean time of a request: by twice as much most requests are answered, whatever the load. One of
//! three servers that stands still does not raise it: two thirds of the requests are as fast as before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::scylla::policies::speculative_execution::{Context, SpeculativeExecutionPolicy};
use tokio::time::Instant;

use crate::limits::{CQL_REQUEST, CQL_SECOND};

/// One in so many of the mean is the last request's.
const WEIGHT: u64 = 32;

/// How long requests take.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    mean_micros: AtomicU64,
}

impl Pulse {
    /// Counts the time of a request, with its second server if there was one.
    pub(super) async fn of<T>(&self, request: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let answer = request.await;
        self.took(began.elapsed());
        answer
    }

    fn took(&self, took: Duration) {
        let took = u64::try_from(took.min(CQL_REQUEST).as_micros()).unwrap_or(u64::MAX);
        // Of two at once one may not count: it is a mean.
        let mean = self.mean_micros.load(Ordering::Relaxed);
        self.mean_micros.store((mean * (WEIGHT - 1) + took) / WEIGHT, Ordering::Relaxed);
    }

    /// How long the first server is waited for.
    fn wait(&self) -> Duration {
        Duration::from_micros(2 * self.mean_micros.load(Ordering::Relaxed)).max(CQL_SECOND)
    }
}

/// The driver's policy.
#[derive(Debug)]
pub(super) struct Hedge(pub(super) Arc<Pulse>);

impl SpeculativeExecutionPolicy for Hedge {
    fn max_retry_count(&self, _: &Context) -> usize {
        1
    }

    fn retry_interval(&self, _: &Context) -> Duration {
        self.0.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The wait after many requests, each of which takes what the wait makes of it.
    fn wait_after(pulse: &Pulse, took: impl Fn(u32, Duration) -> Duration) -> Duration {
        (0..3_000).for_each(|nth| pulse.took(took(nth, pulse.wait())));
        pulse.wait()
    }

    #[test]
    fn the_wait_follows_what_requests_take_and_comes_back() {
        let pulse = Pulse::default();
        assert_eq!(pulse.wait(), CQL_SECOND);
        assert_eq!(wait_after(&pulse, |_, _| 5 * MS), CQL_SECOND);
        let busy = wait_after(&pulse, |_, _| 400 * MS);
        assert!(busy > 780 * MS && busy <= 800 * MS, "{busy:?}");
        assert_eq!(wait_after(&pulse, |_, _| 5 * MS), CQL_SECOND);
        assert!(wait_after(&pulse, |_, _| Duration::from_secs(60)) <= 2 * CQL_REQUEST);
    }

    #[test]
    fn one_of_three_servers_that_stands_still_hardly_raises_it() {
        for usual in [5 * MS, 20 * MS] {
            let stands = |nth: u32, wait| if nth.is_multiple_of(3) { wait + usual } else { usual };
            let wait = wait_after(&Pulse::default(), stands);
            assert!(wait < CQL_SECOND + 40 * MS, "{usual:?}: {wait:?}");
        }
    }
}
