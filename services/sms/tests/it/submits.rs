//! What is handed to the operator, once; and what is said of it.

use std::collections::BTreeSet;
use std::time::Duration;

use dialtone_proto::bus::v1::{SmsSubmit, sms_submit};
use dialtone_proto::types::v1::FateKind;
use dialtone_store::MemoryDisk;
use rusmpp::Pdu;

use crate::peer::*;
use crate::world::*;

#[tokio::test(start_paused = true)]
async fn at_most_a_window_of_16_is_without_an_answer() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends((1..=40).map(|n| message(n, "one of many"))).await;
    let mut waiting = Vec::new();
    for _ in 0..16 {
        waiting.push(peer.submit().await.0);
    }
    let clock = world.chassis.clock.clone();
    assert!(clock.timeout(Duration::from_secs(10), peer.submit()).await.is_err(), "the window is full");
    for n in 0..24 {
        peer.take(waiting.pop().expect("waiting"), &n.to_string()).await;
        waiting.push(peer.submit().await.0);
    }
    assert!(clock.timeout(Duration::from_secs(10), peer.submit()).await.is_err(), "forty, each once");
}

#[tokio::test(start_paused = true)]
async fn no_answer_within_60_seconds_is_unknown_and_never_sent_again_by_itself() {
    let disk = MemoryDisk::new();
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    world.sends([message(1, "lost")]).await;
    let began = world.chassis.clock.instant();
    let (late, _) = peer.submit().await;
    // Others flow all the while.
    for n in 2..=130 {
        world.chassis.clock.sleep(Duration::from_millis(500)).await;
        world.sends([message(n, "flows")]).await;
        peer.taken(&n.to_string()).await;
        if world.result().await == (1, FateKind::SmsUnknown, String::new()) {
            break;
        }
    }
    let passed = (world.chassis.clock.instant() - began).as_secs();
    assert!((60..=62).contains(&passed), "unknown after {passed} s");
    // An answer that comes too late changes nothing, nor does a restart.
    peer.take(late, "late").await;
    no_submit(&world, &mut peer).await;
    world.stop().await;
    let mut after = world_on(&disk).await;
    let mut peer = after.operator().await;
    assert_eq!(after.send(message(1, "lost")).await.refused, "", "taken is taken");
    no_submit(&after, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn what_had_no_answer_when_the_bind_was_lost_is_unknown() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "out"), message(2, "taken")]).await;
    peer.submit().await;
    peer.taken("b").await;
    drop(peer);
    let results = [world.result().await, world.result().await];
    assert!(results.contains(&(1, FateKind::SmsUnknown, String::new())), "{results:?}");
    assert!(results.contains(&(2, FateKind::SmsSubmitted, String::new())), "{results:?}");
    let mut peer = world.operator().await;
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_submit_and_answer_leaves_it_unknown() {
    let disk = MemoryDisk::new();
    let mut crashed = world_on(&disk).await;
    let mut peer = crashed.operator().await;
    crashed.sends([message(1, "out")]).await;
    peer.submit().await;
    // Opening the disk again shuts the other process out, as its death would.
    let mut world = world_on(&disk).await;
    let mut peer = world.operator().await;
    assert_eq!(world.result().await, (1, FateKind::SmsUnknown, String::new()));
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn throttled_is_tried_again_ever_more_slowly_until_it_is_taken() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "patience")]).await;
    let clock = world.chassis.clock.clone();
    let (mut sequence, _) = peer.submit().await;
    for (status, pause) in [
        (Status::EsmeRthrottled, 1),
        (Status::EsmeRmsgqful, 2),
        (Status::EsmeRthrottled, 4),
        (Status::EsmeRthrottled, 8),
        (Status::EsmeRthrottled, 16),
        (Status::EsmeRthrottled, 30),
        (Status::EsmeRthrottled, 30),
    ] {
        peer.refuse(sequence, status).await;
        let began = clock.instant();
        let (again, submit) = peer.submit().await;
        assert_eq!(submit.short_message().as_ref(), b"patience");
        let passed = (clock.instant() - began).as_millis();
        assert!((pause * 1_000..pause * 1_000 + 10).contains(&passed), "after {passed} ms, not {pause} s");
        sequence = again;
    }
    peer.take(sequence, "a").await;
    assert_eq!(world.result().await, (1, FateKind::SmsSubmitted, String::new()));
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_window_of_throttled_sms_and_of_throttled_parts_keeps_no_code_from_leaving() {
    for long in [10, 200] {
        let mut world = world().await;
        let mut peer = world.operator().await;
        world.sends((1..=16).map(|n| message(n, &"a".repeat(long)))).await;
        let mut refused = 0;
        while refused < 16 {
            let (sequence, submit) = peer.submit().await;
            // First parts of long texts are taken, and nothing else.
            if submit.short_message().as_ref().starts_with(&[5, 0, 3])
                && submit.short_message().as_ref()[5] == 1
            {
                peer.take(sequence, "first").await;
            } else {
                peer.refuse(sequence, Status::EsmeRmsgqful).await;
                refused += 1;
            }
        }
        let code = SmsSubmit { kind: sms_submit::Kind::Code.into(), ..message(17, "a code") };
        world.sends([code]).await;
        let clock = world.chassis.clock.clone();
        let next = clock.timeout(Duration::from_millis(100), peer.submit()).await;
        let (_, submit) = next.expect("none of the sixteen is tried again before a second has passed");
        assert_eq!(submit.short_message().as_ref(), b"a code");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_throttled_leaves_it_in_the_queue() {
    let disk = MemoryDisk::new();
    let mut crashed = world_on(&disk).await;
    let mut peer = crashed.operator().await;
    crashed.sends([message(1, "not yet")]).await;
    let (sequence, _) = peer.submit().await;
    peer.refuse(sequence, Status::EsmeRthrottled).await;
    crashed.chassis.clock.sleep(Duration::from_millis(500)).await;
    let mut world = world_on(&disk).await;
    world.operator().await.taken("a").await;
    assert_eq!(world.result().await, (1, FateKind::SmsSubmitted, String::new()));
}

#[tokio::test(start_paused = true)]
async fn throttled_for_an_hour_has_failed() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "never")]).await;
    let (clock, began) = (world.chassis.clock.clone(), world.chassis.clock.instant());
    let operator = async {
        loop {
            let (sequence, _) = peer.submit().await;
            peer.refuse(sequence, Status::EsmeRthrottled).await;
        }
    };
    let result = tokio::select! {
        result = world.result() => result,
        () = operator => unreachable!("it goes on for ever"),
    };
    assert_eq!(result, (1, FateKind::SmsFailed, "ESME_RTHROTTLED".into()));
    let passed = (clock.instant() - began).as_secs();
    assert!((3_600..=3_630).contains(&passed), "after {passed} s");
}

#[tokio::test(start_paused = true)]
async fn a_later_part_that_is_throttled_is_repeated_alone() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, &"a".repeat(400))]).await;
    peer.taken("1").await;
    let (sequence, second) = peer.submit().await;
    peer.refuse(sequence, Status::EsmeRthrottled).await;
    let again = peer.taken("2").await;
    assert_eq!(again, second);
    assert_eq!(peer.taken("3").await.short_message().as_ref()[5], 3, "the third part");
    assert_eq!(world.result().await, (1, FateKind::SmsSubmitted, String::new()));
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_text_whose_second_part_was_lost_is_unknown_and_not_begun_again() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, &"a".repeat(400))]).await;
    peer.taken("1").await;
    peer.submit().await;
    drop(peer);
    assert_eq!(world.result().await, (1, FateKind::SmsUnknown, String::new()));
    let mut peer = world.operator().await;
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_fails_with_the_operators_word() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends((1..=4).map(|n| message(n, "no"))).await;
    // With a body, without one (as SMPP says), by a generic_nack, and with a status of the operator's own.
    let mut sequences = Vec::new();
    for _ in 0..4 {
        sequences.push(peer.submit().await.0);
    }
    peer.refuse(sequences[0], Status::EsmeRinvdstadr).await;
    assert!(peer.raw(&raw_pdu(16, 0x8000_0004, 0x45, sequences[1], &[])).await);
    peer.say(Status::EsmeRinvcmdid, sequences[2], Pdu::GenericNack).await;
    peer.refuse(sequences[3], Status::Other(0x0400)).await;
    let mut reasons = BTreeSet::new();
    for _ in 0..4 {
        let (_, kind, reason) = world.result().await;
        assert_eq!(kind, FateKind::SmsFailed);
        reasons.insert(reason);
    }
    let expected = ["ESME_0x00000400", "ESME_RINVCMDID", "ESME_RINVDSTADR", "ESME_RSUBMITFAIL"];
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), expected);
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn taken_without_a_body_is_taken() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    world.sends([message(1, "yes"), message(2, "yes")]).await;
    for _ in 0..2 {
        let (sequence, _) = peer.submit().await;
        assert!(peer.raw(&raw_pdu(16, 0x8000_0004, 0, sequence, &[])).await);
    }
    for _ in 0..2 {
        assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    }
}
