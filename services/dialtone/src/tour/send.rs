//! Steps 4, 5, 6 and 9: the three channels, the plan, presence.

use anyhow::{Context, Result, bail, ensure};
use dialtone_chassis::Chassis;
use dialtone_client::{Api, Event, text, to};
use dialtone_proto::edge::v1::Presence;
use dialtone_proto::presence::v1::{Availability, PeerState, SetStatusRequest};
use dialtone_proto::routing::v1::{IfUnreachable, PlanSendRequest, PlanSendResponse, Way, Why};
use dialtone_proto::types::v1::{Channel, FateKind, IfOffline, Policy, Recipient, conversation_ref::With};

use super::phone::Phone;
use super::start::await_receipt;
use super::teller::say;
use super::world::{PATIENCE, World};

/// The shortest fallback the API takes.
const FALLBACK_MS: u64 = 5_000;

fn stored() -> Policy {
    Policy { if_offline: IfOffline::Store.into(), ..Default::default() }
}

fn sms_if_offline() -> Policy {
    Policy { if_offline: IfOffline::Sms.into(), fallback_after_ms: FALLBACK_MS, ..Default::default() }
}

async fn plan(
    api: &Api,
    phone: &Phone,
    to: Recipient,
    body: &str,
    policy: Policy,
) -> Result<PlanSendResponse> {
    let request = PlanSendRequest { to: Some(to), body: Some(text(body)), policy: Some(policy) };
    Ok(phone.api(api)?.messages().plan_send(request).await?.into_inner())
}

/// Waits until a sent message has this fate.
async fn await_fate(phone: &mut Phone, chassis: &Chassis, sent_idx: u64, kind: FateKind) -> Result<()> {
    let is_it = |event: &Event| {
        matches!(event, Event::Progress(progress) if progress.sent_idx == sent_idx
            && progress.fate.as_ref().is_some_and(|fate| fate.kind() == kind))
    };
    phone.wait(chassis, kind.as_str_name(), is_it).await?;
    Ok(())
}

pub(super) async fn offline(world: &mut World) -> Result<()> {
    kept(world).await?;
    sms_at_once(world).await?;
    seems_online(world).await
}

async fn kept(world: &mut World) -> Result<()> {
    let World { chassis, api, anna, ben, .. } = world;
    ben.go_offline().await;
    say("Ben goes offline");
    let to_ben = || anna_to(ben);
    let plan = plan(api, anna, to_ben()?, "one", stored()).await?;
    ensure!(plan.way() == Way::Data && plan.if_unreachable() == IfUnreachable::Kept, "planned otherwise");
    let mut last = 0;
    for body in ["one", "two", "three"] {
        last = anna.send(chassis, to_ben()?, body, stored()).await?.1.sent_idx;
    }
    ben.go_online(chassis, api).await?;
    ben.receives(chassis, "three").await?;
    let mut came = ben.settle_messages()?;
    came.push("three".to_owned());
    ensure!(came == ["one", "two", "three"], "came as {came:?}");
    say("three messages with `store` were kept, and came in order on his return");
    await_receipt(anna, chassis, last, false).await
}

fn anna_to(ben: &Phone) -> Result<Recipient> {
    Ok(to::user(ben.user()?))
}

async fn sms_at_once(world: &mut World) -> Result<()> {
    let World { chassis, api, handsets, anna, ben, .. } = world;
    ben.go_offline().await;
    let before = handsets.last_id(&ben.number).await?;
    let recipient = anna_to(ben)?;
    let plan = plan(api, anna, recipient.clone(), "urgent", sms_if_offline()).await?;
    ensure!(plan.if_unreachable() == IfUnreachable::SmsAtOnce && plan.sms.is_some(), "planned otherwise");
    let (_, accepted) = anna.send(chassis, recipient, "urgent", sms_if_offline()).await?;
    let sms = handsets.wait(chassis, &ben.number, before, PATIENCE).await?;
    ensure!(sms.text.contains("urgent"), "another SMS");
    await_fate(anna, chassis, accepted.sent_idx, FateKind::SmsDelivered).await?;
    say(format!("with `sms` it is on his handset: \"{}\" from {}", sms.text, sms.from));
    ben.go_online(chassis, api).await?;
    ensure!(ben.settle_messages()?.is_empty(), "it came a second time, as data");
    say("back online he gets nothing twice");
    Ok(())
}

async fn seems_online(world: &mut World) -> Result<()> {
    let World { chassis, handsets, anna, ben, .. } = world;
    ben.online()?.session.freeze(true).await?;
    let before = handsets.last_id(&ben.number).await?;
    let (_, accepted) = anna.send(chassis, anna_to(ben)?, "are you there?", sms_if_offline()).await?;
    say("Ben's stream is open, but his phone takes nothing");
    let sms = handsets.wait(chassis, &ben.number, before, PATIENCE).await?;
    ensure!(sms.text.contains("are you there?"), "another SMS");
    await_fate(anna, chassis, accepted.sent_idx, FateKind::SmsDelivered).await?;
    say(format!("after fallback_after ({} s) the SMS goes out", FALLBACK_MS / 1_000));
    ben.online()?.session.freeze(false).await?;
    ben.wait(chassis, "reconnecting", |event| matches!(event, Event::CaughtUp)).await?;
    ensure!(ben.settle_messages()?.is_empty(), "the data was not withdrawn");
    say("thawed, he gets no data: it was withdrawn");
    Ok(())
}

impl Phone {
    /// The texts of the messages that came and were not looked at, in order.
    fn settle_messages(&mut self) -> Result<Vec<String>> {
        let seen = self.settle()?;
        let messages = seen
            .iter()
            .filter_map(|event| if let Event::Message(message) = event { Some(message) } else { None });
        Ok(messages
            .map(|message| String::from_utf8_lossy(super::phone::content(message)).into_owned())
            .collect())
    }
}

pub(super) async fn non_user(world: &mut World) -> Result<()> {
    let World { chassis, api, handsets, anna, carla, stranger, .. } = world;
    carla.go_online(chassis, api).await?;
    let mut senders = Vec::new();
    for (phone, body) in [(&mut *anna, "dinner at eight?"), (&mut *carla, "your parcel is here")] {
        let recipient = to::number(stranger.clone(), "");
        let plan = plan(api, phone, recipient.clone(), body, Policy::default()).await?;
        ensure!(plan.way() == Way::Sms && plan.why() == Why::NotUser, "planned otherwise");
        let quote = plan.sms.context("no quote")?;
        ensure!(quote.answerable, "not answerable");
        say(format!(
            "{}'s plan: SMS, not a user, {} segment, {}",
            phone.name, quote.segments, quote.encoding
        ));
        let before = handsets.last_id(stranger).await?;
        let (_, accepted) = phone.send(chassis, recipient, body, Policy::default()).await?;
        ensure!(accepted.way() == Way::Sms, "accepted otherwise than planned");
        let sms = handsets.wait(chassis, stranger, before, PATIENCE).await?;
        ensure!(sms.text.contains(body), "another SMS");
        say(format!("the stranger's handset shows \"{}\" from {}", sms.text, sms.from));
        senders.push(sms.from);
    }
    ensure!(senders[0] != senders[1], "two users write from one number: a reply could not be told apart");
    for (phone, from, reply) in
        [(anna, &senders[0], "yes, eight"), (carla, &senders[1], "leave it at the door")]
    {
        handsets.send(stranger, from, reply).await?;
        let message = phone.receives(chassis, reply).await?;
        ensure!(message.by_sms && message.from_number == *stranger, "not from the stranger");
        let conversation = message.conversation.and_then(|conversation| conversation.with);
        ensure!(conversation == Some(With::Number(stranger.clone())), "in another conversation");
        say(format!("the reply {reply:?} came back to {}", phone.name));
    }
    Ok(())
}

pub(super) async fn explicit(world: &mut World) -> Result<()> {
    let World { chassis, api, handsets, anna, ben, .. } = world;
    let policy = Policy { channel: Channel::Sms.into(), ..Default::default() };
    let plan = plan(api, anna, anna_to(ben)?, "as SMS, please", policy).await?;
    ensure!(plan.way() == Way::Sms && plan.why() == Why::Chosen, "planned otherwise");
    let before = handsets.last_id(&ben.number).await?;
    let (_, accepted) = anna.send(chassis, anna_to(ben)?, "as SMS, please", policy).await?;
    ensure!(accepted.way() == plan.way() && accepted.why() == plan.why(), "accepted otherwise than planned");
    let sms = handsets.wait(chassis, &ben.number, before, PATIENCE).await?;
    ensure!(sms.text.contains("as SMS, please"), "another SMS");
    await_fate(anna, chassis, accepted.sent_idx, FateKind::SmsDelivered).await?;
    ensure!(ben.settle_messages()?.is_empty(), "it came as data too");
    say("Ben is online and still got it as SMS only; PlanSend had said so");
    Ok(())
}

fn state_of<'a>(presence: &'a Presence, phone: &Phone) -> Option<&'a PeerState> {
    let user = phone.user().ok()?.to_vec();
    presence.changes.iter().find(|state| state.user.as_ref().is_some_and(|known| known.id == user))
}

async fn await_state(
    watcher: &mut Phone,
    chassis: &Chassis,
    peer: &Phone,
    what: &str,
    is_it: impl Fn(&PeerState) -> bool,
) -> Result<()> {
    let seen = |event: &Event| matches!(event, Event::Presence(presence) if state_of(presence, peer).is_some_and(&is_it));
    watcher.wait(chassis, what, seen).await?;
    Ok(())
}

pub(super) async fn presence(world: &mut World) -> Result<()> {
    let World { chassis, api, anna, ben, carla, .. } = world;
    anna.settle()?;
    anna.online()?.session.watch(1, &[ben.user()?]).await?;
    await_state(anna, chassis, ben, "Ben online", |state| state.availability() == Availability::Online)
        .await?;
    say("Anna names Ben: a snapshot says that he is online");
    let status = SetStatusRequest { text: "in the garden".into(), invisible: false };
    ben.api(api)?.presence().set_status(status).await?;
    await_state(anna, chassis, ben, "Ben's status", |state| state.status == "in the garden").await?;
    say("his status text follows: \"in the garden\"");
    let status = SetStatusRequest { text: "at sea".into(), invisible: false };
    carla.api(api)?.presence().set_status(status).await?;
    carla.online()?.session.typing(anna.user()?).await?;
    ben.online()?.session.typing(anna.user()?).await?;
    await_state(anna, chassis, ben, "Ben typing", |state| state.typing).await?;
    say("Ben is typing");
    let stray = anna
        .settle()?
        .iter()
        .any(|event| matches!(event, Event::Presence(presence) if state_of(presence, carla).is_some()));
    if stray {
        bail!("Anna was told of Carla, whom she did not name");
    }
    say("of Carla, who changed her status and typed too, Anna is told nothing");
    Ok(())
}
