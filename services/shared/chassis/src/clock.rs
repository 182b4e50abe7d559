//! Time. The only place that reads a clock or makes a timer.
#![expect(clippy::disallowed_methods, reason = "this is the clock that everybody else must use")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dialtone_vocab::UnixMillis;
use tokio::time::Instant;

/// The wall clock of a simulation, in unix milliseconds: all its nodes share one.
pub type SimWall = Arc<AtomicU64>;

/// How far a wall clock is ahead, in milliseconds; negative: behind.
pub type WallError = Arc<AtomicI64>;

/// Where tests begin: 2026-01-01, as unix milliseconds.
const TEST_EPOCH_MS: u64 = 1_767_225_600_000;

/// Something did not happen in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not in time")]
pub struct Elapsed;

#[derive(Clone)]
enum Wall {
    System,
    /// The system's, and wrong.
    Wrong(WallError),
    Runtime(Instant),
    Simulated(SimWall),
}

/// Wall time and timers. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Wall);

impl Clock {
    pub(crate) fn real() -> Self {
        Self(Wall::System)
    }

    pub(crate) fn wrong(error: WallError) -> Self {
        Self(Wall::Wrong(error))
    }

    /// Moves with the runtime's time; outside of one it starts when first asked for.
    pub(crate) fn of_runtime() -> Self {
        Self(Wall::Runtime(Instant::now()))
    }

    pub(crate) fn simulated(wall: SimWall) -> Self {
        Self(Wall::Simulated(wall))
    }

    /// Wall time: for deadlines and display, never for order.
    pub fn now(&self) -> UnixMillis {
        match &self.0 {
            Wall::System => system(),
            Wall::Wrong(error) => UnixMillis(system().0.saturating_add_signed(error.load(Ordering::Relaxed))),
            Wall::Runtime(began) => UnixMillis(TEST_EPOCH_MS).plus(began.elapsed()),
            Wall::Simulated(wall) => UnixMillis(wall.load(Ordering::Relaxed)),
        }
    }

    /// The monotonic time of timers.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Time that never goes back and counts on while the host sleeps (`CLOCK_BOOTTIME`), from a moment that stays the
    /// same: for leases.
    pub fn boot(&self) -> Duration {
        match &self.0 {
            Wall::System | Wall::Wrong(_) => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
            }
            Wall::Runtime(began) => began.elapsed(),
            Wall::Simulated(wall) => Duration::from_millis(wall.load(Ordering::Relaxed)),
        }
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until then.
    pub async fn sleep_until(&self, until: Instant) {
        tokio::time::sleep_until(until).await;
    }

    /// Gives a future only so long.
    ///
    /// # Errors
    /// [`Elapsed`] when it was not ready in time; it is dropped then.
    pub async fn timeout<F: Future>(&self, within: Duration, future: F) -> Result<F::Output, Elapsed> {
        tokio::time::timeout(within, future).await.map_err(|_| Elapsed)
    }
}

fn system() -> UnixMillis {
    UnixMillis(0).plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn test_time_moves_with_the_runtime() {
        let clock = Clock::of_runtime();
        let before = clock.now();
        clock.sleep(Duration::from_secs(3)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(3));
        assert_eq!(clock.timeout(Duration::from_secs(1), std::future::pending::<()>()).await, Err(Elapsed));
    }

    #[test]
    fn a_wrong_wall_clock_moves_no_timer() {
        let hour = Duration::from_secs(3_600);
        let (right, error) = (Clock::real(), WallError::default());
        let wrong = Clock::wrong(error.clone());
        error.store(-3_600_000, Ordering::Relaxed);
        let (earlier, now) = (wrong.now().plus(hour), right.now());
        assert!(earlier <= now, "an hour behind");
        error.store(3_600_000, Ordering::Relaxed);
        assert!(wrong.now() >= now.plus(hour), "an hour ahead");
        let before = right.boot();
        assert!(wrong.boot() >= before && wrong.boot() < before + hour);
    }

    #[test]
    fn simulated_time_is_the_walls() {
        let wall = SimWall::default();
        let clock = Clock::simulated(wall.clone());
        wall.store(77, Ordering::Relaxed);
        assert_eq!(clock.now(), UnixMillis(77));
    }
}
