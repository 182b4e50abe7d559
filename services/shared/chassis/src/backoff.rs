//! Pauses between tries.

use std::time::Duration;

use crate::Rng;

/// Pauses that double from the first to the longest, each with full jitter. The owner says when they begin anew.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause: anything from nothing to its most.
    pub fn pause(&mut self, rng: &Rng) -> Duration {
        let most = self.next;
        self.next = (most * 2).min(self.longest);
        rng.jitter(most)
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let (rng, second) = (Rng::seeded(1), Duration::from_secs(1));
        let mut backoff = Backoff::new(second, second * 3);
        let most = |backoff: &mut Backoff, most: Duration| {
            (0..300).map(|_| backoff.clone().pause(&rng)).max().is_some_and(|pause| {
                backoff.pause(&rng);
                pause <= most && pause > most * 9 / 10
            })
        };
        for expected in [second, second * 2, second * 3, second * 3] {
            assert!(most(&mut backoff, expected), "{expected:?}");
        }
        backoff.reset();
        assert!(most(&mut backoff, second));
    }
}
