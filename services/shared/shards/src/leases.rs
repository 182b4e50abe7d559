//! The leases of a process, driven: the state machine of [`crate::lease`] over a store, a clock and the bus.
//!
//! ```text
//!   membership ── who is to have what ──► driver ◄── news of others ── bus
//!                                          │  ▲
//!   logs ── held? check ──► Lease (pure) ◄─┘  └── answers ── requests, each a task with a time-out ──► store
//! ```
#![expect(
    clippy::disallowed_types,
    reason = "what the driver and the logs look at; nobody keeps it for longer than a look"
)]

mod pace;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialtone_bus::{Bus, BusError, Subscription, subjects};
use dialtone_chassis::{Chassis, ReadyHandle};
use dialtone_proto::bus::v1::{FreedShard, LeaseNews};
use dialtone_store::Db;
use dialtone_vocab::{Epoch, NodeId, SHARDS, ShardId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::lease::limits::{ASKED_WITHIN, DRAIN, LEAVE_WITHIN, RENEWED_WITHIN, SETTLE_IN, TICK_EVERY};
use crate::lease::{
    Answer, CheckBy, Effect, Event, Holding, Incarnation, Lease, Request, Sabotage, ShardKey, Ticket, WriteId,
};
use crate::{Shards, rendezvous};
use pace::Pace;
pub use rows::LEASES;

/// The leases of this process. Cheap to clone.
#[derive(Clone)]
pub struct Leases(Arc<Inner>);

struct Inner {
    chassis: Chassis,
    state: Mutex<State>,
    events: mpsc::UnboundedSender<Event>,
}

/// What both the driver and the logs look at; nobody keeps it for longer than a look.
struct State {
    lease: Lease,
    /// When the shards that are, or were, this process's became so.
    since: BTreeMap<ShardKey, Duration>,
    checks: BTreeMap<WriteId, oneshot::Sender<bool>>,
    last_check: WriteId,
    listeners: Vec<(&'static str, mpsc::UnboundedSender<ShardId>)>,
}

/// What tests may have otherwise.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Trial {
    /// The shards that there are.
    pub shards: Vec<ShardId>,
    /// What is broken.
    pub sabotage: Sabotage,
}

/// Shards of a service that become this process's, as they do; see [`Leases::opened`].
pub struct OpenedShards(mpsc::UnboundedReceiver<ShardId>);

impl OpenedShards {
    /// The next ones: all that wait; `None` when the process stops.
    pub async fn next(&mut self) -> Option<Vec<ShardId>> {
        let mut shards = Vec::new();
        let count = self.0.recv_many(&mut shards, SHARDS.into()).await;
        (count > 0).then_some(shards)
    }
}

impl Leases {
    /// Begins to hold the shards of `services` that the membership gives to this process. `db` has the tables of
    /// [`LEASES`].
    ///
    /// # Errors
    /// When the bus can't be subscribed to.
    pub async fn start(
        chassis: &Chassis,
        bus: &Bus,
        shards: &Shards,
        db: Db,
        by: CheckBy,
        services: Vec<&'static str>,
    ) -> Result<Self, BusError> {
        let trial = Trial { shards: (0..SHARDS).map(ShardId).collect(), sabotage: Sabotage::default() };
        Self::start_trial(chassis, bus, shards, db, by, services, trial).await
    }

    /// As [`Leases::start`], with less of it, and deliberate defects.
    ///
    /// # Errors
    /// As [`Leases::start`].
    #[doc(hidden)]
    pub async fn start_trial(
        chassis: &Chassis,
        bus: &Bus,
        shards: &Shards,
        db: Db,
        by: CheckBy,
        services: Vec<&'static str>,
        trial: Trial,
    ) -> Result<Self, BusError> {
        let news = bus.subscribe(&subjects::lease()).await?;
        let (events, inbox) = mpsc::unbounded_channel();
        let state = State {
            lease: Lease::sabotaged(by, trial.sabotage),
            since: BTreeMap::new(),
            checks: BTreeMap::new(),
            last_check: 0,
            listeners: Vec::new(),
        };
        let leases = Self(Arc::new(Inner { chassis: chassis.clone(), state: Mutex::new(state), events }));
        let driver = Driver {
            leases: leases.clone(),
            chassis: chassis.clone(),
            bus: bus.clone(),
            db,
            services,
            all: trial.shards,
            placed: BTreeSet::new(),
            pace: Pace::new(),
            ready: chassis.ready.register("leases"),
            incarnation: Incarnation(0),
            is_leaving: false,
            wanting: None,
            is_renewed: false,
            has_settled: false,
        };
        driver.ready.set_missing("no lease yet");
        chassis.tasks.spawn("leases", driver.run(shards.clone(), news, inbox));
        Ok(leases)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch in which this process owns a shard now, by the clock.
    pub fn held(&self, key: ShardKey) -> Option<Epoch> {
        self.state().lease.held(key, self.0.chassis.clock.boot())
    }

    /// How long this process has owned a shard; nothing if it does not.
    pub fn held_for(&self, key: ShardKey) -> Duration {
        let (state, now) = (self.state(), self.0.chassis.clock.boot());
        let since = state.lease.held(key, now).and_then(|_| state.since.get(&key));
        since.map_or(Duration::ZERO, |since| now.saturating_sub(*since))
    }

    /// The shards of a service that this process owns now.
    pub fn all_held(&self, service: &str) -> Vec<ShardId> {
        self.state().lease.all_held(service, self.0.chassis.clock.boot())
    }

    /// Shards of a service from now on, as they become this process's; those that it owns already come first.
    pub fn opened(&self, service: &'static str) -> OpenedShards {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        for shard in state.lease.all_held(service, self.0.chassis.clock.boot()) {
            let _receiver_is_here = sender.send(shard);
        }
        state.listeners.push((service, sender));
        OpenedShards(receiver)
    }

    /// After the answer of a write has arrived: whether its writer still was the owner, so that it is settled.
    pub async fn check(&self, held: Holding) -> bool {
        let now = self.0.chassis.clock.boot();
        let answer = {
            let mut state = self.state();
            if state.lease.checks_by() == CheckBy::Clock {
                return state.lease.held(held.key, now) == Some(held.epoch);
            }
            state.last_check += 1;
            let (sender, answer) = oneshot::channel();
            let write = state.last_check;
            state.checks.insert(write, sender);
            if self.0.events.send(Event::Arrived(held, write)).is_err() {
                state.checks.remove(&write);
            }
            answer
        };
        answer.await.unwrap_or(false)
    }
}

/// The task that brings events to the state machine and does what it says.
struct Driver {
    leases: Leases,
    chassis: Chassis,
    bus: Bus,
    db: Db,
    services: Vec<&'static str>,
    /// The shards that each of them has.
    all: Vec<ShardId>,
    /// What the membership gives to this process.
    placed: BTreeSet<ShardKey>,
    /// Requests about shards don't get in each other's way, nor in that of renewals.
    pace: Pace,
    ready: ReadyHandle,
    incarnation: Incarnation,
    is_leaving: bool,
    /// Since when this process has not had everything that it is to have.
    wanting: Option<Instant>,
    is_renewed: bool,
    /// It has had everything once. Until then others that could do its work had better not be stopped.
    has_settled: bool,
}

impl Driver {
    async fn run(
        mut self,
        mut shards: Shards,
        mut news: Subscription<LeaseNews>,
        mut events: mpsc::UnboundedReceiver<Event>,
    ) {
        let stop = self.chassis.tasks.stop_token();
        self.begin();
        // Those who are there already are heard of first: else everything would be taken from them. And they hear of this
        // process only when it is about to take what is to be its own: until then they go on.
        let first = self.chassis.clock.instant() + SETTLE_IN;
        let mut look = first;
        let mut tick = self.chassis.clock.instant();
        loop {
            let clock = self.chassis.clock.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.leave(&mut events).await,
                Some(event) = events.recv() => self.happens(event),
                told = news.next() => match told {
                    Some(told) => self.heard(told.message),
                    None => {
                        self.ready.set_missing("nothing is heard of other leases");
                        return self.end(&mut events);
                    }
                },
                () = shards.changed() => {
                    // What is being written here ends before it goes to somebody else.
                    look = first.max(self.chassis.clock.instant() + DRAIN);
                }
                () = clock.sleep_until(look.min(tick)) => {
                    let now = self.chassis.clock.instant();
                    if now >= look {
                        shards.announce(&self.services);
                        self.place(&shards);
                        look = now + SETTLE_IN;
                    }
                    if now >= tick {
                        self.happens(Event::Tick);
                        self.has_all();
                        tick = now + TICK_EVERY;
                    }
                }
            }
        }
    }

    fn begin(&mut self) {
        self.incarnation = Incarnation(self.chassis.rng.u64());
        tracing::info!("a new incarnation begins");
        self.happens(Event::Begin(self.incarnation));
    }

    fn happens(&mut self, event: Event) {
        let now = self.chassis.clock.boot();
        let effects = self.leases.state().lease.handle(event, now);
        let mut freed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Ask(ticket, request) => self.ask(ticket, request),
                Effect::Renewed(incarnation, counter) => {
                    self.is_renewed = true;
                    self.tell_ready();
                    self.tell(LeaseNews { incarnation: incarnation.0, counter, ..LeaseNews::default() });
                }
                Effect::Opened(held) => self.opened(held),
                Effect::Gone(ShardKey { service, shard }, epoch) => {
                    let epoch = epoch.map_or(0, |epoch| epoch.0);
                    freed.push(FreedShard { service: service.to_owned(), shard: shard.0.into(), epoch });
                }
                Effect::Settled(write) => self.checked(write, true),
                Effect::Unsettled(write) => self.checked(write, false),
                Effect::Stop if self.is_leaving => {}
                Effect::Stop => {
                    tracing::warn!("the lease is lost: everything begins anew");
                    self.is_renewed = false;
                    self.ready.set_missing("the lease was lost");
                    self.begin();
                }
            }
        }
        if !freed.is_empty() {
            self.tell(LeaseNews { freed, ..LeaseNews::default() });
        }
    }

    fn heard(&mut self, news: LeaseNews) {
        if news.counter > 0 {
            self.happens(Event::Heard(Incarnation(news.incarnation), news.counter));
        }
        if news.left {
            self.happens(Event::Left(Incarnation(news.incarnation)));
        }
        for freed in news.freed {
            let Ok(shard) = u16::try_from(freed.shard) else { continue };
            let wanted = |key: &&ShardKey| key.service == freed.service && key.shard == ShardId(shard);
            let Some(key) = self.placed.iter().find(wanted).copied() else { continue };
            self.happens(match freed.epoch {
                0 => Event::Want(key),
                epoch => Event::Freed(key, Epoch(epoch)),
            });
        }
    }

    /// Wants what the membership gives to this process, and gives back the rest.
    fn place(&mut self, shards: &Shards) {
        let (mut placed, mut is_member) = (BTreeSet::new(), true);
        for service in &self.services {
            let nodes: Vec<NodeId> = shards.nodes(service);
            is_member &= nodes.contains(&self.chassis.node);
            let mine = |shard: &&ShardId| rendezvous(**shard, &nodes) == Some(&self.chassis.node);
            placed.extend(self.all.iter().filter(mine).map(|shard| ShardKey { service, shard: *shard }));
        }
        let (now, before) = (placed.clone(), std::mem::replace(&mut self.placed, placed));
        for key in now.difference(&before) {
            self.happens(Event::Want(*key));
        }
        for key in before.difference(&now) {
            self.happens(Event::Release(*key));
        }
        if now != before {
            tracing::info!(shards = now.len(), "shards wanted");
        }
        // Also whose share is nothing has all of it.
        if now != before || is_member && !self.has_settled {
            self.wanting.get_or_insert(self.chassis.clock.instant());
        }
    }

    fn ask(&self, ticket: Ticket, request: Request) {
        let (db, leases, clock) = (self.db.clone(), self.leases.clone(), self.chassis.clock.clone());
        let paced =
            matches!(request, Request::Take { .. } | Request::GiveBack { .. } | Request::ReadShard(_));
        let pace = paced.then(|| self.pace.clone());
        let is_own = match request {
            Request::Renew { .. } => true,
            Request::ReadNode(incarnation) => incarnation == self.incarnation,
            _ => false,
        };
        let within = if is_own { RENEWED_WITHIN } else { ASKED_WITHIN };
        self.chassis.tasks.spawn("lease request", async move {
            let turn = match &pace {
                Some(pace) => pace.turn().await,
                None => None,
            };
            // The lease may have been lost while it waited: what that one wanted is nobody's wish any more. Its turn says
            // nothing of how fast the store is.
            if !leases.state().lease.is_asked(ticket) {
                return;
            }
            let began = clock.instant();
            let answer = clock.timeout(within, rows::ask(&db, request)).await;
            let took = clock.instant() - began;
            let _driver_has_ended =
                leases.0.events.send(Event::Answer(ticket, answer.unwrap_or(Answer::Unknown)));
            if let (Some(pace), Some(turn)) = (&pace, turn) {
                clock.sleep(pace.rest(took)).await;
                pace.answered(turn, took);
            }
        });
    }

    /// Says so when nothing is missing any more.
    fn has_all(&mut self) {
        let Some(since) = self.wanting else { return };
        if self.leases.state().lease.holds_all() {
            let took = self.chassis.clock.instant() - since;
            tracing::info!(shards = self.placed.len(), ?took, "all wanted shards are here");
            self.wanting = None;
            self.has_settled = true;
            self.tell_ready();
        }
    }

    fn tell_ready(&self) {
        match (self.is_renewed, self.has_settled) {
            (true, true) => self.ready.set_ready(),
            (true, false) => self.ready.set_missing("shards are being taken"),
            (false, _) => {}
        }
    }

    fn opened(&self, held: Holding) {
        let mut state = self.leases.state();
        state.since.insert(held.key, self.chassis.clock.boot());
        state.listeners.retain(|(service, listener)| {
            *service != held.key.service || listener.send(held.key.shard).is_ok()
        });
    }

    fn checked(&self, write: WriteId, is_settled: bool) {
        let waiting = self.leases.state().checks.remove(&write);
        if let Some(waiting) = waiting {
            let _writer_has_gone = waiting.send(is_settled);
        }
    }

    fn tell(&self, news: LeaseNews) {
        let bus = self.bus.clone();
        self.chassis.tasks.spawn("lease news", async move {
            if let Err(error) = bus.publish(&subjects::lease(), news).await {
                tracing::debug!(%error, "others will read the store");
            }
        });
    }

    /// Gives everything back at once, so that nobody has to wait for what this process had.
    async fn leave(mut self, events: &mut mpsc::UnboundedReceiver<Event>) {
        let clock = self.chassis.clock.clone();
        // What is being written ends first, checks by reading among it.
        let drained = async { self.go_on(events, |_| true).await };
        let _until_then = clock.timeout(DRAIN, drained).await;
        self.is_leaving = true;
        self.happens(Event::Leave);
        let left = async { self.go_on(events, |lease| !lease.has_left()).await };
        match clock.timeout(LEAVE_WITHIN, left).await {
            Ok(()) => {
                let left = LeaseNews { incarnation: self.incarnation.0, left: true, ..LeaseNews::default() };
                if let Err(error) = self.bus.publish(&subjects::lease(), left).await {
                    tracing::debug!(%error, "others wait until the lease has run out");
                }
            }
            Err(_) => tracing::warn!("nothing was given back: others wait until the lease has run out"),
        }
        self.end(events);
    }

    /// Whoever waits for a check, or asks for one still, hears that it is not passed.
    fn end(&self, events: &mut mpsc::UnboundedReceiver<Event>) {
        events.close();
        self.leases.state().checks.clear();
    }

    /// Events and ticks alone, while that holds.
    async fn go_on(&mut self, events: &mut mpsc::UnboundedReceiver<Event>, holds: impl Fn(&Lease) -> bool) {
        let clock = self.chassis.clock.clone();
        let mut tick = clock.instant();
        while holds(&self.leases.state().lease) {
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.happens(event),
                () = clock.sleep_until(tick) => {
                    self.happens(Event::Tick);
                    tick = clock.instant() + TICK_EVERY;
                }
            }
        }
    }
}
