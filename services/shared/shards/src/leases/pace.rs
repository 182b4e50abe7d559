//! How many requests about shards are under way at once: more while they are answered fast, fewer when they are not.
//!
//! Several processes that take a thousand shards at the same moment may ask more of a store than it can do. Then their
//! renewals are late, their leases run out, and they begin anew with all of it: that would not end by itself.
#![expect(
    clippy::disallowed_types,
    reason = "all requests under way count into one window; nobody waits in it"
)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lease::limits::{ASKED_AT_FIRST, ASKED_AT_ONCE, SLOW_ANSWER};

/// Gives turns. Its clones give the same ones.
#[derive(Clone)]
pub(super) struct Pace {
    turns: Arc<Semaphore>,
    window: Arc<Mutex<Window>>,
}

/// Leave to ask once.
pub(super) struct Turn(OwnedSemaphorePermit);

impl Pace {
    pub(super) fn new() -> Self {
        let window = Window { size: ASKED_AT_FIRST, turns: ASKED_AT_FIRST };
        Self { turns: Arc::new(Semaphore::new(window.turns)), window: Arc::new(Mutex::new(window)) }
    }

    /// Waits for a turn; `None` never comes to be as long as the semaphore is open, which it always is.
    pub(super) async fn turn(&self) -> Option<Turn> {
        self.turns.clone().acquire_owned().await.ok().map(Turn)
    }

    /// How long this turn is to rest after an answer, or none, that took so long.
    pub(super) fn rest(&self, took: Duration) -> Duration {
        self.window().rest(took)
    }

    /// The request of this turn was answered, or given up, after so long.
    pub(super) fn answered(&self, turn: Turn, took: Duration) {
        turn.0.forget();
        let next = self.window().answered(took);
        self.turns.add_permits(next);
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many turns there are, and how many there should be.
#[derive(Debug)]
struct Window {
    size: usize,
    turns: usize,
}

impl Window {
    /// Who asks for one thing at a time and still waits long keeps busy a store that has all it can do: as long as it
    /// waited, the store is left to others.
    fn rest(&self, took: Duration) -> Duration {
        if self.size == 1 && took >= SLOW_ANSWER { took } else { Duration::ZERO }
    }

    /// How many turns come instead of the one that has ended.
    fn answered(&mut self, took: Duration) -> usize {
        self.size =
            if took < SLOW_ANSWER { (self.size + 1).min(ASKED_AT_ONCE) } else { (self.size / 2).max(1) };
        let before = self.turns - 1;
        self.turns = self.size.clamp(before.max(1), before + 2);
        self.turns - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(5);

    #[test]
    fn who_asks_one_at_a_time_and_waits_long_rests_as_long() {
        let mut window = Window { size: ASKED_AT_FIRST, turns: ASKED_AT_FIRST };
        let mut rests = Vec::new();
        for _ in 0..4 {
            rests.push(window.rest(2 * SLOW_ANSWER));
            window.answered(2 * SLOW_ANSWER);
        }
        assert_eq!(rests, [Duration::ZERO, Duration::ZERO, 2 * SLOW_ANSWER, 2 * SLOW_ANSWER]);
        assert_eq!(window.rest(FAST), Duration::ZERO);
    }

    #[test]
    fn fast_answers_open_the_window_and_slow_ones_close_it() {
        let mut window = Window { size: ASKED_AT_FIRST, turns: ASKED_AT_FIRST };
        for _ in 0..2 * ASKED_AT_ONCE {
            window.answered(FAST);
        }
        assert_eq!(window.turns, ASKED_AT_ONCE);
        for _ in 0..2 * ASKED_AT_ONCE {
            window.answered(SLOW_ANSWER);
        }
        assert_eq!(window.turns, 1, "never none");
        assert_eq!(window.answered(FAST), 2, "and open again");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_turns_than_the_window_has() {
        let pace = Pace::new();
        let mut under_way = Vec::new();
        for _ in 0..ASKED_AT_FIRST {
            under_way.push(pace.turn().await.expect("a turn"));
        }
        assert_eq!(pace.turns.available_permits(), 0);
        for turn in under_way {
            pace.answered(turn, SLOW_ANSWER);
        }
        assert_eq!(pace.turns.available_permits(), 1);
        let turn = pace.turn().await.expect("a turn");
        pace.answered(turn, FAST);
        assert_eq!(pace.turns.available_permits(), 2);
    }
}
