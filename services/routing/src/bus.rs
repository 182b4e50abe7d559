//! The bus door: what sessions, inboxes and the SMS service say.

use dialtone_attach::SessionKey;
use dialtone_bus::{Bus, BusError, Subscription, subjects};
use dialtone_chassis::Chassis;
use dialtone_log::LogStore;
use dialtone_proto::bus::v1::ToRouting;
use dialtone_proto::bus::v1::routing_item::Item;
use dialtone_vocab::{DeviceId, PhoneNumber, SHARDS, ShardId, UnixMillis, UserId};

use crate::handle::Handle;
use crate::limits::{DUE_ROWS, SWEEP_EVERY, SWEEP_ROWS};
use crate::outbox::{Asker, Message, Sender};

/// Opens the door.
pub(crate) async fn open(
    chassis: &Chassis,
    bus: &Bus,
    handle: Handle,
    logs: LogStore,
) -> Result<(), BusError> {
    let items = bus.subscribe(&subjects::routing(&chassis.node)).await?;
    wake_due(&handle, &logs);
    chassis.tasks.spawn("routing items", hear(chassis.clone(), handle, items));
    chassis.tasks.spawn("routing sweep", sweep(chassis.clone(), logs));
    Ok(())
}

/// Every restart is a take-over: logs with something to do are opened at once.
fn wake_due(handle: &Handle, logs: &LogStore) {
    for shard in 0..SHARDS {
        match logs.due(ShardId(shard), UnixMillis(u64::MAX), DUE_ROWS) {
            Ok(rows) => rows.iter().for_each(|row| handle.tell(UserId::new(row.owner), Message::Wake)),
            Err(error) => tracing::error!(%error, "due rows could not be read"),
        }
    }
}

async fn hear(chassis: Chassis, handle: Handle, mut items: Subscription<ToRouting>) {
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
        Item::Send(send) => {
            let key = send.session.as_ref().and_then(SessionKey::from_proto);
            let (Some(key), Ok(number), Some(request)) =
                (key, PhoneNumber::parse_e164(&send.number), send.request)
            else {
                return;
            };
            let sender = Sender { device: DeviceId(send.device), number };
            tell(&send.user, Message::Send(sender, Box::new(request), Asker::Session(key)));
        }
        Item::Answers(answers) => tell(&answers.source_user.clone(), Message::Answers(answers)),
        Item::Watermarks(marks) => tell(&marks.source_user.clone(), Message::Watermarks(marks)),
        Item::SmsResult(result) => tell(&result.user.clone(), Message::SmsResult(result)),
    }
}

/// Drops whole buckets that are past their time.
async fn sweep(chassis: Chassis, logs: LogStore) {
    let stop = chassis.tasks.stop_token();
    let mut cursor = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = chassis.clock.sleep(SWEEP_EVERY) => {}
        }
        match logs.sweep(std::mem::take(&mut cursor), SWEEP_ROWS, chassis.clock.now()).await {
            Ok(next) => cursor = next,
            Err(error) => tracing::warn!(%error, "the sweep will be tried again"),
        }
    }
}
