//! The processes: each drives its lease, and writes to the logs that it may open.

use super::super::host::{Kind, Reply};
use super::super::weather::MS;
use super::{Broken, Happening, What, World};
use crate::lease::{Answer, CheckBy, Effect, Event, Holding, Incarnation, ShardRow};

impl World<'_> {
    pub(super) fn reach_process(&mut self, host: usize, life: u64, what: What) {
        let found = &self.hosts[host];
        if found.life != life || found.process.is_none() {
            return;
        }
        if found.asleep_until > self.now {
            return self.at(found.asleep_until, Happening::Process { host, life, what });
        }
        match what {
            What::See if found.deaf_until > self.now => {
                self.at(found.deaf_until, Happening::Process { host, life, what });
            }
            What::Tick => {
                self.process_within(100 * MS, 110 * MS, host, What::Tick);
                self.say(host, Event::Tick);
            }
            What::Return(call, reply) => self.returned(host, call, reply),
            What::TimeOut(call) => self.timed_out(host, call),
            What::Say(event) => self.say(host, event),
            What::Begin => {
                let incarnation = Incarnation(self.number());
                self.lives.insert(incarnation, (host, life));
                self.process(host).incarnation = Some(incarnation);
                self.say(host, Event::Begin(incarnation));
            }
            // In the calm nobody is told to.
            What::Leave if !self.stormy => {}
            What::Leave => {
                let process = self.process(host);
                process.ends = true;
                process.leaves = process.incarnation;
                self.say(host, Event::Leave);
            }
            What::See => self.see(host),
            What::Gone(key, freed) => {
                if self.process(host).wants.contains(&key) {
                    self.say(host, freed.map_or(Event::Want(key), |epoch| Event::Freed(key, epoch)));
                }
            }
            What::Write(held) => {
                if self.process(host).writes.contains(&held) {
                    let entry = self.number();
                    self.entries.insert(entry, held);
                    self.append(host, held, entry);
                }
            }
        }
    }

    pub(super) fn see(&mut self, host: usize) {
        for (key, placed) in self.placed.clone() {
            let is_to = placed == host || (self.stormy && self.plan.rivals);
            let process = self.process(host);
            if is_to && process.wants.insert(key) {
                self.say(host, Event::Want(key));
            } else if !is_to && process.wants.remove(&key) {
                process.writes.retain(|held| held.key != key);
                self.say(host, Event::Release(key));
            }
        }
    }

    pub(super) fn append(&mut self, host: usize, held: Holding, entry: u64) {
        let now = self.hosts[host].clock.read(self.now);
        let process = self.process(host);
        let is_owner = process.lease.is_owner(&held, now);
        process.checked.insert(entry, is_owner);
        self.call(host, Kind::Append(held, entry));
    }

    pub(super) fn returned(&mut self, host: usize, call: u64, reply: Reply) {
        let Some(kind) = self.process(host).unanswered.remove(&call) else { return };
        match (kind, reply) {
            (Kind::Lease(ticket, _), Reply::Lease(answer)) => self.say(host, Event::Answer(ticket, answer)),
            (Kind::Open(held), Reply::Found(found)) => {
                let process = self.process(host);
                if process.lease.is_held(&held) && process.wants.contains(&held.key) {
                    process.writes.insert(held);
                    self.referee.found(held, found);
                    self.process_within(0, 200 * MS, host, What::Write(held));
                }
            }
            (Kind::Append(_, entry), _) if self.broken == Some(Broken::CheckBeforeAnswer) => {
                let checked = self.process(host).checked.get(&entry) == Some(&true);
                self.effect(host, if checked { Effect::Settled(entry) } else { Effect::Unsettled(entry) });
            }
            (Kind::Append(held, entry), _) => self.say(host, Event::Arrived(held, entry)),
            (kind, reply) => panic!("{kind:?} is not answered with {reply:?}"),
        }
    }

    pub(super) fn timed_out(&mut self, host: usize, call: u64) {
        let Some(kind) = self.process(host).unanswered.remove(&call) else { return };
        match kind {
            Kind::Lease(ticket, _) => self.say(host, Event::Answer(ticket, Answer::Unknown)),
            Kind::Open(held) if self.process(host).lease.is_held(&held) => self.call(host, kind),
            Kind::Append(held, entry) if self.process(host).writes.contains(&held) => {
                self.append(host, held, entry);
            }
            Kind::Open(_) | Kind::Append(..) => {}
        }
    }

    pub(super) fn say(&mut self, host: usize, event: Event) {
        let now = self.hosts[host].clock.read(self.now);
        for effect in self.process(host).lease.handle(event, now) {
            self.effect(host, effect);
        }
        let process = self.process(host);
        if process.lease.has_left()
            && let Some(left) = process.leaves.take()
        {
            self.referee.tally.left += 1;
            self.tell(host, Event::Left(left));
        }
    }

    /// The others hear of a counter, or that one has left, or don't.
    pub(super) fn tell(&mut self, host: usize, news: Event) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            if !self.dice.percent(self.plan.unheard) {
                self.process_within(MS, 300 * MS, other, What::Say(news));
            }
        }
    }

    pub(super) fn effect(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::Ask(ticket, request) => self.call(host, Kind::Lease(ticket, request)),
            Effect::Renewed(incarnation, counter) => self.tell(host, Event::Heard(incarnation, counter)),
            Effect::Opened(held) => {
                let incarnation = self.process(host).incarnation;
                self.referee.opened(held, incarnation, &self.store);
                self.process(host).held.insert(held.key, held);
                self.call(host, Kind::Open(held));
            }
            Effect::Gone(key, freed) => {
                self.process(host).held.remove(&key);
                if !self.dice.percent(self.plan.unheard) {
                    let placed = self.placed[&key];
                    self.process_within(MS, 300 * MS, placed, What::Gone(key, freed));
                }
            }
            Effect::Settled(entry) => self.settled(host, entry),
            Effect::Unsettled(entry) => {
                self.referee.tally.unsettled += 1;
                let held = self.entries[&entry];
                self.process(host).writes.remove(&held);
            }
            Effect::Stop => {
                self.referee.tally.stopped += 1;
                let process = self.process(host);
                process.held.clear();
                process.writes.clear();
                process.incarnation = None;
                if !process.ends {
                    self.process_within(0, 100 * MS, host, What::Begin);
                }
            }
        }
    }

    pub(super) fn settled(&mut self, host: usize, entry: u64) {
        let held = self.entries[&entry];
        let row = ShardRow { epoch: held.epoch, owner: self.process(host).incarnation };
        let is_owner = (self.plan.by == CheckBy::Clock).then(|| self.store.shard(held.key) == row);
        self.referee.settled(held, entry, is_owner);
        self.process_within(20 * MS, 500 * MS, host, What::Write(held));
    }
}
