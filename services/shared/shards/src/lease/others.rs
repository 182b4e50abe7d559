//! Other incarnations: how long their counters have been unchanged, and whose rows are closed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Moment;
use super::defect::{Defect, Sabotage};
use super::limits::{FORGET, RETRY, WAIT};
use super::rows::{Answer, Incarnation, NodeRow, Request};

/// Everybody who was heard of lately, and everybody who is waited for.
#[derive(Debug, Default)]
pub(super) struct Others {
    known: BTreeMap<Incarnation, Other>,
    sabotage: Sabotage,
}

#[derive(Debug)]
struct Other {
    /// The highest counter heard or read; 0 if none.
    counter: u64,
    /// When this process heard it.
    changed: Moment,
    closed: bool,
    /// It was an incarnation of this very process and has stopped: no need to wait.
    stopped: bool,
    /// Whether the row is to be read before anything else.
    unclear: bool,
    /// Somebody said that it has left, and no look that began after that was answered.
    left: bool,
    busy: bool,
    not_before: Moment,
}

impl Other {
    fn unknown(now: Moment) -> Self {
        Self {
            counter: 0,
            changed: now,
            closed: false,
            stopped: false,
            unclear: false,
            left: false,
            busy: false,
            not_before: now,
        }
    }

    /// Whether so much time has passed that its lease has run out, whatever its clock does.
    fn is_silent(&self, now: Moment, sabotage: Sabotage) -> bool {
        self.stopped || sabotage.has(Defect::NoWait) || now >= self.changed + WAIT
    }

    fn heard(&mut self, counter: u64, now: Moment, sabotage: Sabotage) {
        if counter > self.counter {
            if self.counter == 0 || !sabotage.has(Defect::CounterReadOnce) {
                self.changed = now;
            }
            self.counter = counter;
        }
    }
}

impl Others {
    pub(super) fn new(sabotage: Sabotage) -> Self {
        Self { known: BTreeMap::new(), sabotage }
    }

    /// Hears a counter. What comes late or out of order says nothing new.
    pub(super) fn heard(&mut self, incarnation: Incarnation, counter: u64, now: Moment) {
        let other = self.known.entry(incarnation).or_insert_with(|| Other::unknown(now));
        other.heard(counter, now, self.sabotage);
    }

    /// An incarnation of this very process has stopped: its row may be closed at once.
    pub(super) fn stopped(&mut self, incarnation: Incarnation, counter: u64, now: Moment) {
        let other = Other { counter, stopped: true, ..Other::unknown(now) };
        if !self.sabotage.has(Defect::OwnRowLeftOpen) {
            self.known.insert(incarnation, other);
        }
    }

    /// Somebody says that it has left: its row tells, and is read before anything else.
    pub(super) fn left(&mut self, incarnation: Incarnation, now: Moment) {
        if let Some(other) = self.known.get_mut(&incarnation) {
            other.left = true;
            other.not_before = now;
        }
    }

    /// Whether the row of an incarnation that stopped is not closed yet.
    pub(super) fn closes(&self) -> bool {
        self.known.values().any(|other| other.stopped && !other.closed)
    }

    /// Whether its row is closed, by whomever.
    pub(super) fn is_closed(&self, incarnation: Incarnation) -> bool {
        self.known.get(&incarnation).is_some_and(|other| other.closed)
    }

    /// What is to be asked now, about those who are waited for and those who have stopped.
    pub(super) fn next(
        &mut self,
        awaited: &BTreeSet<Incarnation>,
        now: Moment,
    ) -> Vec<(Incarnation, Request)> {
        for incarnation in awaited {
            self.known.entry(*incarnation).or_insert_with(|| Other::unknown(now));
        }
        self.known.retain(|incarnation, other| {
            awaited.contains(incarnation)
                || other.busy
                || (other.stopped && !other.closed)
                || now < other.changed + FORGET
        });
        let mut requests = Vec::new();
        for (&incarnation, other) in &mut self.known {
            let wanted = other.stopped || awaited.contains(&incarnation);
            if !wanted || other.closed || other.busy || now < other.not_before {
                continue;
            }
            let request = if other.counter == 0 || other.unclear || other.left {
                other.left = false;
                Request::ReadNode(incarnation)
            } else if !other.is_silent(now, self.sabotage) {
                continue;
            } else if self.sabotage.has(Defect::OldRowLeftOpen) {
                other.closed = true;
                continue;
            } else {
                Request::Close { incarnation, seen: other.counter }
            };
            other.busy = true;
            requests.push((incarnation, request));
        }
        requests
    }

    /// Takes the answer to what [`Others::next`] asked.
    pub(super) fn answered(&mut self, incarnation: Incarnation, answer: Answer, now: Moment) {
        let Some(other) = self.known.get_mut(&incarnation) else { return };
        other.busy = false;
        match answer {
            Answer::Applied => other.closed = true,
            Answer::Refused => other.unclear = true,
            // A row that is gone was swept by somebody, which would happen to closed ones only.
            Answer::Node(None | Some(NodeRow { open: false, .. })) => other.closed = true,
            Answer::Node(Some(row)) => {
                other.unclear = false;
                other.heard(row.counter, now, self.sabotage);
            }
            Answer::Unknown | Answer::Shard(_) => {
                other.unclear = true;
                other.not_before = now + RETRY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_falls_silent_is_forgotten_unless_somebody_waits_for_it() {
        let mut others = Others::default();
        for n in 1..=100 {
            others.heard(Incarnation(n), 1, Duration::ZERO);
        }
        let awaited = BTreeSet::from([Incarnation(7)]);
        let close = Request::Close { incarnation: Incarnation(7), seen: 1 };
        assert_eq!(others.next(&awaited, WAIT), [(Incarnation(7), close)]);
        others.answered(Incarnation(7), Answer::Applied, WAIT);
        assert_eq!(others.known.len(), 100);
        assert_eq!(others.next(&awaited, FORGET), []);
        assert!(others.known.keys().eq(&awaited) && others.is_closed(Incarnation(7)));
    }
}
