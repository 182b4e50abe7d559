//! Answers of writes that wait for a look at the own row, when checks don't go by the clock. Pure.

use super::Moment;
use super::WriteId;
use super::defect::{Defect, Sabotage};
use super::limits::RETRY;
use super::rows::Holding;

/// How it is known, after the answer of a write, that its writer still was the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckBy {
    /// The clock says that the lease has not run out.
    Clock,
    /// A serial read of the own row, sent after the answer, finds it open. For hosts whose clocks may stand still
    /// unseen: virtual machines that are paused or migrated. One read serves all answers that wait.
    Read,
}

/// Writes whose answers have arrived.
#[derive(Debug, Default)]
pub(super) struct Checks {
    waiting: Vec<(Holding, WriteId)>,
    /// Those that had arrived before the read under way was sent.
    asked: Vec<(Holding, WriteId)>,
    busy: bool,
    not_before: Moment,
    sabotage: Sabotage,
}

impl Checks {
    pub(super) fn new(sabotage: Sabotage) -> Self {
        Self { sabotage, ..Self::default() }
    }

    pub(super) fn arrived(&mut self, held: Holding, write: WriteId) {
        let under_way = self.busy && self.sabotage.has(Defect::CheckUnderWay);
        let queue = if under_way { &mut self.asked } else { &mut self.waiting };
        queue.push((held, write));
    }

    /// Whether the own row is to be read now.
    pub(super) fn next(&mut self, now: Moment) -> bool {
        if self.busy || now < self.not_before || self.waiting.is_empty() {
            return false;
        }
        self.busy = true;
        self.asked = std::mem::take(&mut self.waiting);
        true
    }

    /// The row was read: these are the writes that it speaks of.
    pub(super) fn read(&mut self) -> Vec<(Holding, WriteId)> {
        self.busy = false;
        std::mem::take(&mut self.asked)
    }

    /// The read brought nothing.
    pub(super) fn not_read(&mut self, now: Moment) {
        self.busy = false;
        self.not_before = now + RETRY;
        self.waiting = self.all();
    }

    /// All of them, in the order in which they arrived.
    pub(super) fn all(&mut self) -> Vec<(Holding, WriteId)> {
        let mut all = std::mem::take(&mut self.asked);
        all.append(&mut self.waiting);
        all
    }
}
