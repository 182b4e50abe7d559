//! The bus between services: publish, subscribe, request, reply, over typed subjects.
//!
//! ```text
//!   publisher ── Subject<M> ──►  local: in this process   ──► Subscription<M>
//!             ── Batcher<B> ──►  nats:  a nats-server     ──► Subscription<M>
//! ```
//!
//! At most once, whatever carries it: what a user would notice the loss of is repeated by who sent it until it is
//! answered. The bus never remembers; the store is the ledger, this is the doorbell. In debug builds the local bus
//! encodes, size-checks and decodes everything, so that it is no kinder than NATS.

mod batcher;
mod connect;
#[doc(hidden)]
pub mod contract;
mod error;
pub mod limits;
mod local;
mod metrics;
mod nats;
mod service;
mod subject;
pub mod subjects;
pub mod users;

use std::sync::Arc;
use std::time::Duration;

use dialtone_chassis::{Chassis, ReadyHandle};
use dialtone_vocab::UnixMillis;
use prost::Message;

pub use batcher::{Batch, Batcher, Fan};
pub use connect::{BusConfig, Login};
pub use error::BusError;
pub use local::Courier;
pub use service::Service;
pub use subject::Subject;

use local::LocalBus;
use nats::NatsBus;

/// Anything that travels: a prost message with a default.
pub trait Payload: Message + Default + Clone + Send + Sync + 'static {}
impl<M: Message + Default + Clone + Send + Sync + 'static> Payload for M {}

#[derive(Clone)]
enum Kind {
    Local(Arc<LocalBus>),
    Nats(Arc<NatsBus>),
}

/// The bus. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    chassis: Chassis,
    kind: Kind,
}

/// A message that came.
pub struct Delivery<M> {
    /// What was said.
    pub message: M,
    deadline: Option<UnixMillis>,
    reply: Option<String>,
    bus: Bus,
}

impl<M> Delivery<M> {
    /// Whether whoever asked has stopped waiting.
    pub fn is_late(&self, now: UnixMillis) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Answers a request; a message that was only published needs none, and then nothing happens.
    pub async fn reply<R: Payload>(self, answer: R) {
        if let Some(reply) = self.reply {
            self.bus.answer(reply, answer).await;
        }
    }
}

/// A stream of messages; dropping it unsubscribes.
pub struct Subscription<M> {
    kind: SubscriptionKind<M>,
    bus: Bus,
}

enum SubscriptionKind<M> {
    Local(local::Subscription<M>),
    Nats(Box<async_nats::Subscriber>),
}

impl<M: Payload> Subscription<M> {
    /// The next message; `None` when the bus is closed. What can't be decoded is counted and skipped.
    pub async fn next(&mut self) -> Option<Delivery<M>> {
        let (message, deadline, reply) = match &mut self.kind {
            SubscriptionKind::Local(local) => local.next().await?,
            SubscriptionKind::Nats(subscriber) => nats::next(subscriber).await?,
        };
        Some(Delivery { message, deadline, reply, bus: self.bus.clone() })
    }
}

impl Bus {
    /// A bus within this process.
    pub fn local(chassis: &Chassis) -> Self {
        Self { chassis: chassis.clone(), kind: Kind::Local(Arc::new(LocalBus::new(None))) }
    }

    /// A bus within this process that loses, delays and repeats as `courier` says.
    pub fn local_with_courier(chassis: &Chassis, courier: Arc<dyn Courier>) -> Self {
        Self { chassis: chassis.clone(), kind: Kind::Local(Arc::new(LocalBus::new(Some(courier)))) }
    }

    /// The bus that the settings name. From now on the process is not ready while it is not connected.
    ///
    /// # Errors
    /// [`BusError::Unreachable`] when the server is not there or does not answer in time, [`BusError::Connect`] when it
    /// does not let this process in, or is too old.
    pub async fn connect(config: &BusConfig, chassis: &Chassis) -> Result<Self, BusError> {
        Self::connect_saying(config, chassis, &chassis.ready.register("bus")).await
    }

    /// As [`Self::connect`], for who tries it again and says meanwhile why: `ready` is told of a bus that is there.
    ///
    /// # Errors
    /// As of [`Self::connect`].
    pub async fn connect_saying(
        config: &BusConfig,
        chassis: &Chassis,
        ready: &ReadyHandle,
    ) -> Result<Self, BusError> {
        let bus = match config.url.as_str() {
            "local" => Self::local(chassis),
            _ => {
                let nats = NatsBus::connect(config, chassis, ready).await?;
                Self { chassis: chassis.clone(), kind: Kind::Nats(Arc::new(nats)) }
            }
        };
        ready.set_ready();
        Ok(bus)
    }

    /// Publishes; never waits for consumers, and for a server that is away only [`limits::ROOM_WITHIN`], once it has left
    /// too much waiting.
    ///
    /// # Errors
    /// [`BusError::TooLarge`], [`BusError::Busy`], [`BusError::Closed`].
    pub async fn publish<M: Payload>(&self, subject: &Subject<M>, message: M) -> Result<(), BusError> {
        metrics::published(subject.pattern());
        match &self.kind {
            Kind::Local(local) => local.publish(&self.chassis, subject.name(), message, None, None),
            Kind::Nats(nats) => nats.publish(subject.name(), &message).await,
        }
    }

    /// Every message of a subject from now on.
    ///
    /// # Errors
    /// [`BusError::Busy`] as of [`Self::publish`], [`BusError::Closed`].
    pub async fn subscribe<M: Payload>(&self, subject: &Subject<M>) -> Result<Subscription<M>, BusError> {
        self.subscribe_as(subject, None).await
    }

    /// A share of the messages of a subject: each goes to one member of the group.
    ///
    /// # Errors
    /// [`BusError::Busy`] as of [`Self::publish`], [`BusError::Closed`].
    pub async fn subscribe_group<M: Payload>(
        &self,
        subject: &Subject<M>,
        group: &'static str,
    ) -> Result<Subscription<M>, BusError> {
        self.subscribe_as(subject, Some(group)).await
    }

    async fn subscribe_as<M: Payload>(
        &self,
        subject: &Subject<M>,
        group: Option<&'static str>,
    ) -> Result<Subscription<M>, BusError> {
        let kind = match &self.kind {
            Kind::Local(local) => SubscriptionKind::Local(LocalBus::subscribe(local, subject.name(), group)),
            Kind::Nats(nats) => {
                SubscriptionKind::Nats(Box::new(nats.subscribe(subject.name(), group).await?))
            }
        };
        Ok(Subscription { kind, bus: self.clone() })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`BusError::NoResponder`] at once when nobody listens, [`BusError::Timeout`] when nobody answers in time: then
    /// the outcome is unknown.
    pub async fn request<M: Payload, R: Payload>(
        &self,
        subject: &Subject<M>,
        message: M,
        within: Duration,
    ) -> Result<R, BusError> {
        metrics::published(subject.pattern());
        let deadline = self.chassis.clock.now().plus(within);
        match &self.kind {
            Kind::Local(local) => {
                local.request(&self.chassis, subject.name(), message, deadline, within).await
            }
            Kind::Nats(nats) => nats.request(subject.name(), &message, deadline, within).await,
        }
    }

    async fn answer<R: Payload>(&self, reply: String, answer: R) {
        match &self.kind {
            Kind::Local(local) => local.answer(&self.chassis, &reply, answer),
            Kind::Nats(nats) => {
                if nats.publish(&reply, &answer).await.is_err() {
                    metrics::dropped("reply");
                }
            }
        }
    }

    pub(crate) fn chassis(&self) -> &Chassis {
        &self.chassis
    }

    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.kind, Kind::Nats(_))
    }
}
