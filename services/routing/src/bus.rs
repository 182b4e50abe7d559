//! The bus door: what sessions, inboxes and the SMS service say.

use dialtone_attach::SessionKey;
use dialtone_bus::{Bus, BusError, Subscription, subjects};
use dialtone_chassis::Chassis;
use dialtone_log::{DueRow, LogStore};
use dialtone_proto::bus::v1::ToRouting;
use dialtone_proto::bus::v1::routing_item::Item;
use dialtone_vocab::{DeviceId, PhoneNumber, UserId};

use crate::handle::Handle;
use crate::outbox::{Asker, Message, Sender};

/// Opens the door.
pub(crate) async fn open(
    chassis: &Chassis,
    bus: &Bus,
    handle: Handle,
    logs: LogStore,
) -> Result<(), BusError> {
    let items = bus.subscribe(&subjects::routing(&chassis.node)).await?;
    let waking = handle.clone();
    let wake = move |found: DueRow| waking.tell(UserId::new(found.owner()), Message::Wake(found));
    chassis.tasks.spawn("routing due", logs.clone().keep_awake(wake));
    chassis.tasks.spawn("routing items", hear(chassis.clone(), handle, items));
    chassis.tasks.spawn("routing sweep", logs.keep_swept(chassis.clone()));
    Ok(())
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
