//! The dynamic interaction table.

use std::time::Duration;

use dialtone_proto::bus::v1::ContactEvent;
use dialtone_proto::bus::v1::presence_item::Item;
use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::edge::v1::{ClientState, Contact};
use dialtone_proto::presence::v1::{Availability, LastSeen, PeerState};
use dialtone_shards::rendezvous;
use dialtone_vocab::{NodeId, UserId, shard_of};

use crate::world::*;

const SECOND: Duration = Duration::from_secs(1);

/// Anna watches Ben, who is there; the snapshot was shown.
async fn anna_watches_ben() -> (World, usize, usize) {
    let mut world = world().await;
    let (anna, ben) = (world.open(ANNA).await, world.open(BEN).await);
    world.watch(anna, 1, &[BEN]);
    world.pass(SECOND * 2).await;
    let shown = world.presence(anna);
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].version, shown[0].snapshot, shown[0].changes.len()), (1, true, 1));
    assert_eq!(shown[0].changes[0].availability(), Availability::Online);
    (world, anna, ben)
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_answered_by_a_snapshot_and_changes_follow() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    world.client_state(ben, ClientState::Inactive.into());
    world.pass(SECOND * 2).await;
    let shown = world.presence(anna);
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].version, shown[0].snapshot), (1, false));
    assert_eq!(shown[0].changes[0].availability(), Availability::Away);
    world.set_status(BEN, "on a train", false).await.expect("set");
    world.pass(SECOND * 2).await;
    assert_eq!(world.changes(anna).last().map(|peer| peer.status.clone()), Some("on a train".into()));
    world.watch(anna, 2, &[CARLA]);
    world.pass(SECOND * 2).await;
    let shown = world.presence(anna);
    assert_eq!((shown.len(), shown[0].version, shown[0].snapshot), (1, 2, true));
    assert_eq!(shown[0].changes[0].user.as_ref().map(|user| user.id.clone()), Some(CARLA.to_vec()));
    assert_eq!(shown[0].changes[0].availability(), Availability::Offline);
    world.client_state(ben, ClientState::Active.into());
    world.pass(SECOND * 2).await;
    assert_eq!(world.changes(anna), [], "Ben is not in the table any more");
}

#[tokio::test(start_paused = true)]
async fn offline_is_told_after_the_grace() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    world.close(ben);
    world.pass(SECOND * 14).await;
    assert_eq!(world.changes(anna), []);
    world.pass(SECOND * 2).await;
    let changes = world.changes(anna);
    assert_eq!((changes.len(), changes[0].availability()), (1, Availability::Offline));
    assert_eq!(changes[0].last_seen(), LastSeen::Recently);
}

#[tokio::test(start_paused = true)]
async fn a_silent_gateways_sessions_are_offline_after_the_lease_and_the_grace() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    world.silence(ben);
    world.pass(SECOND * 16).await;
    assert_eq!(world.changes(anna), []);
    world.pass(SECOND * 4).await;
    let changes = world.changes(anna);
    assert_eq!((changes.len(), changes[0].availability()), (1, Availability::Offline));
}

#[tokio::test(start_paused = true)]
async fn a_restless_peer_is_shown_once_a_second_and_its_last_state_stays() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    for n in 0..100 {
        world.client_state(ben, if n % 2 == 0 { 2 } else { 1 });
        world.pass(Duration::from_millis(50)).await;
    }
    world.client_state(ben, ClientState::Inactive.into());
    world.pass(SECOND * 3).await;
    let changes = world.changes(anna);
    assert!(changes.len() <= 8, "{} updates in 8 s", changes.len());
    assert_eq!(changes.last().map(PeerState::availability), Some(Availability::Away));
}

#[tokio::test(start_paused = true)]
async fn typing_reaches_only_who_watches_the_typist() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    let carla = world.open(CARLA).await;
    world.typing(ben, ANNA);
    world.typing(ben, CARLA);
    world.pass(SECOND * 2).await;
    let changes = world.changes(anna);
    assert_eq!((changes.len(), changes[0].typing), (1, true));
    assert_eq!(world.changes(carla), [], "Carla does not watch Ben");
    world.pass(SECOND * 5).await;
    let changes = world.changes(anna);
    assert_eq!((changes.len(), changes[0].typing), (1, false), "it lives six seconds");
}

#[tokio::test(start_paused = true)]
async fn no_typing_between_users_of_whom_one_blocks_the_other() {
    for (by, user) in [(ANNA, BEN), (BEN, ANNA)] {
        let mut world = world().await;
        world.graph.block(by, user);
        let (anna, ben) = (world.open(ANNA).await, world.open(BEN).await);
        world.watch(anna, 1, &[BEN]);
        world.pass(SECOND * 2).await;
        let snapshot = world.changes(anna);
        let expected = if by == BEN { Availability::Offline } else { Availability::Online };
        assert_eq!(snapshot[0].availability(), expected);
        world.typing(ben, ANNA);
        world.pass(SECOND * 3).await;
        assert_eq!(world.changes(anna), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_block_takes_presence_away_within_the_answers_life() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    world.graph.block(BEN, ANNA);
    world.pass(SECOND * 31).await;
    let changes = world.changes(anna);
    assert_eq!((changes.len(), changes[0].availability()), (1, Availability::Offline));
    world.client_state(ben, ClientState::Inactive.into());
    world.set_status(BEN, "secret", false).await.expect("set");
    world.pass(SECOND * 31).await;
    assert_eq!(world.changes(anna), []);
}

#[tokio::test(start_paused = true)]
async fn without_contacts_peers_are_offline_and_asked_about_again() {
    let mut world = world().await;
    world.graph.set_down(true);
    let anna = world.open(ANNA).await;
    world.open(BEN).await;
    world.watch(anna, 1, &[BEN]);
    world.pass(SECOND * 5).await;
    let shown = world.presence(anna);
    assert_eq!((shown.len(), shown[0].changes[0].availability()), (1, Availability::Offline));
    world.graph.set_down(false);
    world.pass(SECOND * 5).await;
    assert_eq!(world.changes(anna).last().map(PeerState::availability), Some(Availability::Online));
}

#[tokio::test(start_paused = true)]
async fn two_sessions_of_a_user_have_their_own_tables_and_contact_events_reach_both() {
    let (mut world, anna, _) = anna_watches_ben().await;
    let tablet = world.open(ANNA).await;
    world.watch(tablet, 1, &[CARLA]);
    world.open(CARLA).await;
    world.pass(SECOND * 3).await;
    assert_eq!(world.changes(anna), []);
    let seen: Vec<_> = world.changes(tablet).into_iter().filter_map(|peer| peer.user).collect();
    assert!(!seen.is_empty() && seen.iter().all(|user| user.id == CARLA.to_vec()));
    let contact = Contact { number: "+14155550104".into(), ..Default::default() };
    let event = ContactEvent { user: ANNA.to_vec(), contact: Some(contact.clone()) };
    world.push(ANNA, Item::Contact(event));
    world.pass(SECOND).await;
    for ticket in [anna, tablet] {
        assert_eq!(world.frames(ticket), [Frame::Contact(contact.clone())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_over_the_limit_changes_nothing() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    let many: Vec<_> = (10..15).map(|n| UserId::new([n; 16])).collect();
    world.watch(anna, 2, &many);
    world.pass(SECOND * 2).await;
    assert_eq!(world.presence(anna), []);
    world.client_state(ben, ClientState::Inactive.into());
    world.pass(SECOND * 2).await;
    assert_eq!(world.changes(anna)[0].availability(), Availability::Away);
}

#[tokio::test(start_paused = true)]
async fn a_lost_frame_is_repaired_by_the_beats() {
    let (mut world, anna, ben) = anna_watches_ben().await;
    world.lose_next(anna);
    world.client_state(ben, ClientState::Inactive.into());
    world.pass(SECOND * 6).await;
    let shown = world.presence(anna);
    assert!(shown[0].snapshot, "a new generation begins with a snapshot");
    assert_eq!(shown[0].changes[0].availability(), Availability::Away);
}

#[tokio::test(start_paused = true)]
async fn watcher_and_peers_meet_across_nodes_and_follow_when_an_owner_is_gone() {
    let mut world = world().await;
    let other = world.add_node("other").await;
    world.pass(SECOND * 2).await;
    let users: Vec<_> = (1..40).map(|n| UserId::new([n; 16])).collect();
    let on = |world: &World, node: &str| {
        users.iter().copied().find(|user| world.node_of(*user).as_str() == node).expect("some user is there")
    };
    let (here, there) = (on(&world, "test"), on(&world, "other"));
    let (watcher, peer) = (world.open(here).await, world.open(there).await);
    let back = world.open(there).await;
    world.watch(watcher, 1, &[there]);
    world.watch(back, 1, &[here]);
    world.pass(SECOND * 2).await;
    for ticket in [watcher, back] {
        let changes = world.changes(ticket);
        assert_eq!(changes.last().map(PeerState::availability), Some(Availability::Online));
    }
    world.typing(peer, here);
    world.pass(SECOND).await;
    assert!(world.changes(watcher)[0].typing);
    // The other process dies: its users move, their sessions attach at the new owner, nobody was seen to go.
    assert!(other.tasks.shutdown(SECOND * 10).await);
    world.pass(SECOND * 40).await;
    assert_eq!(world.node_of(there).as_str(), "test");
    let seen: Vec<_> = world.changes(watcher).iter().map(PeerState::availability).collect();
    assert!(!seen.contains(&Availability::Offline), "{seen:?}");
    let shown = world.presence(back);
    assert!(shown.iter().any(|presence| presence.snapshot), "the table moved along: {shown:?}");
    for ticket in [peer, back] {
        world.client_state(ticket, ClientState::Inactive.into());
    }
    world.pass(SECOND * 2).await;
    assert_eq!(world.changes(watcher).last().map(PeerState::availability), Some(Availability::Away));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_said_to_be_offline_by_the_owner_whom_it_has_left() {
    let mut world = world().await;
    let both = ["other", "test"].map(NodeId::new);
    let on = |node: &str| {
        let mut users = (1..40).map(|n| UserId::new([n; 16]));
        let is_there =
            |user: &UserId| rendezvous(shard_of(user.as_bytes()), &both) == Some(&NodeId::new(node));
        users.find(is_there).expect("some user is there")
    };
    let (stays, moves) = (on("test"), on("other"));
    let (watcher, _peer) = (world.open(stays).await, world.open(moves).await);
    world.watch(watcher, 1, &[moves]);
    world.pass(SECOND * 2).await;
    assert_eq!(world.changes(watcher).last().map(PeerState::availability), Some(Availability::Online));
    // Another process comes: the peer moves there, and its session seems to end here.
    let _other = world.add_node("other").await;
    world.pass(SECOND * 40).await;
    assert_eq!((world.node_of(stays), world.node_of(moves)), (NodeId::new("test"), NodeId::new("other")));
    let seen: Vec<_> = world.changes(watcher).iter().map(PeerState::availability).collect();
    assert!(!seen.contains(&Availability::Offline), "{seen:?}");
}
