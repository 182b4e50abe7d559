//! A shard that this process wants, has, or gives back. Pure.

use dialtone_vocab::Epoch;

use super::Moment;
use super::defect::{Defect, Sabotage};
use super::limits::{LOOK_AGAIN, RETRY};
use super::rows::{Answer, Holding, Incarnation, Request, ShardKey, ShardRow};

#[derive(Debug)]
pub(super) struct Shard {
    key: ShardKey,
    me: Incarnation,
    wanted: bool,
    step: Step,
    /// Whether the row is to be read before a write is tried again.
    unclear: bool,
    busy: bool,
    not_before: Moment,
    /// The epoch in which it was heard to be without an owner.
    freed: Option<Epoch>,
    sabotage: Sabotage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The row is to be read.
    Look,
    /// The row as it was read; its owner has to be closed first.
    Wait(ShardRow),
    /// The write that takes it from what was seen was sent, perhaps more than once. This is followed until the row is
    /// another, even when the shard is not wanted any more: a late try would take it for somebody who forgot.
    Take(ShardRow),
    /// It is this process's in this epoch.
    Held(Epoch),
    /// It was, and the row is to say so. No check has passed since this began.
    GiveBack(Epoch),
    /// The row doesn't name this process, and the shard is not wanted. The epoch, if it is known to have no owner in it.
    Gone(Option<Epoch>),
}

/// What an answer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    Opened(Epoch),
    Gone(Option<Epoch>),
}

impl Shard {
    pub(super) fn wanted(key: ShardKey, me: Incarnation, now: Moment, sabotage: Sabotage) -> Self {
        Self {
            key,
            me,
            wanted: true,
            step: Step::Look,
            unclear: false,
            busy: false,
            not_before: now,
            freed: None,
            sabotage,
        }
    }

    /// Wanted, perhaps again: if it is somebody else's, the row is looked at now.
    pub(super) fn want(&mut self, now: Moment) {
        self.wanted = true;
        if let (false, Step::Wait(_)) = (self.busy, self.step) {
            self.step = Step::Look;
            self.not_before = now;
        }
    }

    /// Its owner was heard to have given it back, in this epoch: it may be taken without a look at the row, for the taking
    /// is refused if that is not so.
    pub(super) fn freed(&mut self, epoch: Epoch) {
        self.freed = self.freed.max(Some(epoch));
        let free = ShardRow { epoch, owner: None };
        match self.step {
            Step::Look if !self.busy => self.step = Step::Wait(free),
            Step::Wait(row) if !self.busy && row.epoch <= epoch => self.step = Step::Wait(free),
            _ => {}
        }
    }

    /// Not wanted any more. From now on nothing is settled here; only then the row is changed.
    pub(super) fn release(&mut self) -> News {
        self.wanted = false;
        match self.step {
            Step::Held(epoch) => self.step = Step::GiveBack(epoch),
            Step::Look | Step::Wait(_) if !self.busy => self.step = Step::Gone(None),
            _ => {}
        }
        self.news()
    }

    /// The epoch in which it is this process's.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        match self.step {
            Step::Held(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Whether it is this process's in that epoch.
    pub(super) fn is_held(&self, epoch: Epoch) -> bool {
        match self.step {
            Step::Held(held) => held == epoch,
            Step::GiveBack(held) => held == epoch && self.sabotage.has(Defect::ReleasedAfterRow),
            _ => false,
        }
    }

    /// Whose row has to be closed before this shard can be taken.
    pub(super) fn awaits(&self) -> Option<Incarnation> {
        match self.step {
            Step::Wait(row) => row.owner.filter(|owner| *owner != self.me),
            _ => None,
        }
    }

    /// What is to be asked now. `closed` says of the owner that [`Shard::awaits`] whether its row is closed.
    pub(super) fn next(&mut self, closed: bool, now: Moment) -> Option<Request> {
        if self.busy {
            return None;
        }
        let read = Request::ReadShard(self.key);
        let request = match self.step {
            Step::Held(_) | Step::Gone(_) => return None,
            Step::Wait(row) if closed || self.awaits().is_none() => {
                self.step = Step::Take(row);
                Request::Take { key: self.key, seen: row, by: self.me }
            }
            _ if now < self.not_before => return None,
            Step::Look | Step::Wait(_) => read,
            Step::Take(_) | Step::GiveBack(_) if self.unclear => read,
            Step::Take(seen) => Request::Take { key: self.key, seen, by: self.me },
            Step::GiveBack(epoch) => {
                Request::GiveBack { held: Holding { key: self.key, epoch }, by: self.me }
            }
        };
        self.busy = true;
        Some(request)
    }

    /// Takes the answer to what [`Shard::next`] asked.
    pub(super) fn answered(&mut self, answer: Answer, now: Moment) -> News {
        self.busy = false;
        self.not_before = now;
        match (self.step, answer) {
            (Step::Take(seen), Answer::Applied) => self.acquired(Epoch(seen.epoch.0 + 1)),
            (Step::GiveBack(epoch), Answer::Applied) => self.look_at(ShardRow { epoch, owner: None }, now),
            (_, Answer::Shard(row)) => self.read(row, now),
            (_, Answer::Refused) => {
                self.freed = None;
                self.unclear = true;
            }
            _ => {
                self.unclear = true;
                self.not_before = now + RETRY;
            }
        }
        self.news()
    }

    fn read(&mut self, row: ShardRow, now: Moment) {
        self.unclear = false;
        match self.step {
            Step::Take(seen) if row == seen => {}
            Step::Take(seen)
                if row == (ShardRow { epoch: Epoch(seen.epoch.0 + 1), owner: Some(self.me) }) =>
            {
                self.acquired(row.epoch);
            }
            Step::GiveBack(epoch) if !self.wanted && row == (ShardRow { epoch, owner: Some(self.me) }) => {}
            _ => self.look_at(row, now),
        }
    }

    /// The row names this process in an epoch that it has never held before.
    fn acquired(&mut self, epoch: Epoch) {
        self.unclear = false;
        self.step = if self.wanted { Step::Held(epoch) } else { Step::GiveBack(epoch) };
    }

    /// The row as it is, when nothing of this process is under way that could change it into something to be held.
    fn look_at(&mut self, row: ShardRow, now: Moment) {
        self.unclear = false;
        let mine = row.owner == Some(self.me);
        let is_freed = self.freed == Some(row.epoch) && !mine;
        self.step = match self.wanted {
            // The look was under way when its owner was heard to give it back.
            true if is_freed => Step::Wait(ShardRow { owner: None, ..row }),
            true if mine && self.sabotage.has(Defect::SameEpochAgain) => Step::Held(row.epoch),
            true => Step::Wait(row),
            false if mine => Step::GiveBack(row.epoch),
            false => Step::Gone(row.owner.is_none().then_some(row.epoch)),
        };
        if self.wanted {
            self.not_before = now + LOOK_AGAIN;
        }
    }

    fn news(&self) -> News {
        match self.step {
            Step::Held(epoch) => News::Opened(epoch),
            Step::Gone(freed) => News::Gone(freed),
            _ => News::Nothing,
        }
    }
}
