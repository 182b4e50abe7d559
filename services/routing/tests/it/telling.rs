//! Telling sessions: receipts, and the fates that came while they were away.

use std::time::Duration;

use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::types::v1::{Cursor, FateKind};
use dialtone_routing::Sabotage;
use dialtone_routing::limits::FATES_STEP;
use dialtone_store::MemoryDisk;

use crate::world::*;

fn receipts(frames: &[Frame]) -> Vec<(u64, u64)> {
    let receipts = frames.iter().filter_map(|frame| match frame {
        Frame::Receipt(receipt) => Some((receipt.delivered_sent_idx, receipt.read_sent_idx)),
        _ => None,
    });
    receipts.collect()
}

#[tokio::test(start_paused = true)]
async fn receipts_are_watermarks_told_to_who_is_there_and_to_who_comes_later() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    for seq in 1..=3 {
        world.send(request(seq, BEN_NUMBER)).await;
    }
    world.frames(phone);
    for (delivered, read) in [(2, 1), (1, 0), (2, 1), (3, 9)] {
        world.watermarks(delivered, read);
        world.pass(MOMENT).await;
    }
    assert_eq!(receipts(&world.frames(phone)), [(2, 1), (3, 3)], "only news, and never back");
    let laptop = world.open(2, Cursor::default()).await;
    assert_eq!(receipts(&world.frames(laptop)), [(3, 3)]);
    world.pass(Duration::from_secs(2)).await;
    let last = world.taken_watermarks.last().expect("taken");
    assert_eq!((last.delivered, last.read), (3, 9), "its inbox need not repeat it");
    let mut world = world.crash(&disk, Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    assert_eq!(receipts(&world.frames(phone)), [(3, 3)], "what was taken is on disk");
    assert_eq!(world.attached(phone).last_client_seq, 3);
}

#[tokio::test(start_paused = true)]
async fn watermarks_are_taken_when_they_are_on_disk() {
    let slow = Duration::from_millis(600);
    let mut world = start(&MemoryDisk::with_delay(slow..=slow), Sabotage::default()).await;
    world.send(request(1, BEN_NUMBER)).await;
    world.pass(Duration::from_secs(5)).await;
    world.watermarks(1, 0);
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(world.taken_watermarks, []);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.taken_watermarks.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_fates_after_the_outbox_cursor_are_told_on_attaching() {
    let mut world = world().await;
    world.inbox.message = Some((Kind::Declined, "MAILBOX_FULL"));
    for seq in 1..=3 {
        world.send(request(seq, BEN_NUMBER)).await;
    }
    let log_id = world.inbox.offers[0].source.clone();
    let at = |idx| Cursor { log_id: log_id.clone(), idx };
    let failed = |of, idx| (of, FateKind::Failed, "MAILBOX_FULL".to_owned(), idx);
    for (cursor, expected) in [
        (at(0), vec![failed(1, 2), failed(3, 4), failed(5, 6)]),
        (at(4), vec![failed(5, 6)]),
        (at(6), vec![]),
        (Cursor { log_id: vec![7; 16], idx: 0 }, vec![]),
    ] {
        let phone = world.open(1, cursor).await;
        assert_eq!(world.fates(phone), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn many_fates_are_told_in_steps_each_once_and_in_order() {
    let mut world = world().await;
    world.inbox.message = Some((Kind::Declined, "MAILBOX_FULL"));
    let many = 2 * FATES_STEP;
    for seq in 1..=many {
        world.send(request(seq, BEN_NUMBER)).await;
    }
    let log_id = world.inbox.offers[0].source.clone();
    let phone = world.open(1, Cursor { log_id, idx: 0 }).await;
    let mut all = world.fates(phone);
    assert!(!all.is_empty() && (all.len() as u64) < many, "not all of {many} at once");
    world.send(request(many + 1, BEN_NUMBER)).await;
    world.pass(Duration::from_secs(3)).await;
    all.extend(world.fates(phone));
    assert_eq!(all.len() as u64, many + 1);
    assert!(all.is_sorted_by(|before, after| before.3 < after.3), "what is new waits for its turn");
    world.send(request(many + 2, BEN_NUMBER)).await;
    assert_eq!(world.fates(phone).len(), 1, "at once again");
}
