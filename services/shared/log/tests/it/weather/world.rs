//! An episode: hosts, replicas and a bus on one true time, a storm, and what is there when it is over.

use std::sync::Arc;
use std::time::Duration;

use dialtone_bus::{Bus, Courier};
use dialtone_chassis::{Chassis, Rng};
use dialtone_log::LOG;
use dialtone_store::replicas::Replicas;

use super::actor::{Ground, owners};
use super::host::Host;
use super::journal::{Journal, Tally};
use super::plan::{Breakage, HOSTS, Plan, dice};

/// One step of everybody.
const STEP: Duration = Duration::from_millis(5);
/// How far the clocks of coordinators are apart, at most.
const COORDINATORS_APART: Duration = Duration::from_secs(3);
/// How long after the storm everything has arrived that still will.
const ARRIVED: Duration = Duration::from_secs(13);
/// How long it may take until every log is open in a process that comes alone.
const OPENED_WITHIN: Duration = Duration::from_secs(60);

/// What came of an episode.
pub(super) struct Played {
    pub(super) wrongs: Vec<String>,
    pub(super) trace: Vec<String>,
    pub(super) tally: Tally,
}

/// Whose logs there are.
type Owners = Box<dyn Iterator<Item = [u8; 16]>>;

pub(super) struct World {
    ground: Ground,
    pub(super) dice: Rng,
    pub(super) replicas: Replicas,
    hosts: Vec<Host>,
    /// When hosts without a process get one.
    revived: [Duration; HOSTS],
    now: Duration,
}

/// Loses some of what is said about leases.
struct Deaf(Rng);

impl Courier for Deaf {
    fn fate(&self, subject: &str, _: u64) -> Vec<Duration> {
        let is_lost = subject != "dialtone.cluster.heartbeat" && self.0.below(4) == 0;
        if is_lost { Vec::new() } else { vec![Duration::ZERO] }
    }
}

/// Plays an episode.
pub(super) fn play(plan: &Plan, breakage: Breakage) -> Played {
    let mut world = World::new(plan, breakage);
    world.calm();
    world.pass(Duration::from_secs(5));
    world.storm();
    world.calm();
    world.pass(ARRIVED);
    world.last_opening();
    let World { ground, replicas, .. } = world;
    ground.journal.check_at_all(&replicas.at_all("alpha", LOG));
    let seen = replicas.seen();
    ground.journal.count(|tally| {
        tally.unknown += seen.unknown;
        tally.lost += seen.lost;
        tally.late += seen.late;
        tally.unequal += seen.unequal;
    });
    let (wrongs, trace, tally) = ground.journal.close();
    Played { wrongs, trace, tally }
}

impl World {
    fn new(plan: &Plan, breakage: Breakage) -> Self {
        let dice = dice(plan.seed ^ (1 << 40));
        let replicas = Replicas::new(&Chassis::for_tests(dice.u64()).rng, COORDINATORS_APART);
        let courier = Deaf(Chassis::for_tests(dice.u64()).rng);
        let bus = Bus::local_with_courier(&Chassis::for_tests(0), Arc::new(courier));
        let ground = Ground { plan: plan.clone(), breakage, bus, journal: Journal::default() };
        let clocks = plan.rates.into_iter().zip(plan.ahead).enumerate();
        let host = |(place, (rate, ahead))| Host::new(place, rate, ahead, dice.u64());
        let hosts: Vec<_> = clocks.map(host).collect();
        let mut world =
            Self { ground, dice, replicas, hosts, revived: [Duration::ZERO; HOSTS], now: Duration::ZERO };
        world.revive();
        world
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.ground.plan
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.ground.journal.is_wrong()
    }

    pub(super) fn reads_at_one(&self) -> bool {
        self.ground.breakage == Breakage::ReadsAtOne
    }

    /// So much time passes for everybody.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            self.ground.journal.at(u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX));
            self.replicas.advance(self.now);
            self.hosts.iter_mut().for_each(|host| host.step(STEP));
        }
    }

    /// Starts processes where there are none for long enough.
    pub(super) fn revive(&mut self) {
        for (host, at) in self.hosts.iter_mut().zip(self.revived) {
            if host.name().is_none() && at <= self.now {
                host.start(&self.ground, &self.replicas);
            }
        }
    }

    pub(super) fn start(&mut self, host: usize) -> String {
        self.hosts[host].start(&self.ground, &self.replicas);
        self.hosts[host].name().unwrap_or_default().to_owned()
    }

    pub(super) fn kill_all(&mut self) {
        for host in 0..HOSTS {
            if self.hosts[host].name().is_some() {
                self.kill(host);
            }
        }
    }

    /// Whether a process has all logs.
    pub(super) fn has_all(&self, name: &str) -> bool {
        self.ground.journal.all_opened_by(name, owners(self.plan()))
    }

    pub(super) fn kill(&mut self, host: usize) {
        self.happens("is killed", host);
        self.ground.journal.count(|tally| tally.kills += 1);
        self.hosts[host].kill();
        self.revived[host] = self.now + self.dice.jitter(Duration::from_secs(4));
    }

    pub(super) fn leave(&mut self, host: usize) {
        self.happens("leaves", host);
        self.ground.journal.count(|tally| tally.leaves += 1);
        self.hosts[host].leave();
    }

    pub(super) fn stand_still(&mut self, host: usize, time: Duration, with_clock: bool) {
        if self.hosts[host].is_still() {
            return;
        }
        let what = if with_clock { "stands still unseen" } else { "stands still" };
        self.happens(&format!("{what} for {time:?}"), host);
        self.ground.journal.count(|tally| match with_clock {
            true => tally.hidden += 1,
            false => tally.stood_still += 1,
        });
        self.hosts[host].stand_still(time, with_clock);
    }

    fn happens(&self, what: &str, host: usize) {
        if let Some(name) = self.hosts[host].name() {
            self.ground.journal.trace(&format!("{name} {what}"));
        }
    }

    /// One process alone opens everything: nothing that was told is missing.
    fn last_opening(&mut self) {
        let journal = self.ground.journal.clone();
        self.hosts.iter_mut().for_each(Host::kill);
        journal.trace("all are killed");
        let due: Vec<_> = owners(self.plan()).map(|owner| (owner, journal.due(&owner))).collect();
        let name = self.start(0);
        self.pass_until("not every log was opened in time", |journal, owners| {
            journal.all_opened_by(&name, owners)
        });
        self.hosts[0].audit();
        self.pass_until("not every log was read in time", |journal, owners| {
            journal.all_audited_by(&name, owners)
        });
        for (owner, due) in due {
            for due in due.into_iter().filter(|due| !journal.has_found(&name, &owner, *due)) {
                journal.wrong(&format!("log {}: not found due: {due:?}", owner[0]));
            }
        }
    }

    fn pass_until(&mut self, or: &str, holds: impl Fn(&Journal, Owners) -> bool) {
        let until = self.now + OPENED_WITHIN;
        while !holds(&self.ground.journal, Box::new(owners(self.plan()))) {
            if self.now >= until {
                return self.ground.journal.wrong(or);
            }
            self.pass(Duration::from_millis(100));
        }
        // What is found beside an opening is found a moment later.
        self.pass(Duration::from_secs(1));
    }
}
