//! Actors by user: one per user while something happens to it, none when it is quiet.
//!
//! ```text
//!   door ── send(user, message) ─────────────────┬──────────────► resident of the user, if it is at home
//!                                                └─► keeper of the user's shards ──► else a new one
//!                                                     │ supervises: a resident that panics is gone, and nobody else is
//!                                                     │ touched; the next message makes a new one, which reads its
//!                                                     │ state from the store
//!                                                     └ ticks: quiet residents leave
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_vocab::{UserId, shard_of};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

/// Keepers of a process; each supervises the residents of its share of the shards.
const KEEPERS: u16 = 16;
/// Messages that wait for a resident; one more is refused.
const MAILBOX: usize = 1_024;
/// Messages that wait for a keeper; one more is refused.
const KEEPER_MAILBOX: usize = 65_536;
/// How often residents are ticked that have something to do, or did a moment ago.
const TICK_EVERY: Duration = Duration::from_millis(250);
/// Every so many of these ticks reach the calm ones too.
const CALM_TICKS: u32 = 4;
/// Ticks without work after which a resident leaves.
const QUIET_TICKS: u32 = 8;

static EVENTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    opentelemetry::global::meter("dialtone.shards")
        .u64_counter("dialtone_residents")
        .with_description("User actors, by hive and event")
        .build()
});

/// The queue on the way is full: nothing was done, and the same may pass later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting")]
pub struct Busy;

/// What a resident says when time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It waits for a moment: tick it again soon.
    Restless,
    /// Somebody is attached, and nothing is to be done: a tick now and then is enough.
    Calm,
    /// Nothing is attached, under way or waiting: it may leave.
    MayLeave,
}

/// What lives in a hive: the state of one user and what happens to it.
pub trait Resident: Sized + Send + 'static {
    /// What happens to it.
    type Message: Send + 'static;
    /// What all residents of the hive share. Cheap to clone.
    type Shared: Clone + Send + Sync + 'static;

    /// Reads the user's state; on `None` the message that asked for it is dropped and the next one tries again.
    fn open(shared: &Self::Shared, user: UserId) -> impl Future<Output = Option<Self>> + Send;
    /// Whether its state is still this process's to keep; if not, it is dropped, and what comes next opens it anew.
    fn is_current(&self) -> bool {
        true
    }
    /// Something happens.
    fn handle(&mut self, message: Self::Message) -> impl Future<Output = ()> + Send;
    /// Time has passed.
    fn tick(&mut self) -> impl Future<Output = Rest> + Send;
}

/// The residents of one kind in this process. Cheap to clone.
pub struct Hive<R: Resident> {
    name: &'static str,
    keepers: Arc<Vec<Keeper<R>>>,
}

impl<R: Resident> Clone for Hive<R> {
    fn clone(&self) -> Self {
        Self { name: self.name, keepers: self.keepers.clone() }
    }
}

struct Keeper<R: Resident> {
    actor: ActorRef<ToKeeper<R>>,
    waiting: Arc<AtomicUsize>,
    homes: Homes<R::Message>,
}

impl<R: Resident> Keeper<R> {
    fn tick(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.actor.send_message(ToKeeper::Tick).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

enum ToKeeper<R: Resident> {
    Deliver(UserId, R::Message),
    Tick,
    /// A resident wants to leave, after so many messages.
    Leave(UserId, ActorId, u64),
}

enum ToResident<M> {
    Message(M),
    Tick,
}

fn count(name: &'static str, event: &'static str) {
    EVENTS.add(1, &[KeyValue::new("hive", name), KeyValue::new("event", event)]);
}

/// Who of a keeper's residents is at home: written by the keeper alone, read by whoever has something for one of them.
struct Homes<M>(Arc<RwLock<BTreeMap<UserId, Home<M>>>>);

impl<M> Clone for Homes<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Homes<M> {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<UserId, Home<M>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<UserId, Home<M>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resident at home.
struct Home<M> {
    actor: ActorRef<ToResident<M>>,
    /// Messages and ticks handed to it, and those it has begun with.
    handed: AtomicU64,
    begun: Arc<AtomicU64>,
    calm: Arc<AtomicBool>,
}

impl<M: Send + 'static> Home<M> {
    fn is_full(&self) -> bool {
        let waiting = self.handed.load(Ordering::Relaxed).saturating_sub(self.begun.load(Ordering::Relaxed));
        waiting >= MAILBOX as u64
    }

    fn hand(&self, message: ToResident<M>) -> Result<(), Busy> {
        self.handed.fetch_add(1, Ordering::Relaxed);
        self.actor.send_message(message).map_err(|_| Busy)
    }
}

impl<R: Resident> Hive<R> {
    /// Starts an empty hive.
    ///
    /// # Panics
    /// Never: keepers have nothing that could fail at their start.
    pub async fn start(chassis: &Chassis, name: &'static str, shared: R::Shared) -> Self {
        let mut keepers = Vec::new();
        for _ in 0..KEEPERS {
            let (waiting, homes) = (Arc::new(AtomicUsize::new(0)), Homes(Arc::default()));
            let behaviour =
                KeeperActor { name, shared: shared.clone(), waiting: waiting.clone(), homes: homes.clone() };
            let (actor, _) = Actor::spawn(None, behaviour, ()).await.expect("a keeper starts");
            keepers.push(Keeper { actor, waiting, homes });
        }
        let hive = Self { name, keepers: Arc::new(keepers) };
        let (ticking, clock, stop) = (hive.clone(), chassis.clock.clone(), chassis.tasks.stop_token());
        chassis.tasks.spawn("hive ticks", async move {
            loop {
                // One keeper after the other: what ticks set off comes as a stream, not in bursts.
                for keeper in ticking.keepers.iter() {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return ticking.stop(),
                        () = clock.sleep(TICK_EVERY / u32::from(KEEPERS)) => keeper.tick(),
                    }
                }
            }
        });
        hive
    }

    fn stop(&self) {
        for keeper in self.keepers.iter() {
            keeper.actor.stop(None);
        }
    }

    fn keeper(&self, user: UserId) -> &Keeper<R> {
        &self.keepers[usize::from(shard_of(user.as_bytes()).0 % KEEPERS)]
    }

    /// Something happens to a user. Messages of one caller to one user arrive in order.
    ///
    /// # Errors
    /// [`Busy`], and nothing was done.
    pub fn send(&self, user: UserId, message: R::Message) -> Result<(), Busy> {
        let keeper = self.keeper(user);
        // Straight to its home, unless something that came before may still wait at the keeper.
        if keeper.waiting.load(Ordering::Acquire) == 0
            && let Some(home) = keeper.homes.read().get(&user)
        {
            if home.is_full() {
                count(self.name, "refused");
                return Err(Busy);
            }
            return home.hand(ToResident::Message(message));
        }
        if keeper.waiting.fetch_add(1, Ordering::Relaxed) >= KEEPER_MAILBOX {
            keeper.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Busy);
        }
        keeper.actor.send_message(ToKeeper::Deliver(user, message)).map_err(|_| Busy)
    }

    /// Something that a resident began has ended: never refused, as there are no more of these than it began. A
    /// resident that is gone hears nothing.
    pub fn send_own(&self, user: UserId, message: R::Message) {
        if let Some(home) = self.keeper(user).homes.read().get(&user)
            && home.hand(ToResident::Message(message)).is_err()
        {
            tracing::debug!("the resident is gone");
        }
    }
}

struct KeeperActor<R: Resident> {
    name: &'static str,
    shared: R::Shared,
    waiting: Arc<AtomicUsize>,
    homes: Homes<R::Message>,
}

impl<R: Resident> KeeperActor<R> {
    /// Makes a resident if there is none, and hands it the message that it is made for before anybody else can.
    async fn deliver(
        &self,
        myself: &ActorRef<ToKeeper<R>>,
        user: UserId,
        message: R::Message,
    ) -> Result<(), ActorProcessingErr> {
        let made = if self.homes.read().contains_key(&user) {
            None
        } else {
            let (begun, calm) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
            let behaviour = ResidentActor::<R> {
                user,
                shared: self.shared.clone(),
                keeper: myself.clone(),
                begun: begun.clone(),
                calm: calm.clone(),
            };
            let (actor, _) = Actor::spawn_linked(None, behaviour, (), myself.get_cell()).await?;
            count(self.name, "came");
            Some(Home { actor, handed: AtomicU64::new(0), begun, calm })
        };
        let mut homes = self.homes.write();
        if let Some(home) = made {
            homes.insert(user, home);
        }
        let home = homes.get(&user).filter(|home| !home.is_full());
        if home.is_none_or(|home| home.hand(ToResident::Message(message)).is_err()) {
            count(self.name, "refused");
        }
        Ok(())
    }

    fn tick(&self, all: bool) {
        for home in self.homes.read().values() {
            let wanted = all || !home.calm.load(Ordering::Relaxed);
            if wanted && !home.is_full() && home.hand(ToResident::Tick).is_err() {
                count(self.name, "refused");
            }
        }
    }

    /// Lets a resident go if nothing has come for it since it asked.
    fn leave(&self, user: UserId, actor: &ActorId, after: u64) {
        let mut homes = self.homes.write();
        let leaves = |home: &Home<R::Message>| {
            home.actor.get_id() == *actor && home.handed.load(Ordering::Relaxed) == after
        };
        if homes.get(&user).is_some_and(leaves)
            && let Some(home) = homes.remove(&user)
        {
            count(self.name, "left");
            home.actor.stop(None);
        }
    }
}

impl<R: Resident> Actor for KeeperActor<R> {
    type Msg = ToKeeper<R>;
    /// Ticks so far.
    type State = u32;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        ticks: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ToKeeper::Deliver(user, message) => {
                let delivered = self.deliver(&myself, user, message).await;
                // Not before it is handed over: what its caller sends next may take the short way.
                self.waiting.fetch_sub(1, Ordering::Release);
                delivered?;
            }
            ToKeeper::Tick => {
                *ticks = ticks.wrapping_add(1);
                self.tick(ticks.is_multiple_of(CALM_TICKS));
                self.waiting.fetch_sub(1, Ordering::Release);
            }
            ToKeeper::Leave(user, actor, after) => self.leave(user, &actor, after),
        }
        Ok(())
    }

    /// The policy: a resident that failed is forgotten, the keeper and all others go on. (The library's default lets a
    /// supervisor die with any child.)
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // One that was let go is out of the book already.
        let SupervisionEvent::ActorFailed(failed, _) = event else { return Ok(()) };
        self.homes.write().retain(|_, home| home.actor.get_id() != failed.get_id());
        count(self.name, "failed");
        tracing::error!(hive = self.name, "a user's actor failed: a defect; it is made anew from the store");
        Ok(())
    }
}

struct ResidentActor<R: Resident> {
    user: UserId,
    shared: R::Shared,
    keeper: ActorRef<ToKeeper<R>>,
    begun: Arc<AtomicU64>,
    calm: Arc<AtomicBool>,
}

impl<R: Resident> Actor for ResidentActor<R> {
    type Msg = ToResident<R::Message>;
    type State = (Option<R>, u32);
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok((None, 0))
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        (resident, quiet): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if resident.as_ref().is_some_and(|resident| !resident.is_current()) {
            *resident = None;
        }
        match message {
            ToResident::Message(message) => {
                *quiet = 0;
                self.calm.store(false, Ordering::Relaxed);
                if resident.is_none() {
                    *resident = R::open(&self.shared, self.user).await;
                }
                if let Some(resident) = resident {
                    resident.handle(message).await;
                }
            }
            ToResident::Tick => {
                let rest = match resident {
                    Some(resident) => resident.tick().await,
                    None => Rest::MayLeave,
                };
                self.calm.store(rest == Rest::Calm, Ordering::Relaxed);
                *quiet = if rest == Rest::MayLeave { *quiet + 1 } else { 0 };
                if *quiet >= QUIET_TICKS {
                    self.keeper.send_message(ToKeeper::Leave(self.user, myself.get_id(), begun))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
