//! Acks, watermarks and withdrawals.

use std::time::Duration;

use dialtone_offline::Sabotage;
use dialtone_offline::limits::WATERMARKS_EVERY;
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::types::v1::Cursor;
use dialtone_store::MemoryDisk;

use crate::world::*;

#[tokio::test(start_paused = true)]
async fn a_withdrawal_before_the_ack_leaves_a_stub_and_one_after_it_is_too_late() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    world.keeps(1, 3).await;
    world.ack(phone, 1);
    world.pass(Duration::from_millis(20)).await;
    let answers = world.offered(0, 3, vec![withdraw(4, 1), withdraw(5, 2)]).await;
    assert_eq!(answers, [(4, Kind::Delivered), (5, Kind::Withdrawn)]);
    let mut shown = world.entries(phone);
    assert_eq!(shown.split_off(3), [(4, "gone 0".into()), (5, "gone 2".into())], "dropped if not shown yet");
    let laptop = world.open(2, Cursor::default()).await;
    let inbox: Vec<_> = world.entries(laptop).into_iter().map(|(_, what)| what).collect();
    assert_eq!(inbox, ["0/1", "gone 2", "0/3", "gone 0", "gone 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_under_way_holds_back_acks_and_an_ack_under_way_a_withdrawal() {
    let disk = MemoryDisk::with_delay(Duration::from_millis(100)..=Duration::from_millis(100));
    let mut world = start(&disk, Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    world.offer(0, 0, 0, vec![message(0, 1), message(0, 2)]);
    world.pass(Duration::from_secs(1)).await;
    world.offer(0, 0, 2, vec![withdraw(3, 1)]);
    world.pass(Duration::from_millis(10)).await;
    world.ack(phone, 2);
    world.pass(Duration::from_millis(500)).await;
    let answers: Vec<_> = world.answers.drain(..).flat_map(|answers| answers.answers).collect();
    assert_eq!(answers.last().map(|answer| (answer.position, answer.kind())), Some((3, Kind::Withdrawn)));
    assert_eq!(world.watermark(0), (0, 0), "not beside the withdrawal; the beat brings it again");
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.watermark(0), (2, 0));
    world.offer(0, 0, 3, vec![message(0, 4)]);
    world.pass(Duration::from_secs(1)).await;
    world.ack(phone, 4);
    world.pass(Duration::from_millis(10)).await;
    world.offer(0, 0, 4, vec![withdraw(5, 4)]);
    world.pass(Duration::from_secs(1)).await;
    let answers: Vec<_> = world.answers.drain(..).flat_map(|answers| answers.answers).collect();
    assert_eq!(answers.last().map(|answer| (answer.position, answer.kind())), Some((5, Kind::Delivered)));
}

#[tokio::test(start_paused = true)]
async fn watermarks_are_told_until_they_are_taken_also_across_a_restart() {
    let disk = MemoryDisk::new();
    let mut world = start(&disk, Sabotage::default()).await;
    world.takes = false;
    let phone = world.open(1, Cursor::default()).await;
    world.keeps(1, 4).await;
    world.offered(1, 0, vec![message(1, 9)]).await;
    world.ack(phone, 5);
    world.pass(Duration::from_millis(200)).await;
    assert!(world.shown(phone).contains(&(5, "acked".into())), "told when it is durable");
    assert_eq!((world.watermark(0), world.watermark(1)), ((4, 0), (9, 0)));
    let told = world.watermarks.len();
    world.pass(WATERMARKS_EVERY * 5).await;
    assert!(world.watermarks.len() > told + 4, "again and again");
    let mut world = world.crash(&disk, Sabotage::default()).await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!((world.watermark(0), world.watermark(1)), ((4, 0), (9, 0)), "found by its due row");
    world.takes = false;
    let phone = world.open(1, Cursor::default()).await;
    world.read(phone, ANNA, 3);
    world.pass(Duration::from_millis(200)).await;
    let mut world = world.crash(&disk, Sabotage::default()).await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.watermark(0), (4, 3), "and what was read");
    world.watermarks.clear();
    world.pass(WATERMARKS_EVERY * 2).await;
    assert_eq!(world.watermarks.len(), 0, "what was taken is not told again");
}

#[tokio::test(start_paused = true)]
async fn the_cursor_of_a_device_and_its_beats_are_acks() {
    let mut world = world().await;
    world.keeps(1, 3).await;
    let phone = world.open(1, Cursor::default()).await;
    world.session(phone).acked = 2;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.watermark(0), (2, 0), "an ack that was lost comes with the beat");
    let log_id = world.session(phone).cursor.log_id.clone();
    let phone = world.open(1, Cursor { log_id, idx: 3 }).await;
    world.session(phone).acked = 0;
    world.pass(Duration::from_secs(1)).await;
    assert_eq!(world.watermark(0), (3, 0), "stored before the cursor moved");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_comes_before_its_ack_is_on_disk_waits_for_it() {
    let disk = MemoryDisk::with_delay(Duration::from_millis(30)..=Duration::from_millis(60));
    let mut world = start(&disk, Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    world.offer(0, 0, 0, (1..=3).map(|position| message(0, position)).collect());
    world.pass(Duration::from_secs(1)).await;
    for idx in 1..=3 {
        world.ack(phone, idx);
        world.read(phone, ANNA, idx);
    }
    world.read(phone, ANNA, 99);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.watermark(0), (3, 3));
    world.offer(0, 3, 3, vec![message(0, 4)]);
    world.pass(Duration::from_secs(1)).await;
    world.ack(phone, 4);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.watermark(0), (4, 3), "what is not there yet was not read");
}
