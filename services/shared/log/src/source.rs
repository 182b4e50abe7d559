//! The offering side: one log's settled entries for one receiver, in order, a batch at a time. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use dialtone_vocab::NodeId;

use crate::limits::{OFFER_ENTRIES, OFFER_RETRY, OFFER_RETRY_MOST};

/// Positions to be offered together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Positions up to here are settled here for good: the receiver may forget what it answered.
    pub settled: u64,
    /// The position before the first one, for this receiver; 0 if there is none.
    pub prev: u64,
    /// In order; each one's `prev` is the one before it.
    pub positions: Vec<u64>,
}

/// What an `Expected` answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It was about an earlier offer: nothing to do.
    Stale,
    /// The next offer begins behind what the receiver has.
    Rewound,
    /// The receiver has lost what was settled: a defect, to be counted and obeyed. Read the log again from behind
    /// `taken`, begin with [`Source::new`] from there, and add what is for this receiver.
    Below {
        /// The last position that the receiver has.
        taken: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Open,
    Answered,
    Done,
}

#[derive(Debug)]
struct Flight {
    to: NodeId,
    prev: u64,
    last: u64,
    missing: BTreeSet<u64>,
    /// By a clock that nobody sets, else a step back would silence it for as long.
    again_at: Duration,
}

/// What one log has to offer one receiver.
///
/// The owner adds each settled entry for the receiver, sends what [`Source::poll`] says, appends what follows from
/// an answer, and says [`Source::done`] when that is settled; only then the mark moves past the position. A new owner
/// begins at the mark that it finds, adds everything after it, and gets the same answers.
#[derive(Debug)]
pub struct Source {
    settled: u64,
    durable: u64,
    cursor: u64,
    positions: BTreeMap<u64, State>,
    flight: Option<Flight>,
    wait: Duration,
}

impl Source {
    /// `settled` is the value of the mark: everything up to there is settled.
    pub fn new(settled: u64) -> Self {
        Self {
            settled,
            durable: settled,
            cursor: settled,
            positions: BTreeMap::new(),
            flight: None,
            wait: OFFER_RETRY,
        }
    }

    /// A settled entry for this receiver. Positions come in order; one that is known or settled is ignored.
    pub fn add(&mut self, position: u64) {
        if position > self.settled {
            self.positions.entry(position).or_insert(State::Open);
        }
    }

    /// What to offer the node `to`, where the receiver is, now: the next batch if none is under way, or the one under way
    /// from its first missing answer if there was silence for too long, or it went to another node.
    pub fn poll(&mut self, to: &NodeId, now: Duration) -> Option<Offer> {
        if let Some(flight) = &self.flight {
            if flight.to != *to {
                self.wait = OFFER_RETRY;
            } else if now < flight.again_at {
                return None;
            } else {
                self.wait = (self.wait * 2).min(OFFER_RETRY_MOST);
            }
            let missing = flight.missing.first().copied().unwrap_or(flight.last);
            self.cursor = self.before(missing);
            self.flight = None;
        }
        let after = (Bound::Excluded(self.cursor), Bound::Unbounded);
        let positions: Vec<_> =
            self.positions.range(after).map(|(position, _)| *position).take(OFFER_ENTRIES).collect();
        let (first, last) = (*positions.first()?, *positions.last()?);
        let prev = self.before(first);
        let missing = positions.iter().copied().collect();
        self.flight = Some(Flight { to: to.clone(), prev, last, missing, again_at: now + self.wait });
        Some(Offer { settled: self.durable, prev, positions })
    }

    /// The position before this one, for this receiver.
    fn before(&self, position: u64) -> u64 {
        self.positions.range(..position).next_back().map_or(self.settled, |(before, _)| *before)
    }

    /// Whoever has the receiver now has just begun and can't answer for everything yet: the batch under way is offered
    /// again soon, however long the silence was before.
    pub fn has_begun(&mut self, now: Duration) {
        self.wait = OFFER_RETRY;
        if let Some(flight) = &mut self.flight {
            flight.again_at = flight.again_at.min(now + OFFER_RETRY);
        }
    }

    /// The receiver has answered for a position. True the first time: then carry out what follows, and say
    /// [`Source::done`] when it is settled. False for repetitions and for what is settled already.
    pub fn answered(&mut self, position: u64) -> bool {
        self.wait = OFFER_RETRY;
        if let Some(flight) = &mut self.flight {
            flight.missing.remove(&position);
            if flight.missing.is_empty() {
                self.cursor = flight.last;
                self.flight = None;
            }
        }
        match self.positions.get_mut(&position) {
            Some(state @ State::Open) => {
                *state = State::Answered;
                true
            }
            _ => false,
        }
    }

    /// The position before the first one offered is not the last that the receiver took: that is `taken`.
    pub fn expected(&mut self, taken: u64) -> Back {
        let Some(flight) = self.flight.take_if(|flight| taken != flight.prev) else { return Back::Stale };
        if taken > flight.prev {
            if self.positions.range(..=taken).next().is_some() {
                self.flight = Some(flight);
                return Back::Stale;
            }
            // It has taken positions that are no longer here: past their time before the mark had moved.
            self.settled = taken;
        }
        if taken < self.settled {
            return Back::Below { taken };
        }
        self.cursor = taken;
        Back::Rewound
    }

    /// What follows from the answer for this position is settled here. Returns the new value of the mark if it moves:
    /// it passes a position only when everything up to it is done.
    pub fn done(&mut self, position: u64) -> Option<u64> {
        if let Some(state) = self.positions.get_mut(&position) {
            *state = State::Done;
        }
        let before = self.settled;
        while let Some(first) = self.positions.first_entry().filter(|entry| *entry.get() == State::Done) {
            self.settled = first.remove_entry().0;
        }
        (self.settled > before).then_some(self.settled)
    }

    /// The mark is on disk up to `settled`: offers may say so.
    pub fn mark_written(&mut self, settled: u64) {
        self.durable = self.durable.max(settled);
    }

    /// The mark as it is to be written.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Positions that are not done.
    pub fn waiting(&self) -> usize {
        self.positions.len()
    }

    /// Whether everything that was added is done.
    pub fn is_level(&self) -> bool {
        self.positions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    /// When a batch under way is offered again.
    fn again_at(source: &Source) -> Option<Duration> {
        source.flight.as_ref().map(|flight| flight.again_at)
    }

    fn here() -> NodeId {
        NodeId::new("here")
    }

    fn source(settled: u64, positions: &[u64]) -> Source {
        let mut source = Source::new(settled);
        positions.iter().for_each(|position| source.add(*position));
        source
    }

    fn offer(settled: u64, prev: u64, positions: &[u64]) -> Option<Offer> {
        Some(Offer { settled, prev, positions: positions.to_vec() })
    }

    #[test]
    fn one_batch_at_a_time_each_behind_the_one_before() {
        let mut source = source(3, &[5, 9]);
        assert_eq!(source.poll(&here(), NOW), offer(3, 3, &[5, 9]));
        source.add(12);
        assert_eq!(source.poll(&here(), NOW), None, "one is under way");
        assert!(source.answered(5));
        assert_eq!(source.poll(&here(), NOW), None, "still is");
        assert!(source.answered(9));
        assert_eq!(source.poll(&here(), NOW), offer(3, 9, &[12]));
    }

    #[test]
    fn a_batch_has_64_positions() {
        let all: Vec<_> = (1..=100).collect();
        let mut source = source(0, &all);
        assert_eq!(source.poll(&here(), NOW), offer(0, 0, &all[..64]));
        (1..=64).for_each(|position| assert!(source.answered(position)));
        assert_eq!(source.poll(&here(), NOW), offer(0, 64, &all[64..]));
    }

    #[test]
    fn silence_repeats_from_the_first_missing_answer_and_waits_longer_each_time() {
        let mut source = source(0, &[1, 2, 3]);
        let mut now = NOW;
        assert_eq!(source.poll(&here(), now), offer(0, 0, &[1, 2, 3]));
        assert!(source.answered(1));
        for wait in [500, 1_000, 2_000, 4_000, 8_000, 8_000] {
            assert_eq!(again_at(&source), Some(now + Duration::from_millis(wait)));
            now += Duration::from_millis(wait - 1);
            assert_eq!(source.poll(&here(), now), None);
            now += Duration::from_millis(1);
            assert_eq!(source.poll(&here(), now), offer(0, 1, &[2, 3]));
        }
        assert!(source.answered(2));
        now += Duration::from_millis(8_000);
        assert_eq!(source.poll(&here(), now), offer(0, 2, &[3]));
        assert_eq!(
            again_at(&source),
            Some(now + Duration::from_millis(1_000)),
            "an answer shortens the wait again"
        );
    }

    #[test]
    fn who_comes_in_place_of_a_silent_one_is_offered_at_once_and_need_not_wait_as_long() {
        let mut source = source(0, &[1]);
        let mut now = NOW;
        for wait in [500, 1_000, 2_000] {
            assert_eq!(source.poll(&here(), now), offer(0, 0, &[1]));
            now += Duration::from_millis(wait);
        }
        let there = NodeId::new("there");
        assert_eq!(source.poll(&there, now), offer(0, 0, &[1]));
        assert_eq!(again_at(&source), Some(now + OFFER_RETRY));
        for wait in [500, 1_000, 2_000] {
            now += Duration::from_millis(wait);
            assert_eq!(source.poll(&there, now), offer(0, 0, &[1]));
        }
        source.has_begun(now);
        assert_eq!(again_at(&source), Some(now + OFFER_RETRY));
        source.has_begun(now + OFFER_RETRY);
        assert_eq!(again_at(&source), Some(now + OFFER_RETRY), "never later");
    }

    #[test]
    fn the_mark_moves_only_in_order_and_offers_say_what_is_on_disk() {
        let mut source = source(0, &[1, 2, 3]);
        source.poll(&here(), NOW);
        assert!([1, 2, 3].into_iter().all(|position| source.answered(position)));
        assert!(!source.answered(2), "once");
        assert_eq!(source.done(2), None, "1 is not done");
        assert_eq!(source.done(1), Some(2));
        assert_eq!(source.done(1), None);
        source.add(2);
        source.add(4);
        assert_eq!(source.poll(&here(), NOW), offer(0, 3, &[4]));
        source.mark_written(2);
        assert_eq!(source.poll(&here(), NOW + OFFER_RETRY), offer(2, 3, &[4]));
        assert_eq!((source.done(3), source.waiting(), source.is_level()), (Some(3), 1, false));
    }

    #[test]
    fn goes_back_to_what_the_receiver_has() {
        let mut source = source(0, &[1, 2, 3, 4]);
        source.poll(&here(), NOW);
        assert!((1..=4).all(|position| source.answered(position)));
        source.add(5);
        assert_eq!(source.poll(&here(), NOW), offer(0, 4, &[5]));
        assert_eq!(source.expected(2), Back::Rewound);
        assert_eq!(source.poll(&here(), NOW), offer(0, 2, &[3, 4, 5]));
        assert_eq!(source.expected(2), Back::Stale, "said once already");
        assert!(!source.answered(3) && !source.answered(4) && source.answered(5));
        assert_eq!((source.expected(1), source.poll(&here(), NOW)), (Back::Stale, None));
    }

    #[test]
    fn what_was_settled_and_is_lost_is_told_and_what_is_past_its_time_is_passed() {
        let mut lost = source(7, &[9]);
        lost.poll(&here(), NOW);
        assert_eq!(lost.expected(4), Back::Below { taken: 4 });
        let mut past = source(3, &[9]);
        past.poll(&here(), NOW);
        assert_eq!(past.expected(7), Back::Rewound);
        assert_eq!(past.poll(&here(), NOW), offer(3, 7, &[9]));
    }
}
