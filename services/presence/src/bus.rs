//! The bus door: sessions, subscriptions and events come in; frames, updates and subscriptions go out.

use std::time::Duration;

use dialtone_attach::SessionKey;
use dialtone_bus::{Bus, BusError, Fan, Subscription, subjects};
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1 as bus;
use dialtone_proto::bus::v1::gateway_item::Item as ToGatewayItem;
use dialtone_proto::bus::v1::presence_item::Item;
use dialtone_proto::bus::v1::{
    Beat, GatewayItem, Owner, PeerSubscribe, PeerTyping, PeerUpdate, PresenceItem, ToGateway, ToPresence,
};
use dialtone_shards::{Hive, Shards};
use dialtone_vocab::{NodeId, UserId};

use crate::metrics;
use crate::user::{ToUser, User};

/// What goes out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Out {
    gateways: Fan<ToGateway>,
    owners: Fan<ToPresence>,
    shards: Shards,
}

fn count(kind: &'static str, sent: bool) {
    metrics::told(kind, if sent { "sent" } else { "lost" });
}

impl Out {
    pub(crate) fn new(bus: &Bus, shards: &Shards) -> Self {
        Self {
            gateways: bus.fan(subjects::gateway),
            owners: bus.fan(subjects::presence),
            shards: shards.clone(),
        }
    }

    /// Whether a user is another process's. It was this one's, or will be, and who says so may have heard too early.
    pub(crate) fn is_elsewhere(&self, user: UserId, own: &NodeId) -> bool {
        self.shards.node_of("presence", user).is_some_and(|node| node != *own)
    }

    /// Since when nobody has moved between processes.
    pub(crate) fn unmoved_since(&self) -> Option<Duration> {
        self.shards.since("presence")
    }

    /// What is lost is repaired by the beats.
    pub(crate) fn gateway(&self, key: &SessionKey, item: ToGatewayItem) {
        let item = GatewayItem { ticket: key.ticket, owner: Owner::Presence.into(), item: Some(item) };
        count("gateway", self.gateways.push(&key.gateway, item).is_ok());
    }

    fn owner(&self, kind: &'static str, user: &[u8], item: Item) {
        let node = UserId::from_slice(user).ok().and_then(|user| self.shards.node_of("presence", user));
        let sent =
            node.is_some_and(|node| self.owners.push(&node, PresenceItem { item: Some(item) }).is_ok());
        count(kind, sent);
    }

    /// What is lost is asked for again.
    pub(crate) fn subscribe(&self, ask: PeerSubscribe) {
        self.owner("subscribe", &ask.target.clone(), Item::Subscribe(ask));
    }

    /// Told once; the next renewal of the subscription is answered with the latest.
    pub(crate) fn update(&self, node: &NodeId, update: PeerUpdate) {
        let item = PresenceItem { item: Some(Item::Update(update)) };
        count("update", self.owners.push(node, item).is_ok());
    }

    /// Told once.
    pub(crate) fn typing(&self, typing: PeerTyping) {
        self.owner("typing", &typing.watcher.clone(), Item::PeerTyping(typing));
    }
}

/// Opens the door.
pub(crate) async fn open(chassis: &Chassis, bus: &Bus, users: Hive<User>) -> Result<(), BusError> {
    let items = bus.subscribe(&subjects::presence(&chassis.node)).await?;
    chassis.tasks.spawn("presence door", hear(chassis.clone(), items, users));
    Ok(())
}

async fn hear(chassis: Chassis, mut items: Subscription<ToPresence>, users: Hive<User>) {
    let stop = chassis.tasks.stop_token();
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            batch = items.next() => match batch {
                Some(batch) => batch.message,
                None => return,
            },
        };
        for item in batch.items.into_iter().filter_map(|item| item.item) {
            match item {
                Item::Beat(beat) => take_beat(&users, beat),
                item => {
                    let kind = kind(&item);
                    let outcome = match decode(item) {
                        None => "malformed",
                        Some((user, message)) => match users.send(user, message) {
                            Ok(()) => "taken",
                            Err(_busy) => "busy",
                        },
                    };
                    metrics::item(kind, outcome);
                }
            }
        }
    }
}

fn take_beat(users: &Hive<User>, beat: Beat) {
    if !NodeId::is_valid(&beat.gateway) {
        return metrics::item("beat", "malformed");
    }
    let gateway = NodeId::new(&beat.gateway);
    for session in beat.sessions {
        let key = SessionKey { gateway: gateway.clone(), ticket: session.ticket };
        let outcome = match UserId::from_slice(&session.user) {
            Err(_) => "malformed",
            Ok(user) => match users.send(user, ToUser::Beat(key, session)) {
                Ok(()) => "taken",
                Err(_busy) => "busy",
            },
        };
        metrics::item("beat", outcome);
    }
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::Attach(_) => "attach",
        Item::Detach(_) => "detach",
        Item::Beat(_) => "beat",
        Item::Watch(_) => "watch",
        Item::Typing(_) => "typing",
        Item::State(_) => "state",
        Item::Contact(_) => "contact",
        Item::Subscribe(_) => "subscribe",
        Item::Update(_) => "update",
        Item::PeerTyping(_) => "peer_typing",
    }
}

fn key(session: Option<bus::SessionKey>) -> Option<SessionKey> {
    SessionKey::from_proto(&session?)
}

/// To whom something happens, and what.
fn decode(item: Item) -> Option<(UserId, ToUser)> {
    let user = |bytes: &[u8]| UserId::from_slice(bytes).ok();
    Some(match item {
        Item::Attach(attach) => {
            (user(&attach.user)?, ToUser::Attach(key(attach.session.clone())?, Box::new(attach)))
        }
        Item::Detach(detach) => (user(&detach.user)?, ToUser::Detach(key(detach.session)?)),
        Item::Beat(_) => return None,
        Item::Watch(watch) => (user(&watch.user)?, ToUser::Watch(key(watch.session)?, watch.watch?)),
        Item::Typing(typing) => {
            (user(&typing.user)?, ToUser::Typing(key(typing.session)?, user(&typing.to)?))
        }
        Item::State(state) => (user(&state.user)?, ToUser::ClientState(key(state.session)?, state.state)),
        Item::Contact(event) => (user(&event.user)?, ToUser::Contact(event.contact?)),
        Item::Subscribe(ask) => (user(&ask.target)?, ToUser::Subscribe(ask)),
        Item::Update(update) => (user(&update.watcher)?, ToUser::Update(update)),
        Item::PeerTyping(typing) => (user(&typing.watcher)?, ToUser::PeerTyping(user(&typing.target)?)),
    })
}
