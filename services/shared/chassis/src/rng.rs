//! Randomness. The only place that rolls dice.
#![expect(clippy::disallowed_types, reason = "one generator for all of a node, so that a seed replays")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, SeedableRng};

/// Random numbers good enough for secrets when seeded by the operating system. Cheap to clone; clones share state.
#[derive(Clone)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    pub(crate) fn from_system() -> Self {
        let rng = StdRng::try_from_rng(&mut SysRng).expect("the operating system gives randomness");
        Self(Arc::new(Mutex::new(rng)))
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn with<T>(&self, roll: impl FnOnce(&mut StdRng) -> T) -> T {
        roll(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Any 64 bits.
    pub fn u64(&self) -> u64 {
        self.with(StdRng::next_u64)
    }

    /// 0 to `n` − 1, evenly; 0 if `n` is 0.
    pub fn below(&self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        // Values past the last whole multiple of n would favour small results.
        let limit = u64::MAX - u64::MAX % n;
        self.with(|rng| {
            loop {
                let roll = rng.next_u64();
                if roll < limit {
                    return roll % n;
                }
            }
        })
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.with(|rng| rng.fill_bytes(&mut bytes));
        bytes
    }

    /// A six-digit code.
    pub fn code6(&self) -> String {
        format!("{:06}", self.below(1_000_000))
    }

    /// Full jitter: anything from nothing to `most`.
    pub fn jitter(&self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.below(millis.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_another_differs() {
        let roll = |seed| Rng::seeded(seed).bytes::<16>();
        assert_eq!(roll(1), roll(1));
        assert_ne!(roll(1), roll(2));
        assert_ne!(Rng::from_system().u64(), Rng::from_system().u64());
    }

    #[test]
    fn codes_have_six_digits_and_jitter_its_limit() {
        let rng = Rng::seeded(3);
        assert!((0..1_000).map(|_| rng.code6()).all(|code| code.len() == 6 && code.parse::<u32>().is_ok()));
        assert!((0..1_000).all(|_| rng.jitter(Duration::from_millis(5)) <= Duration::from_millis(5)));
        assert_eq!(rng.below(0), 0);
    }
}
