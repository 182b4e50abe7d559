//! Acks on their way to the disk: in company, unless somebody waits for them.

use std::time::Duration;

use dialtone_offline::Sabotage;
use dialtone_offline::limits::ACKS_AT_ONCE;
use dialtone_proto::types::v1::Cursor;
use dialtone_store::MemoryDisk;

use crate::world::*;

/// Less than a tick, and enough for a commit.
const SOON: Duration = Duration::from_millis(10);

fn is_told(world: &mut World, phone: usize, idx: u64) -> bool {
    world.shown(phone).contains(&(idx, "acked".into()))
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_a_device_waits_for_is_written_at_once_and_any_other_soon() {
    let mut world = world().await;
    let phone = world.open(1, Cursor::default()).await;
    let mut limited = urgent(0, 1);
    limit(&mut limited);
    world.offered(0, 0, vec![limited]).await;
    world.ack(phone, 1);
    world.pass(SOON).await;
    assert!(is_told(&mut world, phone, 1), "it shows the message only then");
    let far = 1 + ACKS_AT_ONCE;
    world.keeps(2, far).await;
    world.ack(phone, far);
    world.pass(SOON).await;
    assert!(is_told(&mut world, phone, far), "whoever catches up needs room");
    world.keeps(far + 1, far + 2).await;
    world.ack(phone, far + 1);
    world.pass(Duration::from_millis(300)).await;
    assert!(is_told(&mut world, phone, far + 1), "at the next tick");
    world.ack(phone, far + 2);
    world.keeps(far + 3, far + 3).await;
    assert!(is_told(&mut world, phone, far + 2), "with the next write");
}

#[tokio::test(start_paused = true)]
async fn one_devices_ack_does_not_make_another_ones_forgotten() {
    let disk = MemoryDisk::with_delay(Duration::from_millis(400)..=Duration::from_millis(400));
    let mut world = start(&disk, Sabotage::default()).await;
    let phone = world.open(1, Cursor::default()).await;
    let laptop = world.open(2, Cursor::default()).await;
    world.offer(0, 0, 0, (1..=5).map(|position| message(0, position)).collect());
    world.pass(Duration::from_secs(2)).await;
    world.ack(phone, 5);
    // The phone's ack is under way by then.
    world.pass(Duration::from_millis(300)).await;
    world.ack(laptop, 3);
    // No beat brings it again.
    world.silence(laptop);
    world.pass(Duration::from_secs(2)).await;
    let world = world.crash(&disk, Sabotage::default()).await;
    for (device, idx) in [(1, 5), (2, 3)] {
        let answer = world.client().get_cursor(world.from(device, <_>::default())).await.expect("answered");
        assert_eq!(answer.into_inner().acked.expect("a cursor").idx, idx, "device {device}");
    }
}
