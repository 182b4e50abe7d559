//! What befalls the hosts.

use super::super::host::Process;
use super::super::weather::{MS, S, Way};
use super::{Broken, Happening, What, World};
use crate::lease::defect::Sabotage;
use crate::lease::{CheckBy, Incarnation, Lease, ShardKey};

impl World<'_> {
    pub(super) fn start(&mut self, host: usize) {
        if self.hosts[host].process.is_none() {
            let defect = match self.broken {
                Some(Broken::Rule(defect)) => Some(defect),
                _ => None,
            };
            let lease = Lease::sabotaged(self.plan.by, Sabotage(defect));
            self.hosts[host].process = Some(Process::new(lease));
            for what in [What::Begin, What::See, What::Tick] {
                self.process_within(0, 50 * MS, host, what);
            }
        }
    }

    /// One of them ends: some leave before, and some of these die over it.
    pub(super) fn crash(&mut self) {
        let host = self.dice.index(self.hosts.len());
        let life = self.hosts[host].life;
        if self.hosts[host].process.is_some() && self.dice.percent(50) {
            self.process_within(0, 50 * MS, host, What::Leave);
            self.within(50 * MS, 3 * S, Happening::Die(host, life));
        } else {
            self.die(host, life);
        }
        self.every(self.plan.crash_every, Happening::Crash);
    }

    pub(super) fn die(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life {
            return;
        }
        self.hosts[host].process = None;
        self.hosts[host].life += 1;
        self.within(50 * MS, 10 * S, Happening::Start(host));
        if self.dice.percent(50) {
            let placed = self.placed.clone();
            for key in placed.iter().filter(|(_, placed)| **placed == host).map(|(key, _)| *key) {
                let other = self.dice.index(self.hosts.len());
                self.within(500 * MS, 3 * S, Happening::Place(key, other));
            }
        }
    }

    pub(super) fn sleep(&mut self, host: usize) {
        let hidden = self.plan.hidden > 0 && self.dice.percent(50);
        let longest = match hidden {
            true => self.plan.hidden,
            false if self.dice.percent(70) => S,
            false => 8 * S,
        };
        let time = self.dice.between(longest / 20, longest);
        self.fall_asleep(host, time, hidden);
        self.every(self.plan.sleep_every, Happening::Sleep(host));
    }

    pub(super) fn fall_asleep(&mut self, host: usize, time: u64, hidden: bool) {
        let until = (self.now + time).min(self.plan.storm);
        let sleeper = &mut self.hosts[host];
        if sleeper.asleep_until <= self.now && (!hidden || sleeper.seen_until <= self.now) {
            sleeper.asleep_until = until;
            if hidden {
                sleeper.clock.freeze(self.now, until);
                sleeper.seen_until = until + 4 * S;
            }
        }
    }

    /// Trouble for the host of whoever owns a shard.
    pub(super) fn trouble(&mut self) {
        let owners: Vec<Incarnation> =
            self.placed.keys().filter_map(|key| self.store.shard(*key).owner).collect();
        let host = match owners.as_slice() {
            [] => self.dice.index(self.hosts.len()),
            owners => self.lives[&owners[self.dice.index(owners.len())]].0,
        };
        match self.plan.by {
            CheckBy::Clock => self.trouble_for_clocks(host),
            CheckBy::Read => self.trouble_for_reads(host),
        }
        self.every(self.plan.trouble_every, Happening::Trouble);
    }

    /// Answers come late or not at all, for a moment some do, then nothing gets through and the clock stands still.
    pub(super) fn trouble_for_clocks(&mut self, host: usize) {
        self.hosts[host].way = Way::deaf(self.plan, &mut self.dice);
        let moment = self.now + self.dice.between(300 * MS, 2 * S);
        self.at(moment, Happening::Turn(host, Way::lossy(self.plan)));
        let cut = moment + if self.dice.percent(60) { self.dice.below(400 * MS) } else { 0 };
        self.at(cut, Happening::Turn(host, Way::CUT));
        self.within(cut - self.now, cut - self.now + 1_500 * MS, Happening::Freeze(host));
        self.at(cut + 5 * S, Happening::Turn(host, Way::default()));
    }

    /// Answers take very long, then writes do, and the clock stands still until all of them are there.
    pub(super) fn trouble_for_reads(&mut self, host: usize) {
        self.hosts[host].way = Way::slow_back(self.plan);
        let slow = self.now + self.dice.between(50 * MS, 300 * MS);
        self.at(slow, Happening::Turn(host, Way::slow_there(self.plan)));
        self.within(slow - self.now, slow - self.now + 200 * MS, Happening::Freeze(host));
        self.at(slow + 9 * S, Happening::Turn(host, Way::default()));
    }

    pub(super) fn move_one(&mut self) {
        let nth = self.dice.index(self.placed.len());
        let (key, from) = self.placed.iter().nth(nth).map(|(key, host)| (*key, *host)).expect("one of them");
        let to = self.dice.index(self.hosts.len());
        self.place(key, to);
        // Whoever proposes owners may change its mind.
        if self.dice.percent(30) {
            self.within(50 * MS, 1_500 * MS, Happening::Place(key, from));
        }
        self.every(self.plan.move_every, Happening::Move);
    }

    pub(super) fn place(&mut self, key: ShardKey, host: usize) {
        self.placed.insert(key, host);
        for host in 0..self.hosts.len() {
            self.process_within(0, 500 * MS, host, What::See);
        }
    }

    pub(super) fn calm(&mut self) {
        self.stormy = false;
        for host in 0..self.hosts.len() {
            self.hosts[host].way = Way::default();
            self.hosts[host].deaf_until = 0;
            if self.hosts[host].process.as_ref().is_some_and(|process| process.ends) {
                self.hosts[host].process = None;
                self.hosts[host].life += 1;
            }
            self.start(host);
            self.process_within(0, 500 * MS, host, What::See);
        }
    }

    pub(super) fn end(&mut self) {
        for (key, host) in &self.placed {
            let host = &self.hosts[*host];
            self.referee.is_well(*key, host.process.as_ref(), host.clock.read(self.now));
        }
    }
}
