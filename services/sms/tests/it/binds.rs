//! The bind: made, lost, made again.

use std::time::Duration;

use dialtone_proto::types::v1::FateKind;
use rusmpp::pdus::BindTransceiverResp;
use rusmpp::{CommandId, Pdu};

use crate::peer::*;
use crate::world::*;

/// Lets everything happen that needs no more than this.
async fn pass(world: &World, time: Duration) {
    world.chassis.clock.sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn the_bridge_binds_as_a_transceiver_with_its_name_and_password() {
    let mut world = world().await;
    let mut peer = world.connection().await;
    let bind = peer.bound().await;
    assert_eq!((bind.system_id.as_str(), bind.password.as_str()), ("dialtone", "secret"));
    pass(&world, Duration::from_secs(1)).await;
    assert_eq!(world.missing(), None);
    drop(peer);
    pass(&world, Duration::from_millis(1)).await;
    assert_eq!(world.missing().as_deref(), Some("not bound to the operator"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_said_clearly_and_tried_again_ever_more_slowly() {
    let mut world = world().await;
    let began = world.chassis.clock.instant();
    let mut tries = 0;
    while world.chassis.clock.instant() - began < Duration::from_secs(120) {
        let mut peer = world.connection().await;
        let bind = peer.next_of(CommandId::BindTransceiver, None).await;
        peer.say(Status::EsmeRinvpaswd, bind.sequence_number(), BindTransceiverResp::default()).await;
        assert!(peer.next().await.is_none(), "closed");
        tries += 1;
        let why = world.missing().expect("not bound");
        assert!(why.contains("ESME_RINVPASWD") && why.contains("sms.password"), "{why}");
    }
    assert!((12..100).contains(&tries), "{tries} tries in two minutes: at most 10 s apart, and not in a row");
    let _peer = world.operator().await;
    pass(&world, Duration::from_secs(1)).await;
    assert_eq!(world.missing(), None);
}

#[tokio::test(start_paused = true)]
async fn a_bind_that_is_lost_at_once_every_time_is_not_made_in_a_tight_loop() {
    let mut world = world().await;
    let began = world.chassis.clock.instant();
    let mut binds = 0;
    while world.chassis.clock.instant() - began < Duration::from_secs(120) {
        drop(world.operator().await);
        binds += 1;
    }
    assert!((12..100).contains(&binds), "{binds} binds in two minutes");
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_a_bind_goes_over_the_next_one() {
    let mut world = world().await;
    drop(world.operator().await);
    world.sends([message(1, "one"), message(2, "two")]).await;
    let mut peer = world.operator().await;
    // In any order.
    let mut texts =
        [peer.taken("a").await, peer.taken("b").await].map(|submit| submit.short_message().to_vec());
    texts.sort();
    assert_eq!(texts, [b"one".to_vec(), b"two".to_vec()]);
    let mut results = [world.result().await, world.result().await];
    results.sort_by_key(|(n, _, _)| *n);
    assert_eq!(results.map(|(n, kind, _)| (n, kind)), [1, 2].map(|n| (n, FateKind::SmsSubmitted)));
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_go_both_ways() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    let began = world.chassis.clock.instant();
    for _ in 0..10 {
        let enquire = peer.next().await.expect("open");
        assert_eq!(enquire.id(), CommandId::EnquireLink);
        peer.say(Status::EsmeRok, enquire.sequence_number(), Pdu::EnquireLinkResp).await;
    }
    let passed = (world.chassis.clock.instant() - began).as_secs();
    assert!((150..=165).contains(&passed), "one each 15 s or little more: {passed}");
    let sequence = peer.ask(Pdu::EnquireLink).await;
    let answer = peer.next().await.expect("open");
    assert_eq!((answer.id(), answer.sequence_number()), (CommandId::EnquireLinkResp, sequence));
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_says_nothing_for_45_seconds_is_left_and_bound_again() {
    let mut world = world().await;
    let mut silent = world.operator().await;
    let began = world.chassis.clock.instant();
    while silent.next().await.is_some() {}
    let passed = (world.chassis.clock.instant() - began).as_secs();
    assert!((45..=46).contains(&passed), "{passed}");
    world.operator().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_that_does_not_read_is_left_and_what_was_half_out_is_unknown() {
    let mut world = start(Setup { pipe: 64, ..Setup::default() }).await;
    let _deaf = world.operator().await;
    world.sends([message(1, &"long ".repeat(30))]).await;
    let mut peer = world.operator().await;
    assert_eq!(world.result().await, (1, FateKind::SmsUnknown, String::new()));
    no_submit(&world, &mut peer).await;
}

#[tokio::test(start_paused = true)]
async fn an_unbind_is_answered_and_a_new_bind_made() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    let sequence = peer.ask(Pdu::Unbind).await;
    let answer = peer.next().await.expect("open");
    assert_eq!((answer.id(), answer.sequence_number()), (CommandId::UnbindResp, sequence));
    assert!(peer.next().await.is_none(), "closed");
    world.operator().await;
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_is_refused_once_and_the_bind_lives() {
    let mut world = world().await;
    let mut peer = world.operator().await;
    // A command that nobody has, and one with an answer's bit.
    assert!(peer.raw(&raw_pdu(18, 0x0bad, 0, 7, b"xx")).await);
    let nack = peer.next().await.expect("open");
    assert_eq!(
        (nack.id(), nack.status(), nack.sequence_number()),
        (CommandId::GenericNack, Status::EsmeRinvcmdid, 7)
    );
    assert!(peer.raw(&raw_pdu(18, 0x8000_0bad, 0, 8, b"xx")).await);
    // A deliver that ends within its addresses: no repetition would mend it.
    assert!(peer.raw(&raw_pdu(20, 5, 0, 9, &[0, 1, 1, b'x'])).await);
    assert_eq!(peer.answer_to_deliver(9).await, Status::EsmeRxPAppn);
    world.sends([message(1, "still bound")]).await;
    peer.taken("a").await;
    assert_eq!(world.result().await.1, FateKind::SmsSubmitted);
    // A length that no PDU has: there is no way to read on.
    assert!(peer.raw(&raw_pdu(3, 5, 0, 10, &[])).await);
    assert!(peer.next().await.is_none(), "closed");
    world.operator().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_text_that_has_begun_to_leave_leave_and_unbinds() {
    let disk = dialtone_store::MemoryDisk::new();
    let mut before = world_on(&disk).await;
    let mut peer = before.operator().await;
    before.sends([message(1, &"a".repeat(200))]).await;
    let (sequence, _) = peer.submit().await;
    let (tasks, clock) = (before.chassis.tasks.clone(), before.chassis.clock.clone());
    drop(before);
    let operator = async {
        clock.sleep(Duration::from_millis(50)).await;
        peer.take(sequence, "a").await;
        let (sequence, _) = peer.submit().await;
        clock.sleep(Duration::from_millis(50)).await;
        peer.take(sequence, "b").await;
        assert_eq!(peer.next().await.expect("open").id(), CommandId::Unbind);
        assert!(peer.next().await.is_none(), "closed");
    };
    let (ended, ()) = tokio::join!(tasks.shutdown(Duration::from_secs(10)), operator);
    assert!(ended);
    let mut after = world_on(&disk).await;
    assert_eq!(after.result().await, (1, FateKind::SmsSubmitted, String::new()));
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_an_operator_keeps_what_waits() {
    let disk = dialtone_store::MemoryDisk::new();
    let before = world_on(&disk).await;
    // More than a window: some wait for a slot, some for the bind.
    before.sends((1..=20).map(|n| message(n, "waits"))).await;
    before.stop().await;
    let mut after = world_on(&disk).await;
    let mut peer = after.operator().await;
    for n in 1..=20 {
        peer.taken(&n.to_string()).await;
    }
    for _ in 1..=20 {
        assert_eq!(after.result().await.1, FateKind::SmsSubmitted);
    }
    no_submit(&after, &mut peer).await;
}
