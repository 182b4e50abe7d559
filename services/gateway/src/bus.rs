//! The bus door: items for sessions, beats to their owners, facts for all.

use std::collections::BTreeMap;

use dialtone_attach::BEAT_EVERY;
use dialtone_bus::{Bus, BusError, Subscription, subjects};
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{
    Beat, GatewayItem, OfflineItem, Owner, PresenceItem, RoutingItem, SessionBeat, SessionEnded, ToGateway,
    offline_item, presence_item, routing_item,
};
use dialtone_proto::edge::v1::GoAway;
use dialtone_shards::Shards;
use dialtone_vocab::{NodeId, Reason, SessionId};

use crate::ended::Ended;
use crate::handle::Owners;
use crate::limits::{BEAT_CHUNK, BEAT_PARTS, RECONNECT_AFTER, RECONNECT_JITTER};
use crate::metrics;
use crate::registry::{Handed, Registry};

/// The ways to the owners.
pub(crate) fn owners(bus: &Bus) -> Owners {
    Owners {
        routing: bus.fan(subjects::routing),
        offline: bus.fan(subjects::offline),
        presence: bus.fan(subjects::presence),
    }
}

/// Opens the door.
pub(crate) async fn open(
    chassis: &Chassis,
    bus: &Bus,
    shards: &Shards,
    registry: &Registry,
    ended: &Ended,
    owners: &Owners,
) -> Result<(), BusError> {
    let items = bus.subscribe(&subjects::gateway(&chassis.node)).await?;
    let facts = bus.subscribe(&subjects::gateway_fact()).await?;
    chassis.tasks.spawn("gateway deliver", deliver(chassis.clone(), registry.clone(), items));
    let heard = hear_facts(chassis.clone(), registry.clone(), ended.clone(), facts);
    chassis.tasks.spawn("gateway facts", heard);
    let beats = Beats {
        chassis: chassis.clone(),
        shards: shards.clone(),
        registry: registry.clone(),
        owners: owners.clone(),
    };
    chassis.tasks.spawn("gateway beats", beats.run());
    chassis.tasks.spawn("gateway drain", drain(chassis.clone(), registry.clone()));
    Ok(())
}

async fn deliver(chassis: Chassis, registry: Registry, mut items: Subscription<ToGateway>) {
    let stop = chassis.tasks.stop_token();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            batch = items.next() => match batch {
                Some(batch) => registry.hand(batch.message.items, note),
                None => return,
            },
        }
    }
}

fn note(outcome: Handed) {
    match outcome {
        Handed::Yes => {}
        Handed::Full => metrics::dropped("full"),
        Handed::Gone => metrics::dropped("gone"),
    }
}

async fn hear_facts(
    chassis: Chassis,
    registry: Registry,
    ended: Ended,
    mut facts: Subscription<SessionEnded>,
) {
    let stop = chassis.tasks.stop_token();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            fact = facts.next() => match fact {
                Some(fact) => {
                    let Ok(session) = SessionId::from_slice(&fact.message.session_id) else { continue };
                    ended.note(session, chassis.clock.now());
                    let tickets = registry.tickets(|caller| caller.session == session);
                    registry.hand(close_all(tickets, Reason::SessionRevoked), note);
                }
                None => return,
            },
        }
    }
}

fn close_all(tickets: Vec<u64>, reason: Reason) -> Vec<GatewayItem> {
    let go_away = GoAway {
        reason: reason.as_str().to_owned(),
        reconnect_after_ms: u64::try_from(RECONNECT_AFTER.as_millis()).unwrap_or(u64::MAX),
        jitter_ms: u64::try_from(RECONNECT_JITTER.as_millis()).unwrap_or(u64::MAX),
    };
    let close = |ticket| GatewayItem {
        ticket,
        owner: Owner::Routing.into(),
        item: Some(Item::Close(go_away.clone())),
    };
    tickets.into_iter().map(close).collect()
}

/// When the process is to stop every stream is told to go elsewhere.
async fn drain(chassis: Chassis, registry: Registry) {
    chassis.tasks.stop_token().cancelled().await;
    registry.hand(close_all(registry.tickets(|_| true), Reason::ShuttingDown), note);
}

/// Tells each owner once a second which sessions it has here, and looks whose token has run out.
struct Beats {
    chassis: Chassis,
    shards: Shards,
    registry: Registry,
    owners: Owners,
}

impl Beats {
    async fn run(self) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            for part in 0..BEAT_PARTS {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = self.chassis.clock.sleep(BEAT_EVERY / BEAT_PARTS) => {}
                }
                self.beat(part);
            }
            self.end_expired();
        }
    }

    /// Who stays on a stream has shown within the life of a token that their session goes on: the fact that it was
    /// ended is told once, and may be lost.
    fn end_expired(&self) {
        let now = self.chassis.clock.now();
        let expired = self.registry.tickets(|caller| caller.expires <= now);
        self.registry.hand(close_all(expired, Reason::TokenExpired), note);
    }

    fn beat(&self, part: u32) {
        for (node, beat) in self.by_node(0, part, "routing") {
            let item = RoutingItem { item: Some(routing_item::Item::Beat(beat)) };
            note_push(self.owners.routing.push(&node, item));
        }
        for (node, beat) in self.by_node(1, part, "offline") {
            let item = OfflineItem { item: Some(offline_item::Item::Beat(beat)) };
            note_push(self.owners.offline.push(&node, item));
        }
        for (node, beat) in self.by_node(2, part, "presence") {
            let item = PresenceItem { item: Some(presence_item::Item::Beat(beat)) };
            note_push(self.owners.presence.push(&node, item));
        }
    }

    fn by_node(&self, slot: usize, part: u32, service: &str) -> Vec<(NodeId, Beat)> {
        let mut nodes: BTreeMap<NodeId, Vec<SessionBeat>> = BTreeMap::new();
        for (user, beat) in self.registry.beats(slot, part) {
            if let Some(node) = self.shards.node_of(service, user) {
                nodes.entry(node).or_default().push(beat);
            }
        }
        let gateway = self.chassis.node.as_str();
        let beats = nodes.into_iter().flat_map(|(node, sessions)| {
            let chunks: Vec<_> = sessions.chunks(BEAT_CHUNK).map(<[_]>::to_vec).collect();
            chunks
                .into_iter()
                .map(move |sessions| (node.clone(), Beat { gateway: gateway.to_owned(), sessions }))
        });
        beats.collect()
    }
}

fn note_push(pushed: Result<(), BusError>) {
    if let Err(error) = pushed {
        tracing::warn!(%error, "a beat was not told");
    }
}
