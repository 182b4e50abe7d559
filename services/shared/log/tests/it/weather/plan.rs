//! What may happen in an episode, and what may be broken.

use std::time::Duration;

use dialtone_chassis::{Chassis, Rng};
use dialtone_log::Defect;
use dialtone_shards::lease::{self, CheckBy};

/// Hosts of an episode.
pub(super) const HOSTS: usize = 3;
/// Entries are kept for ever, as far as an episode goes.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// An episode. The seed decides what is not written here.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) by: CheckBy,
    /// Milliseconds of each host's clock in a true second.
    pub(super) rates: [u64; HOSTS],
    /// How long the storm lasts.
    pub(super) storm: Duration,
    /// How long entries are kept.
    pub(super) keep: Duration,
    /// The longest pause of a writer between two writes.
    pub(super) pause: Duration,
    /// How often of a hundred spells something happens to a host: it is killed, leaves, or stands still.
    pub(super) trouble: u64,
    /// The longest that a host stands still without its clock.
    pub(super) hidden: Duration,
    /// So many of a hundred parts of writes are lost, in a bad spell.
    pub(super) dropped: u64,
    /// The longest that something is under way in a bad spell.
    pub(super) late_by: Duration,
}

impl Plan {
    /// The weather of every day: all of it.
    pub(super) fn of(seed: u64) -> Self {
        let dice = dice(seed);
        let by = if dice.below(3) == 0 { CheckBy::Read } else { CheckBy::Clock };
        let rate = |_| [900, 1_100, 900 + dice.below(201)][pick(&dice, 3)];
        Self {
            seed,
            by,
            rates: [0, 1, 2].map(rate),
            storm: Duration::from_secs(20 + dice.below(20)),
            keep: if dice.below(4) == 0 { Duration::from_secs(2 + dice.below(10)) } else { KEPT },
            pause: Duration::from_millis([100, 400, 2_000][pick(&dice, 3)]),
            trouble: 20 + dice.below(40),
            hidden: match by {
                CheckBy::Clock => lease::limits::HIDDEN_PAUSE,
                CheckBy::Read => Duration::from_secs(8),
            },
            dropped: [10, 40, 70][pick(&dice, 3)],
            late_by: Duration::from_secs(1 + dice.below(10)),
        }
    }

    pub(super) fn is_expiring(&self) -> bool {
        self.keep < KEPT
    }
}

/// What is broken in an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breakage {
    None,
    Log(Defect),
    Lease(lease::Defect),
    /// Reads ask one replica.
    ReadsAtOne,
}

/// The dice of an episode's plan.
pub(super) fn dice(seed: u64) -> Rng {
    Chassis::for_tests(seed).rng
}

pub(super) fn pick(dice: &Rng, of: usize) -> usize {
    usize::try_from(dice.below(of as u64)).unwrap_or(0)
}
