//! Inboxes that reach far beyond what is in memory.

use std::time::Duration;

use dialtone_offline::Sabotage;
use dialtone_offline::limits::CACHE;
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::types::v1::Cursor;
use dialtone_store::MemoryDisk;

use crate::world::*;

const MANY: u64 = CACHE as u64 + 500;

/// The device stores and acknowledges whatever it is shown.
async fn drinks(world: &mut World, phone: usize) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    loop {
        let shown = world.entries(phone);
        let Some((last, _)) = shown.last() else { return all };
        world.ack(phone, *last);
        all.extend(shown);
        world.pass(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_far_behind_gets_everything_once_and_every_sender_learns_of_it() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    world.offered(1, 0, vec![message(1, 1), message(1, 2), withdraw(3, 2)]).await;
    world.keeps(1, MANY).await;
    let mut world = world.crash(&disk, Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    let all = drinks(&mut world, phone).await;
    assert_eq!(all.len() as u64, MANY + 3);
    let first: Vec<_> = all.iter().take(4).map(|(_, what)| what.as_str()).collect();
    assert_eq!(first, ["1/1", "gone 2", "gone 2", "0/1"]);
    assert!(all.iter().zip(1..).all(|((idx, _), at)| *idx == at), "in order, none left out");
    world.pass(Duration::from_secs(2)).await;
    assert_eq!((world.watermark(0), world.watermark(1)), ((MANY, 0), (1, 0)));
    world.read(phone, SENDERS[1], 1);
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.watermark(1), (1, 1), "read, though it is no longer in memory");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_in_memory_is_withdrawn_and_answered_all_the_same() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.offered(1, 0, vec![message(1, 1), message(1, 2)]).await;
    world.ack(phone, 1);
    world.pass(Duration::from_millis(50)).await;
    world.close(phone);
    world.keeps(1, MANY).await;
    assert_eq!(world.offered(1, 0, vec![message(1, 1)]).await, [(1, Kind::Kept)]);
    let answers = world.offered(1, 2, vec![withdraw(3, 1), withdraw(4, 2)]).await;
    assert_eq!(answers, [(3, Kind::Delivered), (4, Kind::Withdrawn)]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_of_what_is_past_its_time_does_not_hold_up_what_follows() {
    let mut world = world().await;
    world.keeps(1, 1).await;
    tokio::time::advance(Duration::from_secs(31 * 24 * 3_600)).await;
    world.keeps(2, MANY).await;
    let answers = world.offered(0, MANY, vec![withdraw(MANY + 1, 1), message(0, MANY + 2)]).await;
    assert_eq!(answers, [(MANY + 1, Kind::Delivered), (MANY + 2, Kind::Kept)]);
}

#[tokio::test(start_paused = true)]
async fn two_restarts_around_a_new_bucket_take_nothing_twice() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    assert_eq!(world.offered(1, 0, vec![message(1, 1)]).await, [(1, Kind::Kept)]);
    let mut world = world.crash(&disk, Sabotage::default()).await;
    world.keeps(1, MANY).await;
    let mut world = world.crash(&disk, Sabotage::default()).await;
    assert_eq!(world.offered(1, 0, vec![message(1, 1)]).await, [(1, Kind::Kept)]);
    let head = world.client().get_cursor(world.from(1, <_>::default())).await.expect("answered");
    assert_eq!(head.into_inner().head, MANY + 1, "taken once");
}

#[tokio::test(start_paused = true)]
async fn a_device_with_a_cursor_of_another_log_sees_every_withdrawal() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    world.offered(1, 0, vec![message(1, 1), withdraw(2, 1)]).await;
    world.keeps(1, MANY).await;
    let mut world = world.crash(&disk, Sabotage::default()).await;
    for idx in [9_000, u64::MAX] {
        let phone = world.open(1, Cursor { log_id: vec![9; 16], idx }).await;
        let shown = world.entries(phone);
        assert_eq!(shown[..2], [(0, "resync".into()), (1, "gone 1".into())], "cursor {idx}");
    }
}
