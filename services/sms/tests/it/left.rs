//! What processes leave, and which of the others takes it: each runs alone over the disk, and hears of others.

use std::time::Duration;

use dialtone_bus::subjects;
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::Heartbeat;
use dialtone_proto::types::v1::FateKind;
use dialtone_store::{Batch, Commit, Db, MemoryDisk};

use crate::world::*;

/// A process of some name over a disk.
async fn process(node: &str, disk: &MemoryDisk) -> World {
    start_as(node, Setup { disk: disk.clone(), ..Setup::default() }).await
}

/// Another process is heard of from now on.
fn hears_of(world: &World, node: &'static str) {
    let (bus, clock, stop) =
        (world.bus.clone(), world.chassis.clock.clone(), world.chassis.tasks.stop_token());
    world.chassis.tasks.spawn("heartbeats of another", async move {
        let alive = Heartbeat { node: node.into(), services: vec!["sms".into()], ..Heartbeat::default() };
        while !stop.is_cancelled() {
            bus.publish(&subjects::heartbeat(), alive.clone()).await.expect("published");
            stop.run_until_cancelled(clock.sleep(Duration::from_secs(1))).await;
        }
    });
}

/// Writes a process's name into every row of the queue, while no process has the disk.
async fn name_in_queue(disk: &MemoryDisk, node: &str) {
    let chassis = Chassis::for_tests(9);
    let db = Db::open_memory(disk, dialtone_sms::SCHEMA, &chassis).expect("opens");
    let rows = db.walk("sms_queue", &[], 9).await.expect("read");
    assert!(!rows.is_empty());
    for (key, _) in rows {
        let put = Batch::new().put("sms_queue", key.to_vec(), node);
        assert_eq!(db.commit(put).await, Ok(Commit::Applied));
    }
    drop(db);
    assert!(chassis.tasks.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test(start_paused = true)]
async fn an_sms_that_one_process_has_leaves_though_the_queue_names_another() {
    let disk = MemoryDisk::new();
    let two = process("two", &disk).await;
    two.sends([message(1, "whose?")]).await;
    two.stop().await;
    // Both took it at once and this one lost, or it took it, was gone for a while, and came back.
    name_in_queue(&disk, "one").await;
    let mut one = process("one", &disk).await;
    hears_of(&one, "two");
    let mut peer = one.operator().await;
    no_submit(&one, &mut peer).await;
    one.stop().await;
    let mut two = process("two", &disk).await;
    hears_of(&two, "one");
    let mut peer = two.operator().await;
    peer.taken("a").await;
    assert_eq!(two.result().await, (1, FateKind::SmsSubmitted, String::new()));
}
