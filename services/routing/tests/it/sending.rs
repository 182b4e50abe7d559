//! Accepting messages.

use std::time::Duration;

use dialtone_chassis::Error;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::routing::v1::{IfUnreachable, PlanSendRequest, SendRequest, Way, Why};
use dialtone_proto::types::v1::{Body, Channel, Cursor, IfOffline, Policy, Recipient};
use dialtone_routing::Sabotage;
use dialtone_routing::limits::{BODY_BYTES, UNANSWERED};
use dialtone_store::MemoryDisk;
use dialtone_vocab::Reason;

use crate::world::*;

async fn refused(world: &World, message: SendRequest) -> Reason {
    reason(&world.send_from(1, message).await.expect_err("refused"))
}

#[tokio::test(start_paused = true)]
async fn a_send_is_accepted_when_it_is_on_disk_and_not_before() {
    let slow = Duration::from_millis(800);
    let disk = MemoryDisk::with_delay(slow..=slow);
    let mut world = start(&disk, Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    world.session_sends(phone, request(1, BEN_NUMBER));
    world.pass(Duration::from_millis(700)).await;
    assert_eq!((world.frames(phone), world.inbox.offers.len()), (vec![], 0), "nothing told, nothing offered");
    world.pass(Duration::from_millis(400)).await;
    assert!(matches!(&world.frames(phone)[..], [Frame::Accepted(accepted)] if accepted.sent_idx == 1));
    assert_eq!(world.inbox.positions(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_gets_the_same_answer_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    let first = world.send(request(1, BEN_NUMBER)).await;
    let second = world.send(request(2, NOBODY)).await;
    assert_eq!((first.sent_idx, second.sent_idx), (1, 2));
    assert_eq!((first.way(), first.why()), (Way::Data, Why::User));
    assert_eq!((second.way(), second.why()), (Way::Sms, Why::NotUser));
    world.directory.0.write().expect("lock").clear();
    for _ in 0..2 {
        assert_eq!(world.send(request(1, BEN_NUMBER)).await, first, "its route is never resolved again");
        assert_eq!(world.send(request(2, NOBODY)).await, second);
        assert_eq!(refused(&world, request(2, BEN_NUMBER)).await, Reason::SequenceReused);
        world.pass(Duration::from_secs(2)).await;
        world = world.crash(&disk, Sabotage::default()).await;
    }
    assert_eq!(world.sms(), [2], "sent once");
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told_the_expected_number_and_a_refusal_uses_none() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    let gap = world.send_from(1, request(2, BEN_NUMBER)).await.expect_err("refused");
    let error = Error::from_status(&gap);
    assert_eq!(error.reason, Reason::SequenceGap);
    assert!(error.details.contains(&("expected_client_seq".into(), "1".into())), "{:?}", error.details);
    world.session_sends(phone, request(7, BEN_NUMBER));
    world.pass(MOMENT).await;
    let frames = world.frames(phone);
    assert!(
        matches!(&frames[..], [Frame::Refused(it)] if it.expected_client_seq == 1 && it.client_seq == 7),
        "{frames:?}"
    );
    for wrong in [
        SendRequest { body: None, ..request(1, BEN_NUMBER) },
        request(1, "not a number"),
        SendRequest { to: None, ..request(1, BEN_NUMBER) },
    ] {
        refused(&world, wrong).await;
    }
    assert_eq!(world.send(request(1, BEN_NUMBER)).await.sent_idx, 1);
    assert_eq!(
        world.send_from(2, request(1, BEN_NUMBER)).await.expect("accepted").sent_idx,
        2,
        "each device"
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_has_at_most_256_sends_without_an_answer() {
    let slow = Duration::from_secs(1);
    let mut world = start(&MemoryDisk::with_delay(slow..=slow), Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    let most = UNANSWERED as u64;
    for seq in 1..=most + 1 {
        world.session_sends(phone, request(seq, BEN_NUMBER));
    }
    world.pass(Duration::from_millis(100)).await;
    let frames = world.frames(phone);
    assert!(
        matches!(&frames[..], [Frame::Refused(it)] if it.client_seq == most + 1 && it.reason == "SEND_BUDGET"),
        "{frames:?}"
    );
    world.pass(Duration::from_secs(20)).await;
    let accepted = world.frames(phone).into_iter().filter(|frame| matches!(frame, Frame::Accepted(_)));
    assert_eq!(accepted.count() as u64, most);
    world.session_sends(phone, request(most + 1, BEN_NUMBER));
    world.pass(Duration::from_secs(5)).await;
    assert!(matches!(&world.frames(phone)[..], [Frame::Accepted(_)]));
}

#[tokio::test(start_paused = true)]
async fn bodies_and_policies_are_checked_and_what_may_be_an_sms_has_a_text() {
    let world = world().await;
    let body = |content: Vec<u8>| Some(Body { content: content.into(), ..Body::default() });
    let picture = Some(Body { content_type: "image/png".into(), ..body(vec![0xff]).expect("a body") });
    let policy = |channel: i32, if_offline: i32| Some(Policy { channel, if_offline, ..Policy::default() });
    let to = |number| request(1, number);
    for (message, expected) in [
        (SendRequest { body: body(vec![]), ..to(BEN_NUMBER) }, Reason::BodyEmpty),
        (SendRequest { body: body(vec![b'x'; BODY_BYTES + 1]), ..to(BEN_NUMBER) }, Reason::BodyTooLarge),
        (SendRequest { body: picture.clone(), ..to(NOBODY) }, Reason::NoSmsText),
        (
            SendRequest { body: picture.clone(), policy: policy(0, IfOffline::Sms.into()), ..to(BEN_NUMBER) },
            Reason::NoSmsText,
        ),
        (SendRequest { policy: policy(99, 0), ..to(BEN_NUMBER) }, Reason::FieldInvalid),
        (SendRequest { policy: policy(0, 99), ..to(BEN_NUMBER) }, Reason::FieldInvalid),
        (SendRequest { to: Some(Recipient::default()), ..to(BEN_NUMBER) }, Reason::FieldInvalid),
        (to("555 0102"), Reason::NumberNeedsCountry),
    ] {
        assert_eq!(refused(&world, message.clone()).await, expected, "{message:?}");
    }
    assert!(
        world.send_from(1, SendRequest { body: picture, ..to(BEN_NUMBER) }).await.is_ok(),
        "kept as it is"
    );
}

#[tokio::test(start_paused = true)]
async fn the_plan_is_what_is_done() {
    let mut world = world().await;
    let chosen = |channel: Channel, if_offline: IfOffline| {
        Some(Policy { channel: channel.into(), if_offline: if_offline.into(), ..Policy::default() })
    };
    let mut seq = 0;
    for (to, policy, way, unreachable, quoted) in [
        (BEN_NUMBER, None, Way::Data, IfUnreachable::Kept, false),
        (BEN_NUMBER, chosen(Channel::Data, IfOffline::Sms), Way::Data, IfUnreachable::SmsAtOnce, true),
        (BEN_NUMBER, chosen(Channel::Sms, IfOffline::Store), Way::Sms, IfUnreachable::Operator, true),
        (NOBODY, chosen(Channel::Data, IfOffline::Store), Way::Sms, IfUnreachable::Operator, true),
    ] {
        seq += 1;
        let SendRequest { to, body, .. } = request(seq, to);
        let ask = PlanSendRequest { to: to.clone(), body: body.clone(), policy };
        let plan = world.client().plan_send(world.from(1, ask)).await.expect("planned").into_inner();
        assert_eq!((plan.way(), plan.if_unreachable()), (way, unreachable), "{policy:?}");
        assert_eq!(plan.sms.map(|sms| sms.segments), quoted.then_some(1));
        let accepted = world.send(SendRequest { client_seq: seq, to, body, policy }).await;
        assert_eq!((accepted.way(), accepted.why), (way, plan.why));
    }
    assert_eq!((world.inbox.positions(), world.sms()), (vec![1, 2], vec![3, 4]));
}
