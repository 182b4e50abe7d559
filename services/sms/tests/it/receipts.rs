//! Delivery receipts find the submit that they speak of.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_proto::types::v1::FateKind;
use dialtone_store::{Batch, Commit, Db, MemoryDisk};
use rusmpp::values::MessageType;

use crate::peer::*;
use crate::world::*;

fn delivered(id: &str) -> rusmpp::pdus::DeliverSm {
    receipt(&format!(
        "id:{id} sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:DELIVRD err:000 text:"
    ))
}

fn undelivered(id: &str) -> rusmpp::pdus::DeliverSm {
    receipt(&format!(
        "id:{id} sub:001 dlvrd:000 submit date:2601010000 done date:2601010000 stat:UNDELIV err:011 text:"
    ))
}

#[tokio::test(start_paused = true)]
async fn receipts_are_matched_to_their_submits_in_any_order() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends((1..=3).map(|n| message(n, "tell me"))).await;
    for id in ["a", "b", "c"] {
        peer.taken(id).await;
        assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    }
    assert_eq!(peer.delivered(delivered("c")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (3, FateKind::SmsDelivered, String::new()));
    assert_eq!(peer.delivered(undelivered("a")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (1, FateKind::SmsFailed, "UNDELIVERABLE".into()));
    assert_eq!(peer.delivered(delivered("b")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (2, FateKind::SmsDelivered, String::new()));
    // Once more: taken, and nothing follows.
    assert_eq!(peer.delivered(delivered("b")).await, Status::EsmeRok);
    world.no_result(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_receipt_before_the_answer_to_its_submit_is_asked_for_again() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "fast")]).await;
    let (sequence, _) = peer.submit().await;
    assert_eq!(peer.delivered(delivered("a")).await, Status::EsmeRxTAppn, "whose that is is not known yet");
    peer.take(sequence, "a").await;
    assert_eq!(world.result().await, (1, FateKind::SmsSubmitted, String::new()));
    assert_eq!(peer.delivered(delivered("a")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_finds_no_submit_is_refused_for_a_minute_and_then_forgotten() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "throttled for an hour")]).await;
    let clock = world.chassis.clock.clone();
    let began = clock.instant();
    while peer.delivered(delivered("of another life")).await == Status::EsmeRxTAppn {
        assert!(clock.instant() - began < Duration::from_secs(600), "for ever");
        let second = clock.instant() + Duration::from_secs(1);
        while let Ok((sequence, _)) = clock.timeout(second - clock.instant(), peer.submit()).await {
            peer.refuse(sequence, Status::EsmeRthrottled).await;
        }
    }
    let passed = (clock.instant() - began).as_secs();
    assert!((60..=61).contains(&passed), "{passed}");
    assert_eq!(peer.delivered(delivered("of a third")).await, Status::EsmeRxTAppn, "each has its own minute");
}

#[tokio::test(start_paused = true)]
async fn a_receipt_together_with_the_answer_is_not_lost() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "fast")]).await;
    let (sequence, _) = peer.submit().await;
    // Both are there before the bridge has looked at either.
    peer.take(sequence, "a").await;
    if peer.delivered(delivered("a")).await != Status::EsmeRok {
        assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
        assert_eq!(peer.delivered(delivered("a")).await, Status::EsmeRok);
        assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
        return;
    }
    assert_eq!(
        [world.result().await.1, world.result().await.1],
        [FateKind::SmsSubmitted, FateKind::SmsDelivered]
    );
}

#[tokio::test(start_paused = true)]
async fn a_receipt_finds_its_submit_after_a_rebind_and_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "rebind"), message(2, "restart")]).await;
    for id in ["a", "b"] {
        peer.taken(id).await;
        assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    }
    drop(peer);
    let mut peer = world.operator().await;
    assert_eq!(peer.delivered(delivered("a")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
    world.stop().await;
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    assert_eq!(peer.delivered(delivered("b")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (2, FateKind::SmsDelivered, String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_text_in_parts_is_delivered_with_its_last_and_fails_with_its_first_that_does() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, &"a".repeat(400)), message(2, &"b".repeat(400))]).await;
    // The parts of the two may go out between each other.
    for _ in 0..6 {
        let (sequence, submit) = peer.submit().await;
        let octets = submit.short_message().as_ref();
        let id = format!("{}{}", char::from(octets[6]), octets[5]);
        peer.take(sequence, &id).await;
    }
    for _ in 0..2 {
        assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    }
    for id in ["a2", "b3", "a1"] {
        assert_eq!(peer.delivered(delivered(id)).await, Status::EsmeRok);
    }
    world.no_result(&mut peer).await;
    assert_eq!(peer.delivered(delivered("a3")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
    assert_eq!(peer.delivered(undelivered("b1")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (2, FateKind::SmsFailed, "UNDELIVERABLE".into()));
    assert_eq!(peer.delivered(delivered("b2")).await, Status::EsmeRok);
    world.no_result(&mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn receipts_after_the_end_are_told_to_nobody_and_write_nothing() {
    let slow = Duration::from_secs(1);
    let mut world = world_on(&MemoryDisk::with_delay(slow..=slow)).await;
    let mut peer = world.operator().await;
    world.sends([message(1, &"a".repeat(400))]).await;
    for id in ["1", "2", "3"] {
        peer.taken(id).await;
    }
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    assert_eq!(peer.delivered(undelivered("1")).await, Status::EsmeRok);
    assert_eq!(world.result().await.1, FateKind::SmsFailed);
    world.pass(&mut peer, Duration::from_secs(5)).await;
    let clock = world.chassis.clock.clone();
    while clock.timeout(Duration::from_millis(10), world.told()).await.is_ok() {}
    let began = clock.instant();
    for late in [undelivered("2"), delivered("3"), delivered("2")] {
        assert_eq!(peer.delivered(late).await, Status::EsmeRok);
    }
    assert_eq!(clock.instant(), began, "no write was waited for");
    assert!(clock.timeout(Duration::from_secs(10), world.told()).await.is_err(), "it failed once");
}

#[tokio::test(start_paused = true)]
async fn receipts_that_say_nothing_final_or_of_nothing_of_ours_are_taken_and_forgotten() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "wait")]).await;
    peer.taken("a").await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    assert_eq!(peer.delivered(receipt("id:a stat:ENROUTE")).await, Status::EsmeRok);
    assert_eq!(peer.delivered(receipt("id:a stat:ACCEPTD")).await, Status::EsmeRok);
    assert_eq!(peer.delivered(delivered("of another")).await, Status::EsmeRok);
    let mut between = receipt("id:a stat:ENROUTE");
    between.esm_class.message_type = MessageType::ShortMessageContainsIntermediateDeliveryNotification;
    assert_eq!(peer.delivered(between).await, Status::EsmeRok);
    assert_eq!(peer.delivered(receipt("no receipt at all")).await, Status::EsmeRxPAppn);
    world.no_result(&mut peer).await;
    world.no_offer(&mut peer).await;
    assert_eq!(peer.delivered(receipt("id:a stat:EXPIRED")).await, Status::EsmeRok);
    assert_eq!(world.result().await, (1, FateKind::SmsFailed, "UNDELIVERABLE".into()));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_that_ended_an_sms_and_was_not_answered_writes_its_result_again() {
    let disk = MemoryDisk::new();
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "torn")]).await;
    peer.taken("a").await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    assert_eq!(peer.delivered(delivered("a")).await, Status::EsmeRok);
    assert_eq!(world.told().await.kind(), FateKind::SmsDelivered);
    world.stop().await;
    // As if the process had ended before the result was written.
    let chassis = Chassis::for_tests(9);
    let db = Db::open_memory(&disk, dialtone_sms::SCHEMA, &chassis).expect("opens");
    let results = db.walk("sms_result", &[], 9).await.expect("read");
    assert_eq!(results.len(), 1);
    let torn = Batch::new().delete("sms_result", results[0].0.to_vec());
    assert_eq!(db.commit(torn).await, Ok(Commit::Applied));
    drop(db);
    assert!(chassis.tasks.shutdown(Duration::from_secs(5)).await);
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.no_result(&mut peer).await;
    assert_eq!(peer.delivered(undelivered("a")).await, Status::EsmeRok, "whatever it says now");
    assert_eq!(world.result().await, (1, FateKind::SmsDelivered, String::new()));
}
