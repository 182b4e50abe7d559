//! What may happen in an episode, and how often.

use proptest::prelude::*;

use crate::lease::CheckBy;
use crate::lease::limits::{HIDDEN_PAUSE, LOOK_AGAIN, WAIT};

/// Milliseconds, in the microseconds of the simulation.
pub(super) const MS: u64 = 1_000;
/// Seconds.
pub(super) const S: u64 = 1_000 * MS;

/// An episode: a storm, then calm. The seed decides the rest, so that a failing one replays.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) by: CheckBy,
    /// The hosts' clocks: milliseconds in a true second.
    pub(super) rates: Vec<u64>,
    pub(super) shards: u16,
    /// Whether during the storm every host believes that it is to have every shard.
    pub(super) rivals: bool,
    pub(super) storm: u64,
    /// About how often one host has all the trouble that can be arranged for a lease. With 0 trouble comes as it comes.
    pub(super) trouble_every: u64,
    /// The longest way to the store, and back, in a bad spell.
    pub(super) slow: u64,
    /// How many of a hundred get lost on the way, in a bad spell.
    pub(super) lost: u64,
    /// How many of a hundred things said on the bus get lost, always.
    pub(super) unheard: u64,
    /// Whether others see a counter change in its row, and not only when its owner says so.
    pub(super) rows_are_seen: bool,
    /// How long a driver waits before it calls an outcome unknown.
    pub(super) patience: u64,
    /// About how often a host dies, sleeps, or a shard is to move; 0 for never.
    pub(super) crash_every: u64,
    pub(super) sleep_every: u64,
    pub(super) move_every: u64,
    /// The longest sleep that the host's clock does not see.
    pub(super) hidden: u64,
    /// How long nobody reaches the store at the end of the storm.
    pub(super) stall: u64,
}

impl Plan {
    /// How long after the storm every shard must have its owner: what was under way may still arrive and renew the row
    /// of somebody dead, who is then waited for, by the slowest clock.
    pub(super) fn until_all_is_well(&self) -> u64 {
        let slowest = |time: std::time::Duration| u64::try_from(time.as_micros()).expect("short") * 10 / 9;
        if self.stall > 0 {
            return 2 * S;
        }
        self.slow + self.patience + slowest(WAIT) + slowest(LOOK_AGAIN) + 2 * S
    }
}

fn hidden_pause() -> u64 {
    u64::try_from(HIDDEN_PAUSE.as_micros()).expect("short")
}

/// Everything that the lease is made for. By the clock, hidden pauses are as short as they must be.
pub(super) fn storms(by: CheckBy) -> impl Strategy<Value = Plan> {
    let rate = prop_oneof![Just(900), Just(1_100), 900..=1_100u64];
    let clocks = proptest::collection::vec(rate, 2..=4);
    let often = |from: u64, to: u64| prop_oneof![1 => Just(0), 3 => from * S..to * S];
    let patience = prop_oneof![200 * MS..600 * MS, 600 * MS..4 * S];
    let ways = (0..=3 * S, 0..=60u64, prop_oneof![Just(0u64), Just(20), Just(100)], patience);
    let faults = (often(4, 20), often(3, 12), often(1, 8), prop_oneof![Just(0), Just(hidden_pause())]);
    ((any::<u64>(), any::<bool>(), any::<bool>()), clocks, 1..=3u16, 8 * S..20 * S, ways, faults).prop_map(
        move |(
            (seed, rivals, rows_are_seen),
            rates,
            shards,
            storm,
            (slow, lost, unheard, patience),
            faults,
        )| {
            let (crash_every, sleep_every, move_every, hidden) = faults;
            Plan {
                seed,
                by,
                rates,
                shards,
                rivals,
                storm,
                trouble_every: 0,
                slow,
                lost,
                unheard,
                rows_are_seen,
                patience,
                crash_every,
                sleep_every,
                move_every,
                hidden,
                stall: 0,
            }
        },
    )
}

/// All hosts after the same shards, with clocks as far apart and pauses as long as they may be, and bad ways to the
/// store: what is decided here is decided by the margins.
pub(super) fn edges() -> impl Strategy<Value = Plan> {
    let patience = prop_oneof![100 * MS..400 * MS, 2 * S..4 * S];
    (storms(CheckBy::Clock), patience, 30..=60u64).prop_map(|(plan, patience, lost)| Plan {
        rates: vec![900, 1_100, 900],
        shards: 1,
        rivals: true,
        rows_are_seen: true,
        trouble_every: 8 * S,
        storm: plan.storm + 12 * S,
        hidden: hidden_pause(),
        slow: 2_200 * MS,
        lost,
        patience,
        crash_every: 0,
        sleep_every: 0,
        move_every: 0,
        ..plan
    })
}

/// Clocks that stand still unseen for longer than is assumed.
pub(super) fn frozen_clocks(by: CheckBy) -> impl Strategy<Value = Plan> {
    storms(by).prop_map(|plan| Plan { hidden: 12 * S, sleep_every: 4 * S, ..plan })
}

/// The same, just when writes and answers are on their way for long.
pub(super) fn thaws() -> impl Strategy<Value = Plan> {
    storms(CheckBy::Read).prop_map(|plan| Plan {
        rivals: true,
        shards: 3,
        trouble_every: 10 * S,
        storm: plan.storm + 12 * S,
        hidden: 6 * S,
        slow: 9 * S,
        patience: 10 * S,
        crash_every: 0,
        sleep_every: 0,
        move_every: 0,
        ..plan
    })
}

/// Whoever proposes owners changes its mind all the time, and short of patience are the drivers too.
pub(super) fn flaps() -> impl Strategy<Value = Plan> {
    (storms(CheckBy::Clock), 200 * MS..600 * MS, 30..=60u64).prop_map(|(plan, patience, lost)| Plan {
        move_every: S,
        crash_every: 0,
        rivals: false,
        patience,
        lost,
        ..plan
    })
}

/// Nothing dies and nothing moves, but the store stalls for everybody, longer than a lease lasts.
pub(super) fn stalls() -> impl Strategy<Value = Plan> {
    (storms(CheckBy::Clock), 3 * S..6 * S).prop_map(|(plan, stall)| Plan {
        slow: 0,
        lost: 0,
        patience: 500 * MS,
        crash_every: 0,
        sleep_every: 0,
        move_every: 0,
        stall,
        rivals: false,
        ..plan
    })
}

/// The dice of an episode.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n` − 1.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(super) fn percent(&mut self, of_a_hundred: u64) -> bool {
        self.below(100) < of_a_hundred
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }
}

/// How the store is reached from a host for a while.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    there: Leg,
    back: Leg,
}

#[derive(Debug, Clone, Copy, Default)]
struct Leg {
    slow: u64,
    lost: u64,
}

impl Way {
    /// Nothing gets through.
    pub(super) const CUT: Self = Self { there: Leg::CUT, back: Leg::CUT };

    /// The next one, and how long it stays so.
    pub(super) fn draw(plan: &Plan, dice: &mut Dice) -> (Self, u64) {
        if dice.percent(50) {
            return (Self::default(), dice.between(500 * MS, 4 * S));
        }
        if plan.lost > 0 && dice.percent(30) {
            return (Self::CUT, dice.between(MS, 8 * S));
        }
        let way = Self { there: Leg::draw(plan, dice), back: Leg::draw(plan, dice) };
        (way, dice.between(500 * MS, 4 * S))
    }

    /// Everything arrives, but answers come late or not at all.
    pub(super) fn deaf(plan: &Plan, dice: &mut Dice) -> Self {
        let slow = Leg { slow: dice.below(plan.slow), lost: 0 };
        Self { there: Leg::default(), back: if dice.percent(50) { Leg::CUT } else { slow } }
    }

    /// Everything arrives at once, but answers take very long.
    pub(super) fn slow_back(plan: &Plan) -> Self {
        Self { there: Leg::default(), back: Leg { slow: plan.slow, lost: 0 } }
    }

    /// Answers come at once to what takes long to arrive.
    pub(super) fn slow_there(plan: &Plan) -> Self {
        Self { there: Leg { slow: plan.slow * 2 / 3, lost: 0 }, back: Leg::default() }
    }

    /// Not everything arrives.
    pub(super) fn lossy(plan: &Plan) -> Self {
        Self { there: Leg { slow: 0, lost: plan.lost }, back: Leg::default() }
    }

    /// How long the way there takes; `None` if it gets lost.
    pub(super) fn there(self, dice: &mut Dice) -> Option<u64> {
        self.there.take(dice)
    }

    /// How long the way back takes.
    pub(super) fn back(self, dice: &mut Dice) -> Option<u64> {
        self.back.take(dice)
    }
}

impl Leg {
    const CUT: Self = Self { slow: 0, lost: 100 };

    fn draw(plan: &Plan, dice: &mut Dice) -> Self {
        match dice.below(10) {
            0 if plan.lost > 0 => Self::CUT,
            1 => Self { slow: dice.below(plan.slow + 1), lost: plan.lost },
            2..6 => Self { slow: dice.between(plan.slow / 2, plan.slow), lost: 0 },
            _ => Self::default(),
        }
    }

    fn take(self, dice: &mut Dice) -> Option<u64> {
        (!dice.percent(self.lost))
            .then(|| MS / 2 + dice.below(10 * MS) + dice.between(self.slow / 2, self.slow))
    }
}
