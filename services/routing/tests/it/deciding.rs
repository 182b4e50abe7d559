//! What becomes of a message.

use std::time::Duration;

use dialtone_log::limits::{OFFER_RETRY, OFFER_RETRY_MOST};
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::bus::v1::offer_entry::Entry;
use dialtone_proto::types::v1::{Cursor, FateKind};
use dialtone_routing::limits::FALLBACK_MARGIN;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_declined_message_is_claimed_and_handed_over_until_it_is_taken_and_no_more() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    (world.inbox.message, world.sms_takes) = (Some((Kind::Declined, "NOT_ATTACHED")), false);
    world.send(urgent(1)).await;
    assert_eq!(world.fates(phone), [(1, FateKind::SmsClaimed, String::new(), 2)]);
    world.pass(Duration::from_secs(30)).await;
    assert!(world.sms().len() > 2 && world.sms().iter().all(|idx| *idx == 1), "again and again");
    let submit = world.submitted.last().expect("submitted").clone();
    assert_eq!((submit.to.as_str(), submit.text.as_str()), (BEN_NUMBER, "message 1"));
    world.sms_takes = true;
    world.pass(Duration::from_secs(15)).await;
    let tries = world.sms().len();
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.sms().len(), tries, "taken once");
    for kind in [FateKind::SmsSubmitted, FateKind::SmsDelivered, FateKind::SmsSubmitted] {
        world.sms_result(0, kind);
        world.pass(MOMENT).await;
    }
    let told: Vec<_> = world.fates(phone).into_iter().map(|(of, kind, _, _)| (of, kind)).collect();
    assert_eq!(told, [(1, FateKind::SmsSubmitted), (1, FateKind::SmsDelivered)], "forward only");
    assert_eq!(world.taken_results.len(), 3, "each is answered");
}

#[tokio::test(start_paused = true)]
async fn a_fallback_withdraws_after_its_time_and_goes_as_sms_only_if_it_was_in_time() {
    for (answer, sms) in [(Kind::Withdrawn, vec![1]), (Kind::Delivered, vec![])] {
        let mut world = world().await;
        world.inbox.withdraw = Some(answer);
        let accepted = world.send(urgent(1)).await;
        let Some(Entry::Message(offered)) = world.inbox.offers[0].entries[0].entry.clone() else { panic!() };
        assert_eq!(offered.show_until_ms, accepted.accepted_ms + 10_000);
        let until = Duration::from_secs(10) + FALLBACK_MARGIN - MOMENT * 2;
        world.pass(until).await;
        assert_eq!(world.inbox.positions(), [1], "nobody may show it any more, but not a moment earlier");
        world.pass(Duration::from_secs(2)).await;
        assert_eq!((world.inbox.positions(), world.sms()), (vec![1, 2], sms), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivered_message_needs_no_fallback() {
    let mut world = world().await;
    world.send(urgent(1)).await;
    world.watermarks(1, 0);
    world.pass(Duration::from_secs(60)).await;
    assert_eq!((world.inbox.positions(), world.sms()), (vec![1], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_number_that_moved_on_ends_as_failed_and_never_as_sms() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.inbox.message = Some((Kind::NumberMoved, ""));
    world.send(urgent(1)).await;
    world.inbox.message = Some((Kind::Declined, "NOT_ATTACHED"));
    world.directory.0.write().expect("lock").insert(BEN_NUMBER.into(), (ANNA, 6));
    world.send(urgent(2)).await;
    let told: Vec<_> = world.fates(phone).into_iter().map(|(of, kind, why, _)| (of, kind, why)).collect();
    let failed = |of| (of, FateKind::Failed, "NUMBER_MOVED".to_owned());
    assert_eq!(
        (told, world.sms()),
        (vec![failed(1), failed(3)], vec![]),
        "checked once more before it is claimed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_fails_what_was_to_be_kept_and_sends_the_rest() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.inbox.message = Some((Kind::Declined, "MAILBOX_FULL"));
    world.send(request(1, BEN_NUMBER)).await;
    world.send(urgent(2)).await;
    let told: Vec<_> = world.fates(phone).into_iter().map(|(of, kind, why, _)| (of, kind, why)).collect();
    let expected =
        [(1, FateKind::Failed, "MAILBOX_FULL".to_owned()), (3, FateKind::SmsClaimed, String::new())];
    assert_eq!((&told[..], world.sms()), (&expected[..], vec![3]));
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_has_just_begun_is_offered_again_soon_however_long_it_was_silent() {
    let mut world = world().await;
    world.inbox.message = None;
    world.send(request(1, BEN_NUMBER)).await;
    world.pass(Duration::from_secs(20)).await;
    world.inbox.begins = true;
    world.pass(OFFER_RETRY_MOST).await;
    let offers = world.inbox.offers.len();
    world.pass(10 * OFFER_RETRY).await;
    assert!(world.inbox.offers.len() > offers + 5, "{offers}, {}", world.inbox.offers.len());
}

#[tokio::test(start_paused = true)]
async fn offers_are_repeated_until_they_are_answered_and_then_no_more() {
    let mut world = world().await;
    world.inbox.message = None;
    world.send(request(1, BEN_NUMBER)).await;
    world.send(request(2, BEN_NUMBER)).await;
    world.pass(Duration::from_secs(20)).await;
    assert!(world.inbox.offers.len() > 4, "silence is no answer");
    world.inbox.message = Some((Kind::Kept, ""));
    world.pass(Duration::from_secs(10)).await;
    let offers = world.inbox.offers.len();
    assert_eq!(world.inbox.positions().last(), Some(&2));
    world.pass(Duration::from_secs(60)).await;
    assert_eq!(world.inbox.offers.len(), offers);
}
