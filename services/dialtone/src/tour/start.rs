//! Steps 1, 2, 3, 7 and 8: registering, syncing, logging in.

use anyhow::{Context, Result, bail, ensure};
use dialtone_chassis::Chassis;
use dialtone_client::{Api, ClientError, CodeOutcome, Event, PendingFlow, to};
use dialtone_proto::contacts::v1::{AckTokenRequest, ListFriendsRequest, SyncRequest, SyncResponse, Verdict};
use dialtone_proto::types::v1::{ConversationRef, Policy, TypedNumber, conversation_ref::With};
use dialtone_vocab::Reason;

use super::phone::Phone;
use super::teller::say;
use super::world::{PATIENCE, World};
use crate::handsets::code_in;

/// Wrong one-time passwords that a login may try.
const LOGIN_TRIES: u32 = 3;

pub(super) async fn register(world: &mut World) -> Result<()> {
    let World { chassis, api, handsets, anna, ben, carla, .. } = world;
    anna.register(chassis, api, handsets, true).await?;
    ben.register(chassis, api, handsets, false).await?;
    carla.register(chassis, api, handsets, false).await
}

/// A number as somebody typed it: the national part in brackets and dashes.
fn typed_locally(number: &str) -> String {
    format!("({}) {}-{}", &number[2..5], &number[5..8], &number[8..])
}

fn entry(text: impl Into<String>) -> TypedNumber {
    TypedNumber { text: text.into(), region: String::new() }
}

/// One sync, acknowledged.
async fn sync_once(
    world_api: &Api,
    phone: &mut Phone,
    added: Vec<TypedNumber>,
    removed: Vec<TypedNumber>,
) -> Result<SyncResponse> {
    let mut contacts = phone.api(world_api)?.contacts();
    let base_token = phone.book_token.clone();
    let request = SyncRequest { base_token, added, removed, region: "US".into(), more: false };
    let answer = contacts.sync(request).await?.into_inner();
    contacts.ack_token(AckTokenRequest { token: answer.next_token.clone() }).await?;
    phone.book_token.clone_from(&answer.next_token);
    Ok(answer)
}

fn verdicts(answer: &SyncResponse) -> Vec<Verdict> {
    answer.verdicts.iter().map(dialtone_proto::contacts::v1::EntryVerdict::verdict).collect()
}

pub(super) async fn sync(world: &mut World) -> Result<()> {
    let World { api, anna, ben, stranger, .. } = world;
    let ben_typed = typed_locally(&ben.number);
    let stranger_typed = stranger.replace("555", " 555 ");
    let book = vec![entry(ben_typed.clone()), entry(stranger_typed.clone()), entry("not a number")];
    let answer = sync_once(api, anna, book, Vec::new()).await?;
    for (typed, verdict) in [&ben_typed, &stranger_typed, "not a number"].into_iter().zip(verdicts(&answer)) {
        say(format!("Anna's book: {typed:?} → {}", verdict.as_str_name().trim_start_matches("VERDICT_")));
    }
    ensure!(verdicts(&answer) == [Verdict::Matched, Verdict::NotUser, Verdict::Invalid], "other verdicts");
    ensure!(answer.verdicts[0].number == ben.number, "the local form was read as another number");
    let friend = answer.verdicts[0].user.as_ref().context("a match without a user")?;
    ensure!(friend.id == ben.user()?.to_vec(), "matched somebody else");

    let book = vec![entry(anna.number.clone()), entry(stranger.clone())];
    let answer = sync_once(api, ben, book, Vec::new()).await?;
    ensure!(verdicts(&answer) == [Verdict::Matched, Verdict::NotUser], "other verdicts for Ben");
    say("Ben's book: Anna → MATCHED: they are friends; names never left the phones");
    for phone in [&*anna, &*ben] {
        let friends = phone
            .api(api)?
            .contacts()
            .list_friends(ListFriendsRequest::default())
            .await?
            .into_inner()
            .friends;
        ensure!(friends.len() == 1, "{} has {} friends", phone.name, friends.len());
    }
    Ok(())
}

pub(super) async fn instant(world: &mut World) -> Result<()> {
    let World { chassis, api, anna, ben, .. } = world;
    anna.log_in(api).await?;
    ben.log_in(api).await?;
    say("both signed a challenge with the key made at registration");
    anna.go_online(chassis, api).await?;
    ben.go_online(chassis, api).await?;
    let (_, accepted) = anna.send(chassis, to::user(ben.user()?), "Hello Ben!", Policy::default()).await?;
    say(format!("Anna: \"Hello Ben!\" → accepted as sent_idx {}", accepted.sent_idx));
    let message = ben.receives(chassis, "Hello Ben!").await?;
    ensure!(message.from_number == anna.number, "from another number");
    say(format!("Ben has it at idx {} of his inbox", message.idx));
    await_receipt(anna, chassis, accepted.sent_idx, false).await?;
    let conversation = ConversationRef { with: Some(With::User(user_ref(anna)?)) };
    ben.online()?.session.read(conversation, message.idx).await?;
    await_receipt(anna, chassis, accepted.sent_idx, true).await?;
    say("back at Anna: delivered, then read");
    Ok(())
}

fn user_ref(phone: &Phone) -> Result<dialtone_proto::types::v1::UserRef> {
    Ok(dialtone_proto::types::v1::UserRef { id: phone.user()?.to_vec() })
}

/// Waits for a receipt that covers `sent_idx`.
pub(super) async fn await_receipt(
    phone: &mut Phone,
    chassis: &Chassis,
    sent_idx: u64,
    read: bool,
) -> Result<()> {
    let covers = |event: &Event| {
        let Event::Receipt(receipt) = event else { return false };
        if read { receipt.read_sent_idx >= sent_idx } else { receipt.delivered_sent_idx >= sent_idx }
    };
    phone.wait(chassis, if read { "a read receipt" } else { "a delivery receipt" }, covers).await?;
    Ok(())
}

pub(super) async fn laptop(world: &mut World) -> Result<()> {
    let World { chassis, api, handsets, carla, .. } = world;
    let before = handsets.last_id(&carla.number).await?;
    let flow = one_time_password(chassis, api, carla).await?;
    let sms = handsets.wait(chassis, &carla.number, before, PATIENCE).await?;
    let code = code_in(&sms.text).context("the SMS has no code in it")?;
    say("Carla's laptop asks for a one-time password; it comes by SMS to her phone");
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for tried in 1..=LOGIN_TRIES {
        match flow.log_in(wrong, "laptop").await? {
            CodeOutcome::NotPassed(left) => {
                say(format!("a wrong one: not passed, {left} tries left"));
                ensure!(left == LOGIN_TRIES - tried, "{left} tries left after {tried}");
            }
            CodeOutcome::Passed(_) => bail!("a wrong one-time password passed"),
        }
    }
    match flow.log_in(&code, "laptop").await {
        Err(ClientError::Refused(error)) if error.reason == Reason::FlowExpired => {
            say("after three wrong ones even the right one is refused: FLOW_EXPIRED");
        }
        _ => bail!("the right one passed after three wrong ones"),
    }
    match PendingFlow::one_time_password(api, &carla.number).await {
        Err(ClientError::Refused(error)) if error.reason == Reason::SmsBudget => {
            let wait = error.retry_after.unwrap_or_default();
            say(format!("another SMS at once is refused: SMS_BUDGET, again in {} s", wait.as_secs()));
        }
        Ok(_) => bail!("a second SMS within the pause was allowed"),
        Err(error) => return Err(error.into()),
    }
    laptop_passes(world).await
}

/// Asks for a one-time password, after the pause that a number has between two SMS.
async fn one_time_password(chassis: &Chassis, api: &Api, phone: &Phone) -> Result<PendingFlow> {
    loop {
        match PendingFlow::one_time_password(api, &phone.number).await {
            Ok(flow) => return Ok(flow),
            Err(ClientError::Refused(error)) if error.reason == Reason::SmsBudget => {
                let wait = error.retry_after.context("a budget without a wait")?;
                say(format!("{}'s number had an SMS just before: waiting {} s", phone.name, wait.as_secs()));
                chassis.clock.sleep(wait).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn laptop_passes(world: &mut World) -> Result<()> {
    let World { chassis, api, handsets, ben, .. } = world;
    let before = handsets.last_id(&ben.number).await?;
    let flow = one_time_password(chassis, api, ben).await?;
    let sms = handsets.wait(chassis, &ben.number, before, PATIENCE).await?;
    let code = code_in(&sms.text).context("the SMS has no code in it")?;
    let CodeOutcome::Passed(laptop) = flow.log_in(&code, "laptop").await? else {
        bail!("the right one was refused")
    };
    ensure!(laptop.user == ben.user()?, "logged in as somebody else");
    ensure!(laptop.device != ben.credentials()?.device, "the laptop is the phone");
    say(format!("Ben's laptop passes with the right one: device {} of the same user", laptop.device));
    let friends =
        api.with_token(&laptop.tokens.access).contacts().list_friends(ListFriendsRequest::default()).await?;
    ensure!(friends.into_inner().friends.len() == 1, "the laptop sees other friends");
    Ok(())
}

pub(super) async fn incremental(world: &mut World) -> Result<()> {
    let World { api, anna, carla, stranger, newcomer, .. } = world;
    let added = vec![entry(typed_locally(&carla.number)), entry(newcomer.clone())];
    let answer = sync_once(api, anna, added, vec![entry(stranger.clone())]).await?;
    ensure!(verdicts(&answer) == [Verdict::Matched, Verdict::NotUser], "other verdicts");
    let friends =
        anna.api(api)?.contacts().list_friends(ListFriendsRequest::default()).await?.into_inner().friends;
    ensure!(friends.len() == 2, "Anna has {} friends", friends.len());
    say("2 entries went up, 1 was taken away, 2 verdicts came down; Ben, not sent again, is still a friend");
    let mut contacts = anna.api(api)?.contacts();
    let foreign =
        SyncRequest { base_token: vec![7; 16], added: vec![entry(newcomer.clone())], ..Default::default() };
    match contacts.sync(foreign).await.map_err(ClientError::from) {
        Err(ClientError::Refused(error)) if error.reason == Reason::SyncBaseUnknown => {
            say("a base the server does not have is refused: SYNC_BASE_UNKNOWN");
            Ok(())
        }
        _ => bail!("a foreign base was taken"),
    }
}
