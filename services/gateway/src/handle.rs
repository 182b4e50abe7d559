//! What the gateway does: opens and closes sessions, and passes on what they want done.

use dialtone_bus::{BusError, Fan};
use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Chassis, Clock, Error};
use dialtone_proto::bus::v1::{OfflineItem, PresenceItem, RoutingItem, ToOffline, ToPresence, ToRouting};
use dialtone_shards::Shards;
use dialtone_vocab::{NodeId, Reason, UserId};

use crate::limits::RECONNECT_AFTER;
use crate::metrics;
use crate::registry::{Registered, Registry};
use crate::state::Effect;

/// The gateway's operations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    chassis: Chassis,
    shards: Shards,
    registry: Registry,
    owners: Owners,
}

/// The ways to the owners.
#[derive(Clone)]
pub(crate) struct Owners {
    pub(crate) routing: Fan<ToRouting>,
    pub(crate) offline: Fan<ToOffline>,
    pub(crate) presence: Fan<ToPresence>,
}

impl Handle {
    pub(crate) fn new(chassis: &Chassis, shards: &Shards, registry: Registry, owners: Owners) -> Self {
        Self { chassis: chassis.clone(), shards: shards.clone(), registry, owners }
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.chassis.node
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.chassis.clock
    }

    /// A place for a new session.
    pub(crate) fn open(&self, caller: Caller) -> Result<Registered, Error> {
        if self.chassis.tasks.is_stopping() {
            return Err(Error::new(Reason::ShuttingDown, "connect again").retry_after(RECONNECT_AFTER));
        }
        let registered = self.registry.add(caller);
        let registered = registered
            .ok_or_else(|| Error::new(Reason::Busy, "too many sessions here").retry_after(RECONNECT_AFTER))?;
        metrics::session("opened");
        Ok(registered)
    }

    /// A session is gone.
    pub(crate) fn close(&self, ticket: u64, user: UserId, effects: Vec<Effect>) {
        self.registry.remove(ticket);
        metrics::session("closed");
        if let Err(error) = self.carry_out(user, effects) {
            // The owners notice by the missing beats.
            tracing::debug!(%error, "a detach was not told");
        }
    }

    pub(crate) fn count_unknown_frames(&self, n: u64) {
        metrics::unknown_frames(n);
    }

    /// Passes on what a session wants done. Without an owner nothing is lost that is not repeated: sends by the
    /// client, acks by the next ack, attaches by the link.
    pub(crate) fn carry_out(
        &self,
        user: UserId,
        effects: impl IntoIterator<Item = Effect>,
    ) -> Result<(), Error> {
        for effect in effects {
            let pushed = match effect {
                Effect::Routing(item) => self
                    .shards
                    .node_of("routing", user)
                    .map(|node| self.owners.routing.push(&node, RoutingItem { item: Some(item) })),
                Effect::Offline(item) => self
                    .shards
                    .node_of("offline", user)
                    .map(|node| self.owners.offline.push(&node, OfflineItem { item: Some(item) })),
                Effect::Presence(item) => self
                    .shards
                    .node_of("presence", user)
                    .map(|node| self.owners.presence.push(&node, PresenceItem { item: Some(item) })),
            };
            if let Some(Err(BusError::Busy)) = pushed {
                return Err(Error::new(Reason::Busy, "too much is under way").retry_after(RECONNECT_AFTER));
            }
        }
        Ok(())
    }
}
