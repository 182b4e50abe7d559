//! Blocks: durable, told until taken.

use std::time::Duration;

use dialtone_bus::subjects;
use dialtone_proto::bus::v1::FactTaken;
use dialtone_proto::contacts::internal::v1::{BlocksRequest, MaySeeRequest, Pair};
use dialtone_proto::contacts::v1::{BlockRequest, UnblockRequest};
use dialtone_proto::types::v1::UserRef;
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::{Reason, UserId};

use crate::world::*;

fn referring(user: UserId) -> Option<UserRef> {
    Some(UserRef { id: user.to_vec() })
}

async fn may_see(world: &World, viewer: UserId, subjects: &[UserId]) -> Vec<bool> {
    let subjects = subjects.iter().map(|user| user.to_vec()).collect();
    let ask = MaySeeRequest { viewer: viewer.to_vec(), subjects };
    world.graph().may_see(ask).await.expect("answered").into_inner().may
}

async fn blocks(world: &World, by: UserId, user: UserId) -> bool {
    let pairs = vec![Pair { by: by.to_vec(), user: user.to_vec() }];
    world.graph().blocks(BlocksRequest { pairs }).await.expect("answered").into_inner().blocked[0]
}

#[tokio::test(start_paused = true)]
async fn a_block_holds_for_one_direction_until_it_is_lifted() {
    let world = world().await;
    world.contacts().block(world.from(ANNA, BlockRequest { user: referring(BEN) })).await.expect("blocked");
    assert_eq!(may_see(&world, BEN, &[ANNA, CARLA]).await, [false, true]);
    assert_eq!(may_see(&world, ANNA, &[BEN]).await, [true]);
    assert!(blocks(&world, ANNA, BEN).await && !blocks(&world, BEN, ANNA).await);
    world
        .contacts()
        .unblock(world.from(ANNA, UnblockRequest { user: referring(BEN) }))
        .await
        .expect("lifted");
    assert_eq!(may_see(&world, BEN, &[ANNA]).await, [true]);
    for bad in [None, Some(UserRef { id: vec![1; 3] }), referring(ANNA)] {
        let refused = world.contacts().block(world.from(ANNA, BlockRequest { user: bad })).await;
        assert_eq!(reason(&refused.expect_err("refused")), Reason::FieldInvalid);
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_is_told_until_it_is_taken_across_a_restart() {
    let disk = MemoryDisk::new();
    {
        let world = start(StoreUrl::memory(&disk), 10).await;
        let ask = BlockRequest { user: referring(BEN) };
        world.contacts().block(world.from(ANNA, ask)).await.expect("blocked, though nobody takes the fact");
        let tasks = world.chassis.tasks.clone();
        drop(world);
        assert!(tasks.shutdown(Duration::from_secs(10)).await);
    }
    let world = start(StoreUrl::memory(&disk), 10).await;
    assert!(blocks(&world, ANNA, BEN).await, "a block survives");
    let mut facts =
        world.bus.subscribe_group(&subjects::offline_fact(), "offline").await.expect("subscribed");
    let first = facts.next().await.expect("told");
    assert_eq!((first.message.by.clone(), first.message.user.clone()), (ANNA.to_vec(), BEN.to_vec()));
    assert!(first.message.on);
    drop(first);
    let again = facts.next().await.expect("told again");
    let version = again.message.version;
    again.reply(FactTaken {}).await;
    world
        .contacts()
        .unblock(world.from(ANNA, UnblockRequest { user: referring(BEN) }))
        .await
        .expect("lifted");
    let lifted = facts.next().await.expect("told");
    assert!(!lifted.message.on && lifted.message.version > version);
    lifted.reply(FactTaken {}).await;
    let more = world.chassis.clock.timeout(Duration::from_secs(60), facts.next()).await;
    assert!(more.is_err(), "what was taken is not told again");
}
