//! The gateway's end: one session's attachment to one owner.

use std::collections::BTreeMap;

use dialtone_proto::bus::v1 as bus;
use dialtone_proto::edge::v1::ServerFrame;
use dialtone_vocab::UnixMillis;

use crate::{ATTACH_RETRY, GAP_PATIENCE, REORDER_BATCHES};

/// One session's attachment to one owner, as its gateway sees it.
#[derive(Debug, Default)]
pub struct Link {
    generation: u32,
    attached: bool,
    asked: UnixMillis,
    epoch: u64,
    received: u64,
    early: BTreeMap<u64, Vec<ServerFrame>>,
    gap_since: Option<UnixMillis>,
}

/// What came of a batch of frames.
#[derive(Debug, PartialEq)]
pub enum Received {
    /// These are next; pass them on in this order.
    Next(Vec<ServerFrame>),
    /// Nothing to pass on: a repeat, an older generation or epoch, or something is missing before it.
    Nothing,
    /// Too much is missing: attach again.
    AttachAgain,
}

impl Link {
    /// Begins a new generation; the answer goes into the `Attach` to be sent now.
    pub fn begin(&mut self, now: UnixMillis) -> u32 {
        self.generation += 1;
        self.attached = false;
        self.asked = now;
        self.received = 0;
        self.early.clear();
        self.gap_since = None;
        self.generation
    }

    /// Takes the owner's answer; false if it answers another generation, was taken before or comes from a former
    /// owner.
    pub fn attached(&mut self, answer: &bus::Attached) -> bool {
        let fresh = answer.generation == self.generation && !self.attached && answer.epoch >= self.epoch;
        if fresh {
            self.attached = true;
            self.epoch = answer.epoch;
        }
        fresh
    }

    /// Takes frames; those of a generation whose answer is still missing wait for it.
    pub fn frames(&mut self, batch: bus::Frames, now: UnixMillis) -> Received {
        if batch.generation != self.generation || batch.epoch < self.epoch || batch.first == 0 {
            return Received::Nothing;
        }
        if self.attached && batch.first == self.received + 1 && self.early.is_empty() {
            self.received += batch.frames.len() as u64;
            return Received::Next(batch.frames);
        }
        if batch.first > self.received {
            self.early.insert(batch.first, batch.frames);
        }
        match self.early.len() > REORDER_BATCHES {
            true => Received::AttachAgain,
            false => self.release(now),
        }
    }

    /// The frames that had come early and are next now.
    pub fn release(&mut self, now: UnixMillis) -> Received {
        let mut next = Vec::new();
        if self.attached {
            while let Some(frames) = self.early.remove(&(self.received + 1)) {
                self.received += frames.len() as u64;
                next.extend(frames);
            }
        }
        self.gap_since = if self.early.is_empty() { None } else { self.gap_since.or(Some(now)) };
        if next.is_empty() { Received::Nothing } else { Received::Next(next) }
    }

    /// Whether a `Reattach` speaks of the present generation.
    pub fn is_current(&self, generation: u32) -> bool {
        generation == self.generation
    }

    /// Whether it is time to attach again: never answered, or a gap that stays.
    pub fn is_overdue(&self, now: UnixMillis) -> bool {
        let unanswered = !self.attached && now.since(self.asked) >= ATTACH_RETRY;
        let gaping = self.gap_since.is_some_and(|since| now.since(since) >= GAP_PATIENCE);
        unanswered || gaping
    }

    /// Whether the owner has answered this generation and nothing is missing.
    pub fn is_level(&self) -> bool {
        self.attached && self.gap_since.is_none()
    }

    /// What the beat says about this session at this owner.
    pub fn beat(&self, ticket: u64, user: &[u8]) -> bus::SessionBeat {
        bus::SessionBeat {
            ticket,
            generation: self.generation,
            received: self.received,
            user: user.to_vec(),
            ..bus::SessionBeat::default()
        }
    }
}
