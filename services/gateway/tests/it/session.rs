//! A session's stream while it is open.

use std::time::Duration;

use dialtone_gateway::limits::{HELLO_WITHIN, MAX_FRAME_BYTES, MAX_UNANSWERED_SENDS, WATCH_TABLE};
use dialtone_proto::bus::v1::gateway_item::Item;
use dialtone_proto::bus::v1::{
    self as bus, Frames, Owner, Reattach, offline_item, presence_item, routing_item,
};
use dialtone_proto::edge::v1::client_frame::Frame as Up;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::edge::v1::{self as edge, ClientFrame, ServerFrame};
use dialtone_proto::offline::v1::Message;
use dialtone_proto::routing::v1::SendRequest;
use dialtone_proto::types::v1::{Body, Cursor, UserRef};
use dialtone_vocab::Reason;
use tonic::Code;

use crate::world::*;

fn message(idx: u64) -> ServerFrame {
    ServerFrame { frame: Some(Down::Message(Message { idx, ..Default::default() })) }
}

fn frames(generation: u32, first: u64, frames: Vec<ServerFrame>) -> Item {
    Item::Frames(Frames { generation, epoch: 3, first, frames })
}

async fn idx(phone: &mut Phone) -> u64 {
    match phone.frame().await {
        Down::Message(message) => message.idx,
        other => panic!("not a message: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn hello_attaches_to_every_owner_and_is_welcomed_when_both_logs_have_answered() {
    let mut world = world().await;
    let mut phone = world.connect(&world.token(1)).await.expect("opens");
    let cursor = |n| Some(Cursor { log_id: vec![n; 16], idx: u64::from(n) });
    let watch_version = 4;
    let greeting = edge::Hello { inbox: cursor(5), outbox: cursor(6), watch_version, client_state: 2 };
    phone.send(up(Up::Hello(greeting))).await;
    let (mut ticket, mut seen) = (0, [false; 3]);
    for _ in 0..3 {
        let (slot, attach) = match world.told().await {
            Told::Routing(routing_item::Item::Attach(attach)) => (0, attach),
            Told::Offline(offline_item::Item::Attach(attach)) => (1, attach),
            Told::Presence(presence_item::Item::Attach(attach)) => (2, attach),
            other => panic!("not an attach: {other:?}"),
        };
        seen[slot] = true;
        assert_eq!(attach.cursor, [cursor(6), cursor(5), None][slot]);
        assert_eq!((attach.generation, attach.device, attach.number.as_str()), (1, 1, ANNA_NUMBER));
        assert_eq!((attach.user, attach.session_id), (ANNA.to_vec(), vec![1; 16]));
        assert_eq!(attach.watch.is_some(), slot == 2, "presence is told the table");
        ticket = attach.session.expect("a session").ticket;
    }
    assert_eq!(seen, [true; 3]);
    world.say(Owner::Offline, ticket, attached(1)).await;
    world.say(Owner::Offline, ticket, frames(1, 1, vec![message(6)])).await;
    phone.hears_nothing(Duration::from_millis(100)).await;
    world.say(Owner::Routing, ticket, attached(1)).await;
    let Down::Welcome(welcome) = phone.frame().await else { panic!("no welcome") };
    assert_eq!((welcome.session_id, welcome.device), (vec![1; 16], 1));
    assert_eq!(welcome.user, Some(UserRef { id: ANNA.to_vec() }));
    assert_eq!((welcome.last_client_seq, welcome.outbox_log_id), (41, vec![9; 16]));
    let limits = welcome.limits.expect("limits");
    assert_eq!(limits.max_frame_bytes as usize, MAX_FRAME_BYTES);
    assert_eq!(
        (limits.max_unanswered_sends, limits.watch_table as usize),
        (MAX_UNANSWERED_SENDS, WATCH_TABLE)
    );
    assert_eq!(idx(&mut phone).await, 6, "what came before it stands behind it");
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_hello_and_has_one() {
    let mut world = world().await;
    let mut early = world.connect(&world.token(1)).await.expect("opens");
    early.send(ping(1)).await;
    assert_eq!(early.fails().await.reason, Reason::HelloExpected);
    let mut silent = world.connect(&world.token(1)).await.expect("opens");
    silent.hears_nothing(HELLO_WITHIN - Duration::from_millis(200)).await;
    assert_eq!(silent.fails().await.reason, Reason::HelloExpected);
    let (mut twice, _) = world.welcomed(&world.token(1)).await;
    twice.send(hello()).await;
    assert_eq!(twice.fails().await.reason, Reason::FieldInvalid);
}

#[tokio::test(start_paused = true)]
async fn owners_that_do_not_answer_are_asked_again_and_then_the_stream_is_refused() {
    let mut world = world().await;
    let mut phone = world.connect(&world.token(1)).await.expect("opens");
    phone.send(hello()).await;
    let error = phone.fails().await;
    assert_eq!(error.reason, Reason::PeerUnavailable);
    assert!(error.retry_after.is_some());
    let mut generations = Vec::new();
    while let Told::Routing(routing_item::Item::Attach(attach)) = world.told().await {
        generations.push(attach.generation);
    }
    assert!(generations.len() > 5 && generations.is_sorted(), "{generations:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_may_refuse_a_session_by_a_documented_word() {
    let mut world = world().await;
    let mut phone = world.connect(&world.token(1)).await.expect("opens");
    phone.send(hello()).await;
    let Told::Routing(routing_item::Item::Attach(attach)) = world.told().await else { panic!("no attach") };
    let refused = bus::Attached { generation: 1, refused: "STORE_UNAVAILABLE".into(), ..Default::default() };
    world.say(Owner::Routing, attach.session.expect("a session").ticket, Item::Attached(refused)).await;
    assert_eq!(phone.fails().await.reason, Reason::StoreUnavailable);
}

#[tokio::test(start_paused = true)]
async fn what_a_phone_says_goes_to_its_owner_with_who_says_it() {
    let mut world = world().await;
    let (mut phone, attach) = world.welcomed(&world.token(1)).await;
    let session = attach.session;
    let (user, device) = (ANNA.to_vec(), 1);
    let ben = UserRef { id: vec![2; 16] };

    let request = SendRequest { client_seq: 42, ..Default::default() };
    phone.send(up(Up::Send(request.clone()))).await;
    let (session, user) = (|| session.clone(), || user.clone());
    let (request, number) = (Some(request), ANNA_NUMBER.to_owned());
    let sent = bus::SessionSend { session: session(), user: user(), device, number, request };
    assert_eq!(world.told().await, Told::Routing(routing_item::Item::Send(sent)));

    phone.send(up(Up::Ack(edge::Ack { idx: 3 }))).await;
    let ack = bus::SessionAck { session: session(), user: user(), device, idx: 3 };
    assert_eq!(world.told().await, Told::Offline(offline_item::Item::Ack(ack)));

    phone.send(up(Up::Read(edge::Read { conversation: None, idx: 3 }))).await;
    let read = bus::SessionRead { session: session(), user: user(), device, conversation: None, idx: 3 };
    assert_eq!(world.told().await, Told::Offline(offline_item::Item::Read(read)));

    let watch = edge::Watch { version: 1, add: vec![ben.clone()], ..Default::default() };
    phone.send(up(Up::Watch(watch.clone()))).await;
    let watch = bus::SessionWatch { session: session(), user: user(), watch: Some(watch) };
    assert_eq!(world.told().await, Told::Presence(presence_item::Item::Watch(watch)));

    phone.send(up(Up::Typing(edge::Typing { to: Some(ben.clone()) }))).await;
    let typing = bus::SessionTyping { session: session(), user: user(), to: ben.id };
    assert_eq!(world.told().await, Told::Presence(presence_item::Item::Typing(typing)));

    phone.send(up(Up::State(edge::State { state: 2 }))).await;
    let state = bus::SessionState { session: session(), user: user(), state: 2 };
    assert_eq!(world.told().await, Told::Presence(presence_item::Item::State(state)));

    phone.send(ping(5)).await;
    let pong = edge::Pong { nonce: 5, server_time_ms: world.now().0 };
    assert_eq!(phone.frame().await, Down::Pong(pong), "the gateway's own");
}

/// What is counted as unknown in this process so far.
fn unknown_frames() -> f64 {
    let families = telemetry().registry.gather();
    let family = families.iter().find(|family| family.name() == "dialtone_gateway_unknown_frames_total");
    family.map_or(0.0, |family| family.get_metric()[0].get_counter().get_value())
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_a_kind_not_known_is_ignored_and_counted() {
    let mut world = world().await;
    let (mut phone, _) = world.welcomed(&world.token(1)).await;
    for _ in 0..3 {
        phone.send(ClientFrame { frame: None }).await;
    }
    phone.answers().await;
    // No other test of this process has unknown frames.
    assert!((unknown_frames() - 3.0).abs() < 0.1);
}

#[tokio::test(start_paused = true)]
async fn values_not_known_are_refused_by_the_name_of_their_field() {
    let mut world = world().await;
    let mut phone = world.connect(&world.token(1)).await.expect("opens");
    phone.send(up(Up::Hello(edge::Hello { client_state: 99, ..Default::default() }))).await;
    let field = |name: &str| vec![("field".to_owned(), name.to_owned())];
    let error = phone.fails().await;
    assert_eq!((error.reason, error.details), (Reason::FieldInvalid, field("client_state")));

    let (mut phone, _) = world.welcomed(&world.token(1)).await;
    phone.send(up(Up::State(edge::State { state: 99 }))).await;
    let error = phone.fails().await;
    assert_eq!((error.reason, error.details), (Reason::FieldInvalid, field("state")));

    let mut phone = world.connect(&world.token(1)).await.expect("opens");
    let inbox = Some(Cursor { log_id: vec![1; 3], idx: 0 });
    phone.send(up(Up::Hello(edge::Hello { inbox, ..Default::default() }))).await;
    let error = phone.fails().await;
    assert_eq!((error.reason, error.details), (Reason::FieldInvalid, field("log_id")));
}

#[tokio::test(start_paused = true)]
async fn a_frame_or_table_that_is_too_large_ends_the_stream_with_the_reason() {
    let mut world = world().await;
    let (mut phone, _) = world.welcomed(&world.token(1)).await;
    let with = |bytes: usize| {
        let body = Some(Body { content: vec![7; bytes].into(), ..Default::default() });
        up(Up::Send(SendRequest { body, ..Default::default() }))
    };
    phone.send(with(MAX_FRAME_BYTES - 64)).await;
    assert!(matches!(world.told().await, Told::Routing(_)), "it just fits");
    phone.send(with(MAX_FRAME_BYTES)).await;
    let error = phone.fails().await;
    assert_eq!(error.reason, Reason::TooLarge);

    let (mut phone, _) = {
        while !matches!(world.told().await, Told::Presence(presence_item::Item::Detach(_))) {}
        world.welcomed(&world.token(1)).await
    };
    let peers = |n: usize| (0..n).map(|n| UserRef { id: n.to_be_bytes().repeat(2) }).collect::<Vec<_>>();
    let table = |n| up(Up::Watch(edge::Watch { replace: peers(n), is_replace: true, ..Default::default() }));
    phone.send(table(WATCH_TABLE)).await;
    assert!(matches!(world.told().await, Told::Presence(presence_item::Item::Watch(_))));
    phone.send(table(WATCH_TABLE + 1)).await;
    assert_eq!(phone.fails().await.reason, Reason::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_session_needs_a_token_of_ours() {
    let world = world().await;
    let late = world.caller(1, Duration::ZERO);
    for (token, expected) in [
        ("nonsense".to_owned(), Reason::TokenInvalid),
        (world.secrets.signer().sign(&late), Reason::TokenExpired),
    ] {
        let refused = world.connect(&token).await.err().expect("refused");
        assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn frames_of_an_owner_come_in_order_and_what_is_lost_is_asked_for_again() {
    let mut world = world().await;
    let (mut phone, attach) = world.welcomed(&world.token(1)).await;
    let ticket = attach.session.expect("a session").ticket;
    world.say(Owner::Offline, ticket, frames(1, 2, vec![message(2)])).await;
    phone.hears_nothing(Duration::from_millis(50)).await;
    world.say(Owner::Offline, ticket, frames(1, 1, vec![message(1)])).await;
    assert_eq!((idx(&mut phone).await, idx(&mut phone).await), (1, 2));
    world.say(Owner::Offline, ticket, frames(1, 1, vec![message(1)])).await;
    // The third never comes.
    world.say(Owner::Offline, ticket, frames(1, 4, vec![message(4)])).await;
    let Told::Offline(offline_item::Item::Attach(again)) = world.told().await else { panic!("no attach") };
    assert_eq!((again.generation, again.cursor), (2, Some(Cursor { log_id: vec![9; 16], idx: 2 })));
    world.say(Owner::Offline, ticket, attached(2)).await;
    world.say(Owner::Offline, ticket, frames(1, 3, vec![message(99)])).await;
    world.say(Owner::Offline, ticket, frames(2, 1, vec![message(3), message(4)])).await;
    assert_eq!((idx(&mut phone).await, idx(&mut phone).await), (3, 4));
    // An owner that does not know the session any more says so.
    world.say(Owner::Offline, ticket, Item::Reattach(Reattach { generation: 2 })).await;
    let Told::Offline(offline_item::Item::Attach(again)) = world.told().await else { panic!("no attach") };
    assert_eq!((again.generation, again.cursor.map(|cursor| cursor.idx)), (3, Some(4)));
}

#[tokio::test(start_paused = true)]
async fn owners_hear_once_a_second_how_far_a_session_is() {
    let mut world = world().await;
    let (mut phone, attach) = world.welcomed(&world.token(1)).await;
    let ticket = attach.session.expect("a session").ticket;
    world.say(Owner::Offline, ticket, frames(1, 1, vec![message(1), message(2)])).await;
    idx(&mut phone).await;
    phone.send(up(Up::Ack(edge::Ack { idx: 1 }))).await;
    world.pass(Duration::from_millis(1_500)).await;
    world.beats.clear();
    world.pass(Duration::from_secs(2)).await;
    let at_offline: Vec<_> = world.beats.iter().filter(|told| matches!(told, Told::Offline(_))).collect();
    assert_eq!((world.beats.len(), at_offline.len()), (6, 2), "three owners, twice");
    let Told::Offline(offline_item::Item::Beat(beat)) = at_offline[0] else { panic!("no beat") };
    let said = &beat.sessions[0];
    assert_eq!((beat.gateway.as_str(), beat.sessions.len(), said.ticket), ("test", 1, ticket));
    assert_eq!((said.generation, said.received, said.acked, said.device), (1, 2, 1, 1));
    assert_eq!(said.user, ANNA.to_vec());
}
