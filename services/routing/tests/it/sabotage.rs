//! Broken builds: the same scenario passes with the good one and catches the broken one.

use std::time::Duration;

use dialtone_proto::bus::v1::offer_answer::Kind;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::types::v1::Cursor;
use dialtone_routing::Sabotage;
use dialtone_store::MemoryDisk;

use crate::world::*;

fn slow() -> MemoryDisk {
    MemoryDisk::with_delay(Duration::from_secs(1)..=Duration::from_secs(1))
}

/// A slow disk, and a crash as soon as a send is accepted. Whether the message still gets there.
async fn delivers_what_it_accepted(sabotage: Sabotage) -> bool {
    let disk = slow();
    let mut world = start(&disk, sabotage).await;
    let phone = world.open(1, Cursor::default()).await;
    world.session_sends(phone, request(1, BEN_NUMBER));
    loop {
        match &world.frames(phone)[..] {
            [] => world.pass(Duration::from_millis(1)).await,
            [Frame::Accepted(_)] => break,
            other => panic!("not accepted: {other:?}"),
        }
    }
    let mut world = world.crash(&disk, sabotage).await;
    world.pass(Duration::from_secs(10)).await;
    world.inbox.positions().contains(&1)
}

#[tokio::test(start_paused = true)]
async fn sabotage_accepted_before_write_is_caught() {
    assert!(delivers_what_it_accepted(Sabotage::default()).await);
    assert!(!delivers_what_it_accepted(Sabotage { accepted_before_write: true, ..Default::default() }).await);
}

/// A slow disk, a declined message, and a crash as soon as it is handed over as SMS. Whether it also ends as SMS.
async fn decides_before_it_sends(sabotage: Sabotage) -> bool {
    let disk = slow();
    let mut world = start(&disk, sabotage).await;
    world.inbox.message = Some((Kind::Declined, "NOT_ATTACHED"));
    world.send(urgent(1)).await;
    while world.submitted.is_empty() {
        world.pass(Duration::from_millis(1)).await;
    }
    let mut world = world.crash(&disk, sabotage).await;
    // Nobody hears of the decision again unless it is on disk: the number has moved on meanwhile.
    world.directory.0.write().expect("lock").remove(BEN_NUMBER);
    let phone = world.open(1, Cursor::default()).await;
    world.pass(Duration::from_secs(10)).await;
    let failed = world.fates(phone).iter().any(|(_, _, why, _)| why == "NUMBER_MOVED");
    !failed
}

#[tokio::test(start_paused = true)]
async fn sabotage_sms_before_claim_settled_is_caught() {
    assert!(decides_before_it_sends(Sabotage::default()).await);
    let broken = Sabotage { sms_before_claim_settled: true, ..Default::default() };
    assert!(!decides_before_it_sends(broken).await, "sent as SMS, and ended as failed");
}
