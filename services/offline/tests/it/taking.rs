//! Taking what sources offer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dialtone_bus::subjects;
use dialtone_offline::Sabotage;
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::bus::v1::{BlockFact, FactTaken};
use dialtone_proto::types::v1::Cursor;
use dialtone_store::MemoryDisk;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_position_is_taken_once_and_answered_the_same_again_also_after_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    world.pass(Duration::from_secs(4)).await;
    let entries = vec![message(0, 3), urgent(0, 7), message(0, 8)];
    let expected = [(3, Kind::Kept), (7, Kind::Declined), (8, Kind::Kept)];
    assert_eq!(world.offered(0, 0, entries.clone()).await, expected);
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(
        world.offered(0, 0, entries.clone()).await,
        expected,
        "declined for good, though a device came"
    );
    let inbox = [(1, "0/3".into()), (2, "gone 2".into()), (3, "0/8".into())];
    assert_eq!(world.entries(phone), inbox);
    let mut world = world.crash(&disk, Sabotage::default()).await;
    assert_eq!(world.offered(0, 0, entries).await, expected, "by the entries that were found");
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(world.entries(phone), inbox, "nothing twice");
}

#[tokio::test(start_paused = true)]
async fn an_offer_behind_a_gap_is_told_where_to_go_on() {
    let mut world = world().await;
    world.keeps(1, 2).await;
    for wrong in [0, 1, 5] {
        assert_eq!(world.offered(0, wrong, vec![message(0, 9)]).await, []);
        world.offer(0, 0, wrong, vec![message(0, 9)]);
        world.pass(Duration::from_millis(20)).await;
        let answer = world.answers.pop().expect("answered");
        assert!(answer.expected && answer.taken == 2, "{answer:?}");
    }
    assert_eq!(world.offered(0, 2, vec![message(0, 9)]).await, [(9, Kind::Kept)]);
    assert_eq!(world.offered(1, 0, vec![message(1, 4)]).await, [(4, Kind::Kept)], "each source for itself");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_declined_while_devices_are_attaching() {
    let mut world = start(&MemoryDisk::new(), Sabotage::default()).await;
    assert_eq!(world.offered(0, 0, vec![message(0, 1), urgent(0, 2)]).await, [(1, Kind::Kept)]);
    world.offer(0, 0, 1, vec![urgent(0, 2)]);
    world.pass(Duration::from_millis(20)).await;
    assert!(world.answers.pop().expect("answered").wait, "and says so");
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(world.offered(0, 1, vec![urgent(0, 2)]).await, [(2, Kind::Kept)]);
    world.close(phone);
    assert_eq!(world.offered(0, 2, vec![urgent(0, 3)]).await, [], "still too early");
    world.pass(Duration::from_secs(3)).await;
    assert_eq!(world.offered(0, 2, vec![urgent(0, 3)]).await, [(3, Kind::Declined)]);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_moved_on_takes_nothing() {
    let mut world = world().await;
    world.epoch.store(0, Ordering::Relaxed);
    assert_eq!(world.offered(0, 0, vec![message(0, 1)]).await, [], "identity can't be asked: not decided");
    world.epoch.store(6, Ordering::Relaxed);
    assert_eq!(world.offered(0, 0, vec![message(0, 1)]).await, [(1, Kind::NumberMoved)]);
    world.epoch.store(5, Ordering::Relaxed);
    assert_eq!(world.offered(0, 0, vec![message(0, 1)]).await, [(1, Kind::NumberMoved)], "as it was taken");
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(world.entries(phone), [(1, "gone 1".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_declines_until_something_is_acknowledged() {
    let mut world = world().await;
    world.keeps(1, KEPT_PER_USER).await;
    let next = KEPT_PER_USER + 1;
    world.offer(0, 0, next - 1, vec![message(0, next)]);
    world.pass(Duration::from_millis(20)).await;
    let answer = world.answers.pop().expect("answered").answers.remove(0);
    assert_eq!((answer.kind(), answer.why.as_str()), (Kind::Declined, "MAILBOX_FULL"));
    let phone = world.open(1, Cursor::default()).await;
    world.ack(phone, 10);
    world.pass(Duration::from_millis(20)).await;
    assert_eq!(world.offered(0, next, vec![message(0, next + 1)]).await, [(next + 1, Kind::Kept)]);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_sender_is_answered_as_if_nothing_were() {
    let mut world = world().await;
    block(&world, true, 1).await;
    assert_eq!(world.offered(2, 0, vec![urgent(2, 1)]).await, [(1, Kind::Kept)], "not declined: no SMS");
    assert_eq!(world.offered(2, 1, vec![withdraw(2, 1)]).await, [(2, Kind::Delivered)], "no SMS either");
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(world.entries(phone), [(1, "gone 1".into()), (2, "gone 0".into())]);
    block(&world, false, 3).await;
    block(&world, true, 2).await;
    world.offered(2, 2, vec![message(2, 3)]).await;
    assert_eq!(world.entries(phone), [(3, "2/3".into())], "an older fact changes nothing");
}

async fn block(world: &World, on: bool, version: u64) {
    let fact = BlockFact { by: BEN.to_vec(), user: SENDERS[2].to_vec(), on, version };
    let within = Duration::from_secs(2);
    world.wire.request::<_, FactTaken>(&subjects::offline_fact(), fact, within).await.expect("taken");
}
