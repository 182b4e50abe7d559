//! The bus door: SMS to send, and answers to what we repeat.

use dialtone_bus::{Bus, BusError, Subscription, subjects};
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::sms_item::Item;
use dialtone_proto::bus::v1::{SmsSubmit, ToSms};

use crate::bridge::Bridge;
use crate::inbound::Answers;

/// Opens the door.
pub(crate) async fn open(
    chassis: &Chassis,
    bus: &Bus,
    bridge: Bridge,
    answers: Answers,
) -> Result<(), BusError> {
    let sends = bus.subscribe_group(&subjects::sms_send(), "sms").await?;
    let items = bus.subscribe(&subjects::sms(&chassis.node)).await?;
    chassis.tasks.spawn("sms sends", hear_sends(chassis.clone(), bridge.clone(), sends));
    chassis.tasks.spawn("sms items", hear_items(chassis.clone(), bridge, answers, items));
    Ok(())
}

async fn hear_sends(chassis: Chassis, bridge: Bridge, mut sends: Subscription<SmsSubmit>) {
    let stop = chassis.tasks.stop_token();
    loop {
        let send = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            send = sends.next() => match send {
                Some(send) => send,
                None => return,
            },
        };
        if send.is_late(chassis.clock.now()) {
            continue;
        }
        match bridge.take(send.message.clone()).await {
            Ok(taken) => send.reply(taken).await,
            // Not answered: whoever sends asks again.
            Err(error) => tracing::warn!(reason = error.reason.as_str(), "an SMS was not taken"),
        }
    }
}

async fn hear_items(chassis: Chassis, bridge: Bridge, answers: Answers, mut items: Subscription<ToSms>) {
    let stop = chassis.tasks.stop_token();
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            batch = items.next() => match batch {
                Some(batch) => batch.message.items,
                None => return,
            },
        };
        for item in batch.into_iter().filter_map(|item| item.item) {
            match item {
                Item::Answers(offered) => answers.take(offered).await,
                Item::ResultTaken(taken) => bridge.result_taken(&taken.message_id, taken.kind).await,
            }
        }
    }
}
