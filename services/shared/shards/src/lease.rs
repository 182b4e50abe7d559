//! Who owns which shard when several processes share a store: leases, as pure state machines.
//!
//! No store, no clock and no bus in here: a driver ([`crate::Leases`]) brings events, each with the time on its own
//! clock, and carries out the effects. With an embedded store the lock of its file is the lease.
//!
//! ```text
//!   driver ── Begin, Tick, Want, Release, Heard, Leave … ──► Lease ── Ask{ticket, request} ──► driver ──► store
//!     ▲  ▲                                                   │  ▲                                          │
//!     │  └── Renewed (tell the bus), Stop (all of it) ◄──────┤  └────────── Answer{ticket, answer} ────────┘
//!     └───── Opened, Gone, Settled, Unsettled ◄──────────────┘
//!
//!   node row    incarnation → counter, open | closed     one's own is renewed; another's is closed
//!   shard row   (service, shard) → epoch, owner          taken, given back
//! ```
//!
//! # The rules
//!
//! *An incarnation* is a process from its start, or from the loss of its last lease, until the loss of the next. It
//! makes a node row of its own and raises the row's counter every [`limits::RENEW_EVERY`]. Each success gives a lease
//! of [`limits::LEASE`] from the moment at which the *first* try of that renewal was *sent*: nobody can have begun to
//! wait for its end before that. A try that is refused is looked into: the row open with the next counter means that
//! an earlier try got through; the row closed, that this incarnation is over.
//!
//! *When the lease has run out* everything stops: nothing is settled any more. The process closes its row itself and
//! begins again as a new incarnation, so a store that stalls for everybody costs no more than the stall.
//!
//! *Taking over.* Whoever wants a shard of another waits until that one's counter has been unchanged for
//! [`limits::WAIT`] since it *heard* of the last change, by bus or by a serial read, then closes the row on the
//! condition that the counter is that one and the row open. Only when the row is closed, by whomever, is the shard's row
//! changed: epoch one more, owner oneself, on the condition that it is as it was read. What comes of a write and is
//! unknown is read until it is known. Every acquisition is a new epoch, also of what was one's own a moment ago: an
//! old request may be under way still.
//!
//! *Giving back.* First the shard counts as released, so that no check passes; then its row is made ownerless. The
//! successor need not wait. Whoever gives back well first lets its writes end. *Leaving* gives back everything at once:
//! the incarnation is over, and the process closes its own row. Others may take each of its shards then.
//!
//! *The check.* A write is settled when, *after* its answer has arrived, its writer is found to be the owner: by the
//! clock, or by a serial read of its node row ([`CheckBy`]). Either way the write was durable before any successor had
//! the shard, so that the successor finds it.
//!
//! # What the driver owes
//!
//! Each request is answered once, at the latest by a time-out, as [`Answer::Unknown`]; renewals don't queue behind
//! others, takings are paced. A tick every [`limits::TICK_EVERY`]. The time is monotonic and counts on while the host
//! sleeps. After [`Effect::Stop`] it brings [`Event::Begin`] with a new random incarnation as soon as its actors are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dialtone_vocab::{Epoch, ShardId};

mod check;
mod defect;
pub mod limits;
mod node;
mod others;
mod rows;
mod shard;
#[cfg(test)]
mod tests;

pub use check::CheckBy;
use check::Checks;
#[doc(hidden)]
pub use defect::{Defect, Sabotage};
use node::Node;
use others::Others;
pub use rows::{Answer, Holding, Incarnation, NodeRow, Request, ShardKey, ShardRow};
use shard::Shard;

/// A time on the own clock: how long since some moment that stays the same.
pub type Moment = Duration;
/// The name of a write whose answer has arrived; the driver's choice.
pub type WriteId = u64;
/// Which request an answer is for.
pub type Ticket = u64;

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It begins, or begins again after [`Effect::Stop`], under a number that nobody had before.
    Begin(Incarnation),
    /// Time has passed.
    Tick,
    /// A request was answered.
    Answer(Ticket, Answer),
    /// Another's counter was heard.
    Heard(Incarnation, u64),
    /// Another was heard to have left: whoever waits for it looks at its row.
    Left(Incarnation),
    /// This process ends: all of its shards are to be others' at once. Nothing begins after this.
    Leave,
    /// This process is to have the shard; said again when there may be news of it.
    Want(ShardKey),
    /// Its owner was heard to have given it back, in this epoch.
    Freed(ShardKey, Epoch),
    /// It is not to have it any more.
    Release(ShardKey),
    /// The answer of a write to a log of this shard has arrived: is it settled?
    Arrived(Holding, WriteId),
}

/// What is to be done because of it, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask the store, and bring the answer under this ticket.
    Ask(Ticket, Request),
    /// The own counter has moved: others should hear it, lest they ask the store.
    Renewed(Incarnation, u64),
    /// The shard is this process's, in this epoch: its logs may be opened.
    Opened(Holding),
    /// The shard was released and its row doesn't name this process: others who want it should hear that, and the epoch in
    /// which it has no owner, if that is known.
    Gone(ShardKey, Option<Epoch>),
    /// The write is settled and may be told.
    Settled(WriteId),
    /// The write is not settled, and never will be under this holding.
    Unsettled(WriteId),
    /// The lease is lost, and with it every shard: stop everything, then begin anew.
    Stop,
}

/// Who asked what is under way.
#[derive(Debug, Clone, Copy)]
enum Asker {
    Node,
    Other(Incarnation),
    Shard(ShardKey),
    Check,
}

/// The leases of one process.
#[derive(Debug)]
pub struct Lease {
    by: CheckBy,
    /// The shards that this process is to have, in whatever incarnation.
    wanted: BTreeSet<ShardKey>,
    /// The present incarnation, and what is its.
    node: Option<Node>,
    shards: BTreeMap<ShardKey, Shard>,
    checks: Checks,
    others: Others,
    asked: BTreeMap<Ticket, Asker>,
    last_ticket: Ticket,
    sabotage: Sabotage,
}

impl Lease {
    /// A process that has not begun.
    pub(crate) fn sabotaged(by: CheckBy, sabotage: Sabotage) -> Self {
        Self {
            by,
            wanted: BTreeSet::new(),
            node: None,
            shards: BTreeMap::new(),
            checks: Checks::new(sabotage),
            others: Others::new(sabotage),
            asked: BTreeMap::new(),
            last_ticket: 0,
            sabotage,
        }
    }

    /// Something has happened, at this time.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.node.as_ref().is_some_and(|node| node.has_lapsed(now)) {
            self.stop(now, &mut effects);
        }
        match event {
            Event::Begin(incarnation) => self.begin(incarnation, now),
            Event::Tick => {}
            Event::Answer(ticket, answer) => self.answered(ticket, answer, now, &mut effects),
            Event::Heard(incarnation, counter) => self.others.heard(incarnation, counter, now),
            Event::Left(incarnation) => self.others.left(incarnation, now),
            Event::Leave => {
                self.wanted.clear();
                self.stop(now, &mut effects);
            }
            Event::Want(key) => self.want(key, now),
            Event::Freed(key, epoch) => {
                if let Some(shard) = self.shards.get_mut(&key) {
                    shard.freed(epoch);
                }
            }
            Event::Release(key) => self.release(key, &mut effects),
            Event::Arrived(held, write) => self.arrived(held, write, now, &mut effects),
        }
        self.move_on(now, &mut effects);
        effects
    }

    /// The epoch in which this process owns a shard, by the clock.
    pub fn held(&self, key: ShardKey, now: Moment) -> Option<Epoch> {
        self.node.as_ref().filter(|node| node.is_valid(now))?;
        self.shards.get(&key).and_then(Shard::epoch)
    }

    /// The shards of a service that this process owns, by the clock.
    pub fn all_held(&self, service: &str, now: Moment) -> Vec<ShardId> {
        let own = self.shards.keys().filter(|key| key.service == service);
        own.filter(|key| self.held(**key, now).is_some()).map(|key| key.shard).collect()
    }

    /// Whether every shard that this process is to have is its own, by what it knows.
    pub fn holds_all(&self) -> bool {
        self.wanted.iter().all(|key| self.shards.get(key).is_some_and(|shard| shard.epoch().is_some()))
    }

    /// Whether no incarnation of this process lives, and the row of each that stopped is closed: nobody waits for it.
    pub fn has_left(&self) -> bool {
        self.node.is_none() && !self.others.closes()
    }

    /// Whether the answer to what was asked under this ticket still means something.
    pub fn is_asked(&self, ticket: Ticket) -> bool {
        self.asked.contains_key(&ticket)
    }

    /// Whether checks go by the clock: then [`Lease::held`] is all there is to know.
    pub fn checks_by(&self) -> CheckBy {
        self.by
    }

    /// Whether, by the clock, this process owns the shard in that epoch.
    fn is_owner(&self, held: &Holding, now: Moment) -> bool {
        self.node.as_ref().is_some_and(|node| node.is_valid(now)) && self.is_held(held)
    }

    /// Whether it has it in that epoch and has not released it.
    fn is_held(&self, held: &Holding) -> bool {
        self.shards.get(&held.key).is_some_and(|shard| shard.is_held(held.epoch))
    }

    fn begin(&mut self, incarnation: Incarnation, now: Moment) {
        if self.node.is_none() {
            self.node = Some(Node::new(incarnation, now, self.sabotage));
            let shard = |key| (key, Shard::wanted(key, incarnation, now, self.sabotage));
            self.shards = self.wanted.iter().copied().map(shard).collect();
        }
    }

    /// The lease is lost. Answers to what this incarnation has asked mean nothing any more.
    fn stop(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Some(node) = self.node.take() else { return };
        effects.push(Effect::Stop);
        self.shards.clear();
        self.asked.retain(|_, asker| matches!(asker, Asker::Other(_)));
        let mut checks = std::mem::replace(&mut self.checks, Checks::new(self.sabotage));
        effects.extend(checks.all().into_iter().map(|(_, write)| Effect::Unsettled(write)));
        self.others.stopped(node.incarnation, node.counter, now);
    }

    fn want(&mut self, key: ShardKey, now: Moment) {
        self.wanted.insert(key);
        if let Some(node) = &self.node {
            let shard = || Shard::wanted(key, node.incarnation, now, self.sabotage);
            self.shards.entry(key).or_insert_with(shard).want(now);
        }
    }

    fn release(&mut self, key: ShardKey, effects: &mut Vec<Effect>) {
        self.wanted.remove(&key);
        if let Some(news) = self.shards.get_mut(&key).map(Shard::release) {
            self.tell_shard(key, news, effects);
        }
    }

    fn arrived(&mut self, held: Holding, write: WriteId, now: Moment, effects: &mut Vec<Effect>) {
        match self.by {
            CheckBy::Clock if self.is_owner(&held, now) => effects.push(Effect::Settled(write)),
            CheckBy::Read if self.is_held(&held) => self.checks.arrived(held, write),
            _ => effects.push(Effect::Unsettled(write)),
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: Answer, now: Moment, effects: &mut Vec<Effect>) {
        match self.asked.remove(&ticket) {
            Some(Asker::Node) => self.node_answered(answer, now, effects),
            Some(Asker::Other(incarnation)) => self.others.answered(incarnation, answer, now),
            Some(Asker::Shard(key)) => {
                if let Some(news) = self.shards.get_mut(&key).map(|shard| shard.answered(answer, now)) {
                    self.tell_shard(key, news, effects);
                }
            }
            Some(Asker::Check) => self.check_answered(answer, now, effects),
            None => {}
        }
    }

    fn node_answered(&mut self, answer: Answer, now: Moment, effects: &mut Vec<Effect>) {
        let Some(node) = &mut self.node else { return };
        match node.answered(answer, now) {
            node::News::Nothing => {}
            node::News::Renewed => effects.push(Effect::Renewed(node.incarnation, node.counter)),
            node::News::Lost => self.stop(now, effects),
        }
    }

    fn check_answered(&mut self, answer: Answer, now: Moment, effects: &mut Vec<Effect>) {
        match answer {
            Answer::Node(Some(NodeRow { open: true, .. })) => {
                for (held, write) in self.checks.read() {
                    let settled = self.is_held(&held);
                    effects.push(if settled { Effect::Settled(write) } else { Effect::Unsettled(write) });
                }
            }
            Answer::Node(_) => self.stop(now, effects),
            _ => self.checks.not_read(now),
        }
    }

    fn tell_shard(&mut self, key: ShardKey, news: shard::News, effects: &mut Vec<Effect>) {
        match news {
            shard::News::Nothing => {}
            shard::News::Opened(epoch) => effects.push(Effect::Opened(Holding { key, epoch })),
            shard::News::Gone(freed) => {
                self.shards.remove(&key);
                effects.push(Effect::Gone(key, freed));
            }
        }
    }

    /// Asks whatever is due.
    fn move_on(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let mut requests = Vec::new();
        if let Some(node) = &mut self.node {
            requests.extend(node.next(now).map(|request| (Asker::Node, request)));
            if self.checks.next(now) {
                requests.push((Asker::Check, Request::ReadNode(node.incarnation)));
            }
        }
        let awaited: BTreeSet<Incarnation> = self.shards.values().filter_map(Shard::awaits).collect();
        let others = self.others.next(&awaited, now);
        requests.extend(others.into_iter().map(|(other, request)| (Asker::Other(other), request)));
        // Without a lease nothing is taken: it would be lost before it is had.
        if self.node.as_ref().is_some_and(|node| node.is_valid(now)) {
            for (key, shard) in &mut self.shards {
                let closed = shard.awaits().is_some_and(|owner| self.others.is_closed(owner));
                requests.extend(shard.next(closed, now).map(|request| (Asker::Shard(*key), request)));
            }
        }
        for (asker, request) in requests {
            self.last_ticket += 1;
            self.asked.insert(self.last_ticket, asker);
            effects.push(Effect::Ask(self.last_ticket, request));
        }
    }
}
