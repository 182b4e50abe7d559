//! The bus door: what sessions, sources and contacts say.

use dialtone_attach::SessionKey;
use dialtone_bus::{Bus, BusError, Subscription, subjects};
use dialtone_chassis::Chassis;
use dialtone_log::{DueRow, LogStore};
use dialtone_proto::bus::v1::offline_item::Item;
use dialtone_proto::bus::v1::{BlockFact, FactTaken, ToOffline};
use dialtone_proto::types::v1::conversation_ref::With;
use dialtone_vocab::{DeviceId, UserId};

use crate::handle::Handle;
use crate::inbox::Message;
use crate::store::Blocks;

/// Opens the door.
pub(crate) async fn open(
    chassis: &Chassis,
    bus: &Bus,
    handle: Handle,
    blocks: Blocks,
    logs: LogStore,
) -> Result<(), BusError> {
    let items = bus.subscribe(&subjects::offline(&chassis.node)).await?;
    let facts = bus.subscribe_group(&subjects::offline_fact(), "offline").await?;
    let waking = handle.clone();
    let wake = move |found: DueRow| waking.tell(UserId::new(found.owner()), Message::Wake(found));
    chassis.tasks.spawn("offline due", logs.clone().keep_awake(wake));
    chassis.tasks.spawn("offline items", hear(chassis.clone(), handle, items));
    chassis.tasks.spawn("offline facts", hear_facts(chassis.clone(), blocks, facts));
    chassis.tasks.spawn("offline sweep", logs.keep_swept(chassis.clone()));
    Ok(())
}

async fn hear(chassis: Chassis, handle: Handle, mut items: Subscription<ToOffline>) {
    let stop = chassis.tasks.stop_token();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            batch = items.next() => match batch {
                Some(batch) => batch.message.items.into_iter().filter_map(|item| item.item).for_each(|item| take(&handle, item)),
                None => return,
            },
        }
    }
}

/// Decodes an item; one that names nobody is dropped.
fn take(handle: &Handle, item: Item) {
    let tell = |user: &[u8], message| {
        if let Ok(user) = UserId::from_slice(user) {
            handle.tell(user, message);
        }
    };
    match item {
        Item::Attach(attach) => tell(&attach.user.clone(), Message::Attach(attach)),
        Item::Detach(detach) => {
            if let Some(key) = detach.session.as_ref().and_then(SessionKey::from_proto) {
                tell(&detach.user, Message::Detach(key));
            }
        }
        Item::Beat(beat) => {
            for session in beat.sessions {
                let key = dialtone_proto::bus::v1::SessionKey {
                    gateway: beat.gateway.clone(),
                    ticket: session.ticket,
                };
                if let Some(key) = SessionKey::from_proto(&key) {
                    tell(&session.user.clone(), Message::Beat(key, session));
                }
            }
        }
        Item::Ack(ack) => tell(&ack.user, Message::Ack(DeviceId(ack.device), ack.idx)),
        Item::Read(read) => {
            if let Some(With::User(with)) = read.conversation.and_then(|conversation| conversation.with)
                && let Ok(with) = UserId::from_slice(&with.id)
            {
                tell(&read.user, Message::Read(with, read.idx));
            }
        }
        Item::Offer(offer) => tell(&offer.receiver.clone(), Message::Offer(offer)),
        Item::WatermarksTaken(taken) => tell(&taken.receiver.clone(), Message::WatermarksTaken(taken)),
    }
}

async fn hear_facts(chassis: Chassis, blocks: Blocks, mut facts: Subscription<BlockFact>) {
    let stop = chassis.tasks.stop_token();
    loop {
        let fact = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            fact = facts.next() => match fact {
                Some(fact) => fact,
                None => return,
            },
        };
        let BlockFact { by, user, on, version } = &fact.message;
        let (Ok(by), Ok(user)) = (UserId::from_slice(by), UserId::from_slice(user)) else { continue };
        match blocks.set(by, user, *on, *version).await {
            Ok(()) => fact.reply(FactTaken {}).await,
            // Not answered: contacts tells it again.
            Err(error) => tracing::error!(%error, "a block could not be kept"),
        }
    }
}
