//! What a user sets itself.

use std::time::Duration;

use dialtone_proto::presence::v1::{Availability, GetRequest, LastSeen, PeerState};
use dialtone_store::MemoryDisk;
use dialtone_vocab::{Reason, UserId};
use tonic::Code;

use crate::world::*;

async fn get(world: &World, user: UserId) -> PeerState {
    let answer = world.client().get(world.from(user, GetRequest {})).await.expect("answered");
    answer.into_inner().state.expect("a state")
}

#[tokio::test(start_paused = true)]
async fn a_status_survives_a_restart() {
    let disk = MemoryDisk::new();
    {
        let world = start(&disk).await;
        world.set_status(ANNA, "at sea", true).await.expect("set");
        assert!(world.chassis.tasks.shutdown(Duration::from_secs(10)).await);
    }
    let mut world = start(&disk).await;
    assert_eq!(get(&world, ANNA).await.status, "at sea");
    let anna = world.open(ANNA).await;
    assert_eq!(get(&world, ANNA).await.availability(), Availability::Offline, "still invisible");
    world.set_status(ANNA, "ashore", false).await.expect("set");
    assert_eq!(get(&world, ANNA).await.availability(), Availability::Online);
    world.close(anna);
    world.pass(Duration::from_secs(20)).await;
    let gone = get(&world, ANNA).await;
    assert_eq!((gone.availability(), gone.last_seen()), (Availability::Offline, LastSeen::Recently));
}

#[tokio::test(start_paused = true)]
async fn a_status_has_at_most_140_characters_and_needs_a_token() {
    let world = world().await;
    world.set_status(ANNA, &"ü".repeat(140), false).await.expect("140 characters");
    let refused = world.set_status(ANNA, &"ü".repeat(141), false).await.expect_err("too long");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(dialtone_chassis::Error::from_status(&refused).reason, Reason::FieldInvalid);
    let anonymous = world.client().get(GetRequest {}).await.expect_err("no token");
    assert_eq!(anonymous.code(), Code::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn going_invisible_looks_like_going_offline() {
    let mut world = world().await;
    let anna = world.open(ANNA).await;
    world.open(BEN).await;
    world.watch(anna, 1, &[BEN]);
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(world.changes(anna)[0].availability(), Availability::Online);
    world.set_status(BEN, "", true).await.expect("set");
    world.pass(Duration::from_secs(2)).await;
    let changes = world.changes(anna);
    assert_eq!(
        (changes[0].availability(), changes[0].last_seen()),
        (Availability::Offline, LastSeen::Recently)
    );
}
