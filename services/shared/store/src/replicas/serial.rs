//! Conditional writes and serial reads: one at a time.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::cells::Place;
use super::cluster::{Answer, Cluster};
use crate::Commit;

/// A row of the partition, by the rest of its key, and what it must be or is to be; `None` for absent.
pub(super) type Rests = Vec<(Vec<u8>, Option<Bytes>)>;

impl Cluster {
    /// A conditional write has reached a coordinator.
    pub(super) fn write_if(
        &mut self,
        line: usize,
        place: &Place,
        (wants, changes): (&Rests, Rests),
        answer: Answer<Commit>,
    ) {
        if !self.has_quorum() {
            return;
        }
        let is_undecided = self.percent(self.weather.undecided);
        if is_undecided && self.percent(50) {
            return;
        }
        let rows = self.serial.entry(place.clone()).or_default();
        let holds = wants.iter().all(|(rest, wanted)| rows.get(rest) == wanted.as_ref());
        if holds {
            changes.into_iter().for_each(|(rest, to)| set(rows, rest, to));
        }
        if !is_undecided {
            self.answer(line, answer, if holds { Commit::Applied } else { Commit::Refused });
        }
    }

    /// A serial read has.
    pub(super) fn read_serial(
        &mut self,
        line: usize,
        place: &Place,
        rest: &[u8],
        answer: Answer<Option<Bytes>>,
    ) {
        if self.has_quorum() {
            let found = self.serial.get(place).and_then(|rows| rows.get(rest)).cloned();
            self.answer(line, answer, found);
        }
    }
}

fn set(rows: &mut BTreeMap<Vec<u8>, Bytes>, rest: Vec<u8>, to: Option<Bytes>) {
    match to {
        Some(value) => drop(rows.insert(rest, value)),
        None => drop(rows.remove(&rest)),
    }
}
