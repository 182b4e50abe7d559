//! What the gateway does: opens and closes sessions, and passes on what they want done.

use dialtone_bus::{BusError, Fan};
use dialtone_chassis::auth::Caller;
use dialtone_chassis::{Chassis, Clock, Error};
use dialtone_proto::bus::v1::{OfflineItem, PresenceItem, RoutingItem, ToOffline, ToPresence, ToRouting};
use dialtone_shards::Shards;
use dialtone_vocab::{NodeId, Reason, UserId};

use crate::ended::Ended;
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
    ended: Ended,
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
    pub(crate) fn new(
        chassis: &Chassis,
        shards: &Shards,
        registry: Registry,
        ended: Ended,
        owners: Owners,
    ) -> Self {
        Self { chassis: chassis.clone(), shards: shards.clone(), registry, ended, owners }
    }

    pub(crate) fn node(&self) -> &NodeId {
        &self.chassis.node
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.chassis.clock
    }

    /// A place for a new session.
    pub(crate) fn open(&self, caller: &Caller) -> Result<Registered, Error> {
        let registered = self.registry.add(caller.clone());
        let registered = registered
            .ok_or_else(|| Error::new(Reason::Busy, "too many sessions here").retry_after(RECONNECT_AFTER))?;
        // Whoever ends streams notes why before looking for them, once: only a look after the place is taken
        // leaves no gap between the two.
        if let Err(refused) = self.may_open(caller) {
            self.registry.remove(registered.ticket);
            return Err(refused);
        }
        metrics::session("opened");
        Ok(registered)
    }

    fn may_open(&self, caller: &Caller) -> Result<(), Error> {
        if self.chassis.tasks.is_stopping() {
            return Err(Error::new(Reason::ShuttingDown, "connect again").retry_after(RECONNECT_AFTER));
        }
        self.ended.check(caller)
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

#[cfg(test)]
mod tests {
    use dialtone_bus::Bus;
    use dialtone_vocab::{DeviceId, PhoneNumber, SessionId};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ended_after_the_door_let_it_in_gets_no_place() {
        let chassis = Chassis::for_tests(7);
        let bus = Bus::local(&chassis);
        let shards = Shards::start(&chassis, &bus, &[], &[]).await.expect("shards");
        let (registry, ended) = (Registry::new(9, 0), Ended::default());
        let owners = crate::bus::owners(&bus);
        let handle = Handle::new(&chassis, &shards, registry.clone(), ended.clone(), owners);
        let caller = Caller {
            user: UserId::new([1; 16]),
            device: DeviceId(1),
            session: SessionId::new([2; 16]),
            number: PhoneNumber::parse_e164("+14155550101").expect("valid"),
            expires: chassis.clock.now(),
        };
        let open = handle.open(&caller).expect("a place");
        ended.note(caller.session, chassis.clock.now());
        let refused = handle.open(&caller).err().expect("refused");
        assert_eq!(refused.reason, Reason::SessionRevoked);
        assert_eq!(registry.tickets(|_| true), [open.ticket], "and keeps none");
    }
}
