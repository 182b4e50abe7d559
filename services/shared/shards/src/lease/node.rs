//! One's own node row: made, renewed, lost. Pure.

use super::Moment;
use super::defect::{Defect, Sabotage};
use super::limits::{LEASE, RENEW_EVERY, RETRY};
use super::rows::{Answer, Incarnation, NodeRow, Request};

/// The own row as last known, and the renewal that comes next or is under way.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) incarnation: Incarnation,
    /// The counter as last known; 0 until the row was made.
    pub(super) counter: u64,
    /// When the lease runs out; `None` as long as there was none.
    until: Option<Moment>,
    /// When this renewal was first tried, and last.
    tries: Option<(Moment, Moment)>,
    /// Whether the row is to be read before the renewal is tried again.
    unclear: bool,
    busy: bool,
    not_before: Moment,
    sabotage: Sabotage,
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    Renewed,
    /// The row is closed: this incarnation is over.
    Lost,
}

impl Node {
    pub(super) fn new(incarnation: Incarnation, now: Moment, sabotage: Sabotage) -> Self {
        Self {
            incarnation,
            counter: 0,
            until: None,
            tries: None,
            unclear: false,
            busy: false,
            not_before: now,
            sabotage,
        }
    }

    /// Whether there is a lease and it has not run out.
    pub(super) fn is_valid(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether there was a lease and it has run out. One that never was can't: then nothing was ever held.
    pub(super) fn has_lapsed(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// What is to be asked now.
    pub(super) fn next(&mut self, now: Moment) -> Option<Request> {
        if self.busy || now < self.not_before {
            return None;
        }
        self.busy = true;
        if self.unclear {
            return Some(Request::ReadNode(self.incarnation));
        }
        let first = self.tries.map_or(now, |(first, _)| first);
        self.tries = Some((first, now));
        Some(Request::Renew { incarnation: self.incarnation, seen: self.counter })
    }

    /// Takes the answer to what [`Node::next`] asked.
    pub(super) fn answered(&mut self, answer: Answer, now: Moment) -> News {
        self.busy = false;
        match answer {
            Answer::Applied => self.renewed(now),
            Answer::Refused => {
                self.unclear = true;
                News::Nothing
            }
            Answer::Node(row) => self.read(row, now),
            Answer::Unknown | Answer::Shard(_) => {
                self.not_before = now + RETRY;
                News::Nothing
            }
        }
    }

    fn read(&mut self, row: Option<NodeRow>, now: Moment) -> News {
        self.unclear = false;
        match row {
            // An earlier try got through.
            Some(row) if row.open && row.counter == self.counter + 1 => self.renewed(now),
            Some(row) if row.open && row.counter == self.counter => News::Nothing,
            None if self.counter == 0 => News::Nothing,
            _ => News::Lost,
        }
    }

    /// The counter has moved by the renewal under way. Which of its tries did that nobody knows, and others have
    /// waited since the earliest: so the lease lasts from there.
    fn renewed(&mut self, now: Moment) -> News {
        let (first, last) = self.tries.take().unwrap_or((now, now));
        let from = match () {
            () if self.sabotage.has(Defect::LeaseFromAnswer) => now,
            () if self.sabotage.has(Defect::LeaseFromLastTry) => last,
            () => first,
        };
        self.counter += 1;
        self.not_before = first + RENEW_EVERY;
        if now < from + LEASE {
            self.until = Some(from + LEASE);
        }
        News::Renewed
    }
}
