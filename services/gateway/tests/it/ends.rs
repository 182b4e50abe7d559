//! How a session's stream ends.

use std::time::Duration;

use dialtone_bus::subjects;
use dialtone_chassis::{Chassis, Error};
use dialtone_gateway::limits::{RECONNECT_AFTER, RECONNECT_JITTER, SESSION_MAILBOX};
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{Frames, Owner, SessionEnded, offline_item, presence_item, routing_item};
use dialtone_proto::edge::v1::client_frame::Frame as Up;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::edge::v1::{self as edge, GoAway, ServerFrame};
use dialtone_proto::offline::v1::Message;
use dialtone_vocab::Reason;
use tonic::Streaming;

use crate::world::*;

impl World {
    /// The three owners are told that a session is gone; offline hears a last ack before.
    async fn detached(&mut self, ticket: u64) -> u64 {
        let (mut acked, mut owners) = (None, 0);
        while owners < 3 {
            let session = match self.told().await {
                Told::Offline(offline_item::Item::Ack(ack)) => {
                    acked = Some(ack.idx);
                    ack.session
                }
                Told::Offline(offline_item::Item::Detach(detach)) => {
                    assert!(acked.is_some(), "the ack comes before");
                    owners += 1;
                    detach.session
                }
                Told::Routing(routing_item::Item::Detach(detach))
                | Told::Presence(presence_item::Item::Detach(detach)) => {
                    owners += 1;
                    detach.session
                }
                other => panic!("not a detach: {other:?}"),
            };
            assert_eq!(session.map(|session| session.ticket), Some(ticket));
        }
        acked.expect("a last ack")
    }

    async fn session_ended(&self, session: u8) {
        let ended = SessionEnded { session_id: vec![session; 16], user: ANNA.to_vec() };
        self.bus.publish(&subjects::gateway_fact(), ended).await.expect("published");
    }
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_closes_its_stream_is_detached_after_a_last_ack() {
    let mut world = world().await;
    let (phone, attach) = world.welcomed(&world.token(1)).await;
    phone.send(up(Up::Ack(edge::Ack { idx: 7 }))).await;
    assert!(matches!(world.told().await, Told::Offline(offline_item::Item::Ack(_))));
    drop(phone);
    assert_eq!(world.detached(attach.session.expect("a session").ticket).await, 7);
    world.beats.clear();
    world.pass(Duration::from_secs(3)).await;
    assert!(world.beats.is_empty(), "nothing is said about it any more");
}

#[tokio::test(start_paused = true)]
async fn a_newer_stream_of_the_device_replaces_the_older_one() {
    let mut world = world().await;
    let (mut older, first) = world.welcomed(&world.token(1)).await;
    world.pass(Duration::from_millis(5)).await;
    let (mut newer, second) = world.welcomed(&world.token(1)).await;
    assert!(second.opened_ms > first.opened_ms, "owners can tell which is newer");
    let ticket = first.session.expect("a session").ticket;
    // Both logs' owners may say it.
    for owner in [Owner::Offline, Owner::Routing] {
        let go_away = GoAway { reason: Reason::Replaced.as_str().into(), ..Default::default() };
        world.say(owner, ticket, Item::Close(go_away)).await;
    }
    assert_eq!(older.go_away().await.reason, "REPLACED");
    older.ends().await;
    drop(older);
    world.detached(ticket).await;
    newer.answers().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_process_of_a_name_uses_no_ticket_again() {
    let mut tickets = Vec::new();
    for seed in [1, 2] {
        let mut world = start(Chassis::for_tests(seed)).await;
        let (_phone, attach) = world.welcomed(&world.token(1)).await;
        tickets.push(attach.session.expect("a session").ticket);
    }
    assert_ne!(
        tickets[0], tickets[1],
        "what is said to a session of the process before would reach another one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let mut world = world().await;
    let began = world.now();
    let short = world.secrets.signer().sign(&world.caller(1, Duration::from_secs(30)));
    let (mut phone, _) = world.welcomed(&short).await;
    let (mut other, _) = world.welcomed(&world.token(2)).await;
    phone.hears_nothing(Duration::from_secs(29)).await;
    let go_away = phone.go_away().await;
    assert_eq!((go_away.reason.as_str(), go_away.reconnect_after_ms), ("TOKEN_EXPIRED", 200));
    phone.ends().await;
    assert!(world.now().since(began) < Duration::from_secs(32));
    other.answers().await;
    let refused = world.connect(&short).await.err().expect("refused");
    assert_eq!(reason(&refused), Reason::TokenExpired);
}

/// What is read of a stream until it ends.
async fn rest(world: &World, down: &mut Streaming<ServerFrame>) -> Vec<Down> {
    let mut read = Vec::new();
    let all = async {
        while let Some(frame) = down.message().await.expect("no error") {
            read.push(frame.frame.expect("a frame"));
        }
    };
    world.chassis.clock.timeout(Duration::from_secs(60), all).await.expect("the stream ends");
    read
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_beaten_no_more_after_its_token_ran_out() {
    // One has room for its GoAway; one has not.
    for n in [3, SESSION_MAILBOX] {
        let mut world = world().await;
        let short = world.secrets.signer().sign(&world.caller(1, Duration::from_secs(30)));
        let (up, mut down) = world.open_stream(&short).await.expect("opens");
        up.send(hello()).await.expect("the stream is open");
        let (welcome, attach) = tokio::join!(down.message(), world.attach_all());
        welcome.expect("no error").expect("a frame");
        let ticket = attach.session.expect("a session").ticket;
        for idx in 1..=n as u64 {
            let message = ServerFrame { frame: Some(Down::Message(Message { idx, ..Default::default() })) };
            let frames = Frames { generation: 1, epoch: 3, first: idx, frames: vec![message] };
            world.say(Owner::Offline, ticket, Item::Frames(frames)).await;
        }
        world.pass(Duration::from_secs(28)).await;
        world.beats.clear();
        world.pass(Duration::from_secs(1)).await;
        assert_eq!(world.beats.len(), 3, "until then each owner hears of it");
        world.pass(Duration::from_secs(2)).await;
        world.beats.clear();
        world.pass(Duration::from_secs(10)).await;
        assert_eq!(world.beats, []);

        let mut read = rest(&world, &mut down).await;
        let last = read.split_off(n);
        assert!(
            read.iter().all(|frame| matches!(frame, Down::Message(_))),
            "what was said before is still read"
        );
        match &last[..] {
            [Down::GoAway(go_away)] => assert_eq!((go_away.reason.as_str(), n), ("TOKEN_EXPIRED", 3)),
            other => assert_eq!((other, n), (&[][..], SESSION_MAILBOX)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_sessions_streams_end_and_its_token_opens_none() {
    let mut world = world().await;
    let (revoked, kept) = (world.token(1), world.token(2));
    let (mut phone, _) = world.welcomed(&revoked).await;
    let (mut other, _) = world.welcomed(&kept).await;
    world.session_ended(1).await;
    assert_eq!(phone.go_away().await.reason, "SESSION_REVOKED");
    phone.ends().await;
    let refused = world.connect(&revoked).await.err().expect("refused");
    assert_eq!(reason(&refused), Reason::SessionRevoked, "though the token has not run out");
    other.answers().await;
    world.connect(&kept).await.expect("opens");
}

#[tokio::test(start_paused = true)]
async fn a_stop_tells_every_stream_to_go_elsewhere_and_ends_it() {
    let mut world = world().await;
    let mut phones = Vec::new();
    for session in 1..=3 {
        phones.push(world.welcomed(&world.token(session)).await.0);
    }
    let unwelcomed = world.connect(&world.token(4)).await.expect("opens");
    unwelcomed.send(hello()).await;
    phones.push(unwelcomed);
    world.pass(Duration::from_millis(50)).await;
    let tasks = world.chassis.tasks.clone();
    let stopping = tasks.shutdown(Duration::from_secs(10));
    let told = async move {
        for phone in &mut phones {
            let go_away = phone.go_away().await;
            assert_eq!(go_away.reason, "SHUTTING_DOWN");
            assert_eq!(u128::from(go_away.reconnect_after_ms), RECONNECT_AFTER.as_millis());
            assert_eq!(u128::from(go_away.jitter_ms), RECONNECT_JITTER.as_millis());
            phone.ends().await;
        }
        let late = world.connect(&world.token(5)).await.err().expect("refused");
        assert_eq!(reason(&late), Reason::ShuttingDown);
        assert!(Error::from_status(&late).retry_after.is_some());
    };
    let (stopped, ()) = tokio::join!(stopping, told);
    assert!(stopped, "with the last of it every task ends");
}
