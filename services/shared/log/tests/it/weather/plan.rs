//! What may happen in an episode, and what may be broken.

use std::time::Duration;

use dialtone_chassis::{Chassis, Rng};
use dialtone_log::Defect;
use dialtone_shards::lease::{self, CheckBy};
use dialtone_store::replicas::Way;

/// Hosts of an episode.
pub(super) const HOSTS: usize = 3;
/// Logs of an episode that is aimed at something.
const MANY: usize = 8;
/// Entries are kept for ever, as far as an episode goes.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// An episode. The seed decides what is not written here.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) by: CheckBy,
    /// How many logs there are.
    pub(super) logs: usize,
    /// Milliseconds of each host's clock in a true second.
    pub(super) rates: [u64; HOSTS],
    /// How far each host's clock is ahead at the beginning.
    pub(super) ahead: [Duration; HOSTS],
    /// How long the storm lasts.
    pub(super) storm: Duration,
    /// How long entries are kept.
    pub(super) keep: Duration,
    /// The longest pause of a writer between two writes, and before its first one.
    pub(super) pause: Duration,
    pub(super) idle: Duration,
    /// So many of a hundred entries have something due; so many rounds of a writer, a mark or something that is done.
    pub(super) extras: u64,
    /// Whether spells of bad weather come and go.
    pub(super) changes: bool,
    /// How often of a hundred spells something happens to a host: it is killed, leaves, or stands still.
    pub(super) trouble: u64,
    /// The longest that a host stands still without its clock.
    pub(super) hidden: Duration,
    /// Whether one process after the other has all logs, for a moment, and is killed.
    pub(super) is_relay: bool,
    /// How often of a hundred spells a host stands still just when what it has sent is on its way for long.
    pub(super) thaws: u64,
    /// So many of a hundred parts of writes are lost: at least, and in the worst spell.
    pub(super) dropped: [u64; 2],
    /// The longest that something is under way in a bad spell.
    pub(super) late_by: Duration,
    /// What the lines between hosts and replicas are when nothing is the matter with them.
    pub(super) line: Way,
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
            logs: 3,
            rates: [0, 1, 2].map(rate),
            ahead: [0, 1, 2].map(|_| dice.jitter(Duration::from_secs(3))),
            storm: Duration::from_secs(20 + dice.below(20)),
            keep: if dice.below(4) == 0 { Duration::from_secs(2 + dice.below(10)) } else { KEPT },
            pause: Duration::from_millis([100, 400, 2_000][pick(&dice, 3)]),
            idle: Duration::from_millis([0, 0, 3_000][pick(&dice, 3)]),
            extras: 10,
            changes: true,
            trouble: 20 + dice.below(40),
            hidden: match by {
                CheckBy::Clock => lease::limits::HIDDEN_PAUSE,
                CheckBy::Read => Duration::from_secs(8),
            },
            is_relay: false,
            thaws: dice.below(10),
            dropped: [0, [10, 40, 70][pick(&dice, 3)]],
            late_by: Duration::from_millis([1_500, 3_000, 10_000][pick(&dice, 3)]),
            line: Way { slow: Duration::from_millis(2), ..Way::default() },
        }
    }

    /// Writers that are never idle, and now and then a write that is late, while hardly anybody loses its lease by it.
    pub(super) fn unanswered(seed: u64) -> Self {
        let plan = Self::of(seed);
        let line = Way { late: 10, late_by: Duration::from_secs(12), ..plan.line };
        let (pause, idle) = (Duration::from_millis(20), Duration::ZERO);
        Self { pause, idle, line, changes: false, trouble: 0, thaws: 0, keep: KEPT, ..plan }
    }

    /// Hosts that stand still just when their writes are on the way for long; then others have their logs for a moment.
    pub(super) fn thaws(seed: u64) -> Self {
        let (pause, idle) = (Duration::from_millis(20), Duration::from_secs(8));
        Self { pause, idle, logs: MANY, thaws: 12, changes: false, trouble: 3, keep: KEPT, ..Self::of(seed) }
    }

    /// Of most writes a part is lost, and owners change before they can write them again.
    pub(super) fn torn(seed: u64) -> Self {
        let (storm, idle) = (Duration::from_secs(60), Duration::from_secs(6));
        let plan = Self { logs: MANY, is_relay: true, storm, extras: 40, keep: KEPT, ..Self::of(seed) };
        Self { dropped: [40, 60], idle, pause: Duration::from_millis(400), ..plan }
    }

    /// The same for longer, and most owners are gone before they move a mark that they found.
    pub(super) fn forgetful(seed: u64) -> Self {
        Self { storm: Duration::from_secs(300), idle: Duration::from_secs(20), ..Self::torn(seed) }
    }

    /// As torn, and everything is soon past its time.
    pub(super) fn expiring(seed: u64) -> Self {
        let (keep, storm) =
            (Duration::from_millis(1_000 + dice(seed).below(3_000)), Duration::from_secs(150));
        Self { keep, storm, rates: [1_000; HOSTS], ..Self::torn(seed) }
    }

    /// What one host takes for past its time another does not yet.
    pub(super) fn apart(seed: u64) -> Self {
        let (most, none) = (Duration::from_secs(18), Duration::ZERO);
        let keep = Duration::from_millis(9_000 + dice(seed).below(12_000));
        let (idle, pause) = (Duration::from_secs(1), Duration::from_millis(800));
        Self { keep, ahead: [none, most, none], idle, pause, ..Self::expiring(seed) }
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
