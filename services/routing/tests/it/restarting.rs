//! Every restart is a take-over.

use std::time::Duration;

use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_routing::Sabotage;
use dialtone_routing::ledger::{self, Ledger};
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::Reason;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn what_was_due_is_done_after_a_restart_without_anybody_asking() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    (world.inbox.message, world.sms_takes) = (None, false);
    world.send(request(1, BEN_NUMBER)).await;
    world.send(request(2, NOBODY)).await;
    let mut world = world.crash(&disk, Sabotage::default()).await;
    (world.inbox.message, world.sms_takes) = (Some((Kind::Kept, "")), true);
    world.inbox.offers.clear();
    world.submitted.clear();
    world.pass(Duration::from_secs(2)).await;
    assert_eq!((world.inbox.positions(), world.sms()), (vec![1], vec![2]));
    let mut world = world.crash(&disk, Sabotage::default()).await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!((world.inbox.positions(), world.sms()), (vec![1], vec![2]), "settled: nothing is due");
}

#[tokio::test(start_paused = true)]
async fn a_fallback_waits_across_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    world.send(urgent(1)).await;
    world.pass(Duration::from_secs(2)).await;
    let mut world = world.crash(&disk, Sabotage::default()).await;
    // The new process's clock begins anew: all of it has to pass once more.
    world.pass(Duration::from_secs(13)).await;
    assert!(world.submitted.is_empty());
    world.pass(Duration::from_secs(4)).await;
    assert_eq!((world.sms(), world.inbox.positions().last()), (vec![1], Some(&2)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_with_its_process_is_given_again_and_decided_once() {
    let disk = MemoryDisk::with_delay(Duration::from_millis(200)..=Duration::from_millis(200));
    let mut world = start(&disk, Sabotage::default()).await;
    world.inbox.message = Some((Kind::Declined, "NOT_ATTACHED"));
    world.send(urgent(1)).await;
    while world.inbox.offers.is_empty() {
        world.pass(Duration::from_millis(1)).await;
    }
    let mut world = world.crash(&disk, Sabotage::default()).await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.sms(), [1], "claimed by the new process, sent once");
}

#[tokio::test(start_paused = true)]
async fn two_restarts_around_a_new_bucket_forget_no_number_of_a_device() {
    let disk = MemoryDisk::new();
    let world = start(&disk, Sabotage::default()).await;
    let first = world.send_from(2, request(1, BEN_NUMBER)).await.expect("accepted");
    // Dies before anything but the entry itself is on disk.
    let mut world = world.crash(&disk, Sabotage::default()).await;
    for seq in 1..=1_100 {
        world.send_from(1, request(seq, BEN_NUMBER)).await.expect("accepted");
    }
    world.pass(Duration::from_secs(5)).await;
    let world = world.crash(&disk, Sabotage::default()).await;
    assert_eq!(world.send_from(2, request(1, BEN_NUMBER)).await.expect("accepted"), first);
    let other = world.send_from(2, request(1, NOBODY)).await.expect_err("refused");
    assert_eq!(reason(&other), Reason::SequenceReused);
    assert!(world.send_from(2, request(2, BEN_NUMBER)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_ledger_on_disk_adds_up_and_says_what_became_of_everything() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    world.send(request(1, BEN_NUMBER)).await;
    world.watermarks(1, 0);
    let kept = world.send(request(2, BEN_NUMBER)).await;
    let revoked = world.send(request(3, BEN_NUMBER)).await;
    world.revoke(revoked.sent_idx).await.expect("answered");
    world.send(request(4, NOBODY)).await;
    world.inbox.message = Some((Kind::Declined, "MAILBOX_FULL"));
    world.send(urgent(5)).await;
    world.send(request(6, BEN_NUMBER)).await;
    world.inbox.message = None;
    world.send(request(7, BEN_NUMBER)).await;
    world.pass(Duration::from_secs(2)).await;
    let chassis = world.chassis.clone();
    drop(world);
    let logs = ledger::open(StoreUrl::memory(&disk), None, &chassis).await.expect("opens");
    let counted = ledger::recount(&logs, &chassis).await.expect("counted");
    assert_eq!(
        counted,
        Ledger { accepted: 7, waiting: 1, kept: 1, delivered: 1, sms: 2, revoked: 1, failed: 1 },
        "{kept:?} is kept"
    );
    assert_eq!(counted.difference(), 0);
}
