//! The offering side: one log's settled entries for one receiver, in order, a batch at a time. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use dialtone_vocab::UnixMillis;

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
    prev: u64,
    last: u64,
    missing: BTreeSet<u64>,
    again_at: UnixMillis,
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

    /// What to offer now: the next batch if none is under way, or the one under way from its first missing answer
    /// if there was silence for too long.
    pub fn poll(&mut self, now: UnixMillis) -> Option<Offer> {
        if let Some(flight) = &self.flight {
            if now < flight.again_at {
                return None;
            }
            self.wait = (self.wait * 2).min(OFFER_RETRY_MOST);
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
        self.flight = Some(Flight { prev, last, missing, again_at: now.plus(self.wait) });
        Some(Offer { settled: self.durable, prev, positions })
    }

    /// The position before this one, for this receiver.
    fn before(&self, position: u64) -> u64 {
        self.positions.range(..position).next_back().map_or(self.settled, |(before, _)| *before)
    }

    /// When [`Source::poll`] may have something though nothing was added or answered.
    pub fn wake_at(&self) -> Option<UnixMillis> {
        self.flight.as_ref().map(|flight| flight.again_at)
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

    /// The receiver has not the position before the first one offered: it has taken everything up to `taken`.
    pub fn expected(&mut self, taken: u64) -> Back {
        if self.flight.take_if(|flight| taken < flight.prev).is_none() {
            return Back::Stale;
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
