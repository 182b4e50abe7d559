//! The simulation: hosts with clocks of their own, one store, and everything in between.

use std::collections::BTreeMap;

use dialtone_vocab::{Epoch, ShardId};

use super::host::{Host, HostClock, Kind, Process, Reply};
use super::referee::Referee;
use super::store::Store;
use super::weather::{Dice, MS, Plan, S, Way};
use crate::lease::defect::Defect;
use crate::lease::{Answer, CheckBy, Event, Holding, Incarnation, Request, ShardKey};

mod driver;
mod faults;

/// A build that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Rule(Defect),
    /// The driver checks when it sends a write and not when the answer has arrived.
    CheckBeforeAnswer,
}

#[derive(Debug)]
enum Happening {
    /// A request reaches the store; its sender calls it unknown at that time.
    Reach {
        host: usize,
        life: u64,
        call: u64,
        kind: Kind,
        unknown_at: u64,
    },
    Process {
        host: usize,
        life: u64,
        what: What,
    },
    /// The host's ways to the store become others.
    Way(usize),
    Turn(usize, Way),
    Trouble,
    /// It sleeps; unseen by its clock.
    Sleep(usize),
    Freeze(usize),
    Crash,
    /// It dies, if it still lives this life.
    Die(usize, u64),
    Start(usize),
    /// A shard is to move; to this host.
    Move,
    Place(ShardKey, usize),
    /// From now on nobody reaches the store.
    Stall,
    Calm,
    End,
}

/// What reaches a process, when it is awake.
#[derive(Debug)]
enum What {
    Tick,
    Return(u64, Reply),
    TimeOut(u64),
    Say(Event),
    /// It begins, again.
    Begin,
    /// It is told to end.
    Leave,
    /// It learns which shards it is to have.
    See,
    /// It hears that a shard was given back, and perhaps in which epoch.
    Gone(ShardKey, Option<Epoch>),
    Write(Holding),
}

struct World<'a> {
    plan: &'a Plan,
    broken: Option<Broken>,
    dice: Dice,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    /// Numbers that are never used twice: of happenings, calls, entries and incarnations.
    numbers: u64,
    hosts: Vec<Host>,
    store: Store,
    referee: Referee,
    placed: BTreeMap<ShardKey, usize>,
    lives: BTreeMap<Incarnation, (usize, u64)>,
    entries: BTreeMap<u64, Holding>,
    stormy: bool,
}

/// Plays an episode; what was wrong is the referee's to say.
pub(super) fn play(plan: &Plan, broken: Option<Broken>) -> Referee {
    let mut world = World::new(plan, broken);
    while let Some(((at, _), happening)) = world.queue.pop_first() {
        world.now = at;
        let end = matches!(happening, Happening::End);
        world.happen(happening);
        world.look();
        if end || world.referee.wrong.is_some() {
            break;
        }
    }
    world.referee
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, broken: Option<Broken>) -> Self {
        let mut dice = Dice(plan.seed);
        let host = |rate: &u64| Host {
            clock: HostClock::new(*rate, dice.below(1_000 * S)),
            way: Way::default(),
            asleep_until: 0,
            deaf_until: 0,
            seen_until: 0,
            life: 0,
            process: None,
        };
        let hosts: Vec<Host> = plan.rates.iter().map(host).collect();
        let keys = (0..plan.shards).map(|n| ShardKey { service: "routing", shard: ShardId(n) });
        let placed = keys.map(|key| (key, dice.index(hosts.len()))).collect();
        let mut world = Self {
            plan,
            broken,
            dice,
            now: 0,
            queue: BTreeMap::new(),
            numbers: 0,
            hosts,
            store: Store::default(),
            referee: Referee::default(),
            placed,
            lives: BTreeMap::new(),
            entries: BTreeMap::new(),
            stormy: true,
        };
        for host in 0..world.hosts.len() {
            world.within(0, 500 * MS, Happening::Start(host));
            if plan.trouble_every == 0 {
                world.within(500 * MS, 2 * S, Happening::Way(host));
            }
            world.every(plan.sleep_every, Happening::Sleep(host));
        }
        world.every(plan.trouble_every, Happening::Trouble);
        world.every(plan.crash_every, Happening::Crash);
        world.every(plan.move_every, Happening::Move);
        if plan.stall > 0 {
            world.at(plan.storm - plan.stall, Happening::Stall);
        }
        world.at(plan.storm, Happening::Calm);
        world.at(plan.storm + plan.until_all_is_well(), Happening::End);
        world
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn at(&mut self, at: u64, happening: Happening) {
        let number = self.number();
        self.queue.insert((at, number), happening);
    }

    fn within(&mut self, from: u64, to: u64, happening: Happening) {
        let at = self.now + self.dice.between(from, to);
        self.at(at, happening);
    }

    /// Once more, after about so long.
    fn every(&mut self, time: u64, happening: Happening) {
        if time > 0 {
            self.within(time / 2, time * 3 / 2, happening);
        }
    }

    fn process_within(&mut self, from: u64, to: u64, host: usize, what: What) {
        let life = self.hosts[host].life;
        self.within(from, to, Happening::Process { host, life, what });
    }

    fn process(&mut self, host: usize) -> &mut Process {
        self.hosts[host].process.as_mut().expect("it lives: what is for a dead one is dropped")
    }

    fn look(&mut self) {
        if self.plan.by == CheckBy::Clock {
            for host in &self.hosts {
                if let Some(process) = &host.process {
                    self.referee.believes(process, host.clock.read(self.now), &self.store);
                }
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Reach { host, life, call, kind, unknown_at } => {
                self.reach(host, life, call, kind, unknown_at);
            }
            Happening::Process { host, life, what } => self.reach_process(host, life, what),
            Happening::Start(host) => self.start(host),
            Happening::Stall => {
                self.stormy = false;
                self.hosts.iter_mut().for_each(|host| host.way = Way::CUT);
            }
            Happening::Calm => self.calm(),
            Happening::End => self.end(),
            _ if !self.stormy => {}
            Happening::Way(host) => {
                let (way, stays) = Way::draw(self.plan, &mut self.dice);
                self.hosts[host].way = way;
                if self.dice.percent(20) {
                    self.hosts[host].deaf_until = self.now + self.dice.between(S, 12 * S);
                }
                self.at(self.now + stays, Happening::Way(host));
            }
            Happening::Trouble => self.trouble(),
            Happening::Turn(host, way) => self.hosts[host].way = way,
            Happening::Freeze(host) => self.fall_asleep(host, self.plan.hidden, true),
            Happening::Sleep(host) => self.sleep(host),
            Happening::Crash => self.crash(),
            Happening::Die(host, life) => self.die(host, life),
            Happening::Move => self.move_one(),
            Happening::Place(key, host) => self.place(key, host),
        }
    }

    fn call(&mut self, host: usize, kind: Kind) {
        let call = self.number();
        let (life, way) = (self.hosts[host].life, self.hosts[host].way);
        self.process(host).unanswered.insert(call, kind);
        let unknown_at = self.now + self.plan.patience;
        self.at(unknown_at, Happening::Process { host, life, what: What::TimeOut(call) });
        if let Some(there) = way.there(&mut self.dice) {
            self.at(self.now + there, Happening::Reach { host, life, call, kind, unknown_at });
        }
    }

    fn reach(&mut self, host: usize, life: u64, call: u64, kind: Kind, unknown_at: u64) {
        let reply = match kind {
            Kind::Lease(_, request) => {
                let answer = self.store.ask(request);
                if answer == Answer::Applied {
                    self.applied((host, life), request, unknown_at);
                }
                Reply::Lease(answer)
            }
            Kind::Open(held) => Reply::Found(self.store.found(held)),
            Kind::Append(held, entry) => {
                self.store.append(held, entry);
                Reply::Appended
            }
        };
        if let Some(back) = self.hosts[host].way.back(&mut self.dice) {
            let what = What::Return(call, reply);
            self.at(self.now + back, Happening::Process { host, life, what });
        }
    }

    fn applied(&mut self, by: (usize, u64), request: Request, unknown_at: u64) {
        let tally = &mut self.referee.tally;
        tally.late += u64::from(self.now > unknown_at);
        match request {
            // Whoever looks at the rows may see a change before its own author knows of it.
            Request::Renew { incarnation, seen } if self.plan.rows_are_seen => {
                self.tell(by.0, Event::Heard(incarnation, seen + 1));
            }
            Request::Close { incarnation, .. } if self.lives[&incarnation] != by => {
                tally.closed_by_another += 1;
            }
            Request::GiveBack { .. } => tally.given_back += 1,
            _ => {}
        }
    }
}
