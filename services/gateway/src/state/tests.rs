use dialtone_proto::bus::v1::{Attached, Frames, Reattach};
use dialtone_vocab::{DeviceId, NodeId, PhoneNumber, SessionId};

use super::*;

const NOW: UnixMillis = UnixMillis(1_000);

fn session() -> Session {
    let caller = Caller {
        user: UserId::new([1; 16]),
        device: DeviceId(1),
        session: SessionId::new([2; 16]),
        number: PhoneNumber::parse_e164("+14155550101").expect("valid"),
        expires: UnixMillis(u64::MAX),
    };
    Session::new(SessionKey { gateway: NodeId::new("gateway-1"), ticket: 7 }, caller, NOW)
}

fn up(frame: Up) -> ClientFrame {
    ClientFrame { frame: Some(frame) }
}

fn hello() -> ClientFrame {
    up(Up::Hello(edge::Hello::default()))
}

fn item(owner: Owner, item: Item) -> bus::GatewayItem {
    bus::GatewayItem { ticket: 7, owner: owner.into(), item: Some(item) }
}

fn attached(generation: u32) -> Item {
    Item::Attached(Attached { generation, log_id: vec![9; 16], ..Default::default() })
}

fn open() -> Session {
    let mut session = session();
    session.client(hello(), NOW);
    for owner in OWNERS {
        session.owner(item(owner, attached(1)), NOW);
    }
    session.effects.clear();
    session
}

fn reason(session: &Session) -> Option<Reason> {
    match &session.end {
        Some(End::Failed(error)) => Some(error.reason),
        _ => None,
    }
}

fn message(idx: u64) -> ServerFrame {
    let message = dialtone_proto::offline::v1::Message { idx, ..Default::default() };
    ServerFrame { frame: Some(Down::Message(message)) }
}

#[test]
fn hello_attaches_to_all_owners_and_welcome_waits_for_both_logs() {
    let mut session = session();
    session.client(hello(), NOW);
    assert_eq!(session.effects.len(), 3);
    session.owner(item(Owner::Offline, attached(1)), NOW);
    let frames = Frames { generation: 1, first: 1, frames: vec![message(1)], ..Default::default() };
    session.owner(item(Owner::Offline, Item::Frames(frames)), NOW);
    assert_eq!(session.pop(), None, "nothing before Welcome");
    session.owner(item(Owner::Routing, attached(1)), NOW);
    assert!(matches!(session.pop().and_then(|frame| frame.frame), Some(Down::Welcome(_))));
    assert_eq!(session.pop(), Some(message(1)));
}

#[test]
fn a_frame_before_hello_and_a_second_hello_end_the_stream() {
    let mut early = session();
    early.client(up(Up::Ping(edge::Ping { nonce: 1 })), NOW);
    assert_eq!(reason(&early), Some(Reason::HelloExpected));
    let mut twice = open();
    twice.client(hello(), NOW);
    assert_eq!(reason(&twice), Some(Reason::FieldInvalid));
}

#[test]
fn silence_after_the_stream_opened_ends_it() {
    let mut silent = session();
    silent.tick(NOW.plus(HELLO_WITHIN));
    assert_eq!(reason(&silent), Some(Reason::HelloExpected));
    let mut alone = session();
    alone.client(hello(), NOW);
    alone.tick(NOW.plus(ATTACH_WITHIN));
    assert_eq!(reason(&alone), Some(Reason::PeerUnavailable));
}

#[test]
fn an_unanswered_attach_is_sent_again_with_a_higher_generation() {
    let mut session = session();
    session.client(hello(), NOW);
    session.effects.clear();
    session.tick(NOW.plus(dialtone_attach::ATTACH_RETRY));
    let Some(Effect::Routing(bus::routing_item::Item::Attach(attach))) = session.effects.first() else {
        panic!("no attach")
    };
    assert_eq!(attach.generation, 2);
}

#[test]
fn a_reattach_goes_on_behind_what_was_passed_on() {
    let mut session = open();
    let frames =
        Frames { generation: 1, first: 1, frames: vec![message(1), message(2)], ..Default::default() };
    session.owner(item(Owner::Offline, Item::Frames(frames)), NOW);
    session.owner(item(Owner::Offline, Item::Reattach(Reattach { generation: 1 })), NOW);
    let Some(Effect::Offline(bus::offline_item::Item::Attach(attach))) = session.effects.first() else {
        panic!("no attach")
    };
    assert_eq!(attach.cursor, Some(Cursor { log_id: vec![9; 16], idx: 2 }));
    session.effects.clear();
    session.owner(item(Owner::Offline, Item::Reattach(Reattach { generation: 1 })), NOW);
    assert!(session.effects.is_empty(), "it spoke of a former generation");
}

#[test]
fn an_attach_says_what_the_device_stored_and_that_is_not_what_was_passed_on() {
    let stored = |session: &mut Session| {
        let generation = session.link(OFFLINE).beat(7, &[]).generation;
        session.owner(item(Owner::Offline, attached(generation)), NOW);
        session.effects.clear();
        session.owner(item(Owner::Offline, Item::Reattach(Reattach { generation })), NOW);
        match session.effects.first() {
            Some(Effect::Offline(bus::offline_item::Item::Attach(attach))) => attach.acked,
            other => panic!("no attach: {other:?}"),
        }
    };
    let frames = |session: &mut Session, frames: Vec<ServerFrame>| {
        let generation = session.link(OFFLINE).beat(7, &[]).generation;
        session.owner(item(Owner::Offline, attached(generation)), NOW);
        let frames = Frames { generation, first: 1, frames, ..Default::default() };
        session.owner(item(Owner::Offline, Item::Frames(frames)), NOW);
    };
    let mut session = session();
    let inbox = Some(Cursor { log_id: vec![9; 16], idx: 4 });
    session.client(up(Up::Hello(edge::Hello { inbox, ..Default::default() })), NOW);
    frames(&mut session, vec![message(5), message(6)]);
    assert_eq!(stored(&mut session), 4, "what Hello said");
    session.client(up(Up::Ack(edge::Ack { idx: 5 })), NOW);
    assert_eq!(stored(&mut session), 5);
    let resync = Down::Resync(edge::Resync { inbox: Some(Cursor { log_id: vec![8; 16], idx: 3 }) });
    frames(&mut session, vec![ServerFrame { frame: Some(resync) }]);
    assert_eq!(stored(&mut session), 0, "that was another log");
}

#[test]
fn frames_go_to_their_owners() {
    let mut session = open();
    session.client(up(Up::Send(dialtone_proto::routing::v1::SendRequest::default())), NOW);
    session.client(up(Up::Ack(edge::Ack { idx: 3 })), NOW);
    session.client(up(Up::Typing(edge::Typing { to: None })), NOW);
    assert!(matches!(session.effects[..], [Effect::Routing(_), Effect::Offline(_), Effect::Presence(_)]));
    assert_eq!(session.detach().len(), 4, "a last ack, and three owners");
}

#[test]
fn unknown_frames_are_counted_and_unknown_states_refused() {
    let mut session = open();
    session.client(ClientFrame { frame: None }, NOW);
    assert_eq!(session.unknown_frames, 1);
    let mut other = self::session();
    other.client(up(Up::Hello(edge::Hello { client_state: 99, ..Default::default() })), NOW);
    assert_eq!(reason(&other), Some(Reason::FieldInvalid));
}

#[test]
fn an_owner_closes_a_replaced_stream_after_what_was_said_before() {
    let mut session = open();
    session.owner(
        item(Owner::Offline, Item::Close(edge::GoAway { reason: "REPLACED".into(), ..Default::default() })),
        NOW,
    );
    assert!(matches!(session.end, Some(End::Clean)));
    let frames: Vec<_> = std::iter::from_fn(|| session.pop()).collect();
    assert!(matches!(frames.last().and_then(|frame| frame.frame.as_ref()), Some(Down::GoAway(_))));
}
