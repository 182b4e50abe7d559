//! Broken builds: the same scenario passes with the good one and catches the broken one.

use std::time::Duration;

use dialtone_offline::Sabotage;
use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::types::v1::Cursor;
use dialtone_store::MemoryDisk;

use crate::world::*;

/// A slow disk, and a crash as soon as an offer is answered. Whether what was answered KEPT is still there.
async fn keeps_what_it_answered(sabotage: Sabotage) -> bool {
    let disk = MemoryDisk::with_delay(Duration::from_secs(1)..=Duration::from_secs(1));
    let mut world = start(&disk, sabotage).await;
    world.offer(0, 0, 0, vec![message(0, 1)]);
    while world.answers.is_empty() {
        world.pass(Duration::from_millis(1)).await;
    }
    let answer = &world.answers[0].answers[0];
    assert_eq!((answer.position, answer.kind()), (1, Kind::Kept));
    let mut world = world.crash(&disk, sabotage).await;
    let phone = world.open(1, Cursor::default()).await;
    world.pass(Duration::from_secs(5)).await;
    world.entries(phone) == [(1, "0/1".into())]
}

#[tokio::test(start_paused = true)]
async fn sabotage_offered_before_settled_is_caught() {
    assert!(keeps_what_it_answered(Sabotage::default()).await);
    assert!(!keeps_what_it_answered(Sabotage { offered_before_settled: true, ..Default::default() }).await);
}

/// The last push gets lost. Whether the device has it after a while.
async fn repairs_a_lost_push(sabotage: Sabotage) -> bool {
    let mut world = start(&MemoryDisk::new(), sabotage).await;
    let phone = world.open(1, Cursor::default()).await;
    world.pass(Duration::from_secs(2)).await;
    world.lose_next(phone);
    world.keeps(1, 1).await;
    world.pass(Duration::from_secs(60)).await;
    world.entries(phone) == [(1, "0/1".into())]
}

#[tokio::test(start_paused = true)]
async fn sabotage_push_without_repair_is_caught() {
    assert!(repairs_a_lost_push(Sabotage::default()).await);
    assert!(!repairs_a_lost_push(Sabotage { push_without_repair: true, ..Default::default() }).await);
}
