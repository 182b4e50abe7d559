use dialtone_proto::edge::v1::server_frame::Frame;
use dialtone_proto::edge::v1::{ClientState, Presence, Watch};
use dialtone_proto::presence::v1::{Availability, LastSeen, PeerState};
use dialtone_proto::types::v1::UserRef;
use proptest::prelude::*;

use super::*;
use crate::limits::{OFFLINE_GRACE, SNAPSHOT_WAIT, TYPING_LIFE, UPDATE_EVERY};

const START: UnixMillis = UnixMillis(1_000_000_000_000);

fn user(n: u8) -> UserId {
    UserId::new([n; 16])
}

fn key(ticket: u64) -> SessionKey {
    SessionKey { gateway: NodeId::new("gate"), ticket }
}

fn state() -> State {
    State::new(user(1), NodeId::new("here"), Status::default(), 4, START)
}

fn attach(generation: u32, peers: &[u8]) -> bus::Attach {
    let watch = Watch { version: 1, replace: refs(peers), is_replace: true, ..Default::default() };
    bus::Attach { generation, user: user(1).to_vec(), device: 1, watch: Some(watch), ..Default::default() }
}

fn refs(peers: &[u8]) -> Vec<UserRef> {
    peers.iter().map(|peer| UserRef { id: user(*peer).to_vec() }).collect()
}

fn online(version: u64, status: &str) -> bus::PeerUpdate {
    bus::PeerUpdate {
        watcher: user(1).to_vec(),
        target: user(2).to_vec(),
        version,
        availability: 2,
        status: status.to_owned(),
        last_seen: 0,
    }
}

fn see(state: &mut State, peer: u8, now: UnixMillis) {
    state.judged(&[(user(peer), Some(May::See { typing: true }))], now);
}

/// What sessions were shown.
fn shown(state: &mut State) -> Vec<Presence> {
    let frames = state.effects().into_iter().filter_map(|effect| match effect {
        Effect::Gateway(_, ToGateway::Frames(frames)) => Some(frames.frames),
        _ => None,
    });
    frames
        .flatten()
        .filter_map(|frame| match frame.frame {
            Some(Frame::Presence(presence)) => Some(presence),
            _ => None,
        })
        .collect()
}

fn only(mut shown: Vec<Presence>) -> PeerState {
    assert_eq!(shown.len(), 1, "{shown:?}");
    let mut changes = shown.remove(0).changes;
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

/// A session that watches user 2, whose presence it may see and knows to be online.
fn watching() -> (State, UnixMillis) {
    let mut state = state();
    state.attach(key(1), &attach(1, &[2]), START);
    see(&mut state, 2, START);
    state.update(online(1, ""), START);
    let snapshot = shown(&mut state);
    assert!(snapshot[0].snapshot && snapshot[0].version == 1);
    (state, START.plus(Duration::from_secs(2)))
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn nothing_is_asked_or_shown_of_a_peer_before_contacts_has_said_yes() {
    let mut state = state();
    state.attach(key(1), &attach(1, &[2]), START);
    let effects = state.effects();
    assert!(effects.contains(&Effect::AskMaySee(vec![user(2)])));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Subscribe(_))));
    state.update(online(1, "hi"), START);
    state.peer_typing(user(2), START);
    state.judged(&[(user(2), None)], START);
    state.tick(START.plus(ms(999)));
    assert!(shown(&mut state).is_empty(), "the snapshot waits");
    state.tick(START.plus(ms(1_000)));
    let peer = only(shown(&mut state));
    assert_eq!((peer.availability(), peer.status.as_str(), peer.typing), (Availability::Offline, "", false));
    state.tick(START.plus(ms(2_000)));
    assert!(state.effects().contains(&Effect::AskMaySee(vec![user(2)])), "asked again");
}

#[test]
fn a_peer_that_blocks_is_offline_and_not_subscribed_to() {
    let (mut state, now) = watching();
    state.judged(&[(user(2), Some(May::Nothing))], now);
    let effects = state.effects();
    let ended = effects.iter().any(|effect| matches!(effect, Effect::Subscribe(ask) if ask.lease_ms == 0));
    assert!(ended, "{effects:?}");
    let frame = effects.iter().find_map(|effect| match effect {
        Effect::Gateway(_, ToGateway::Frames(frames)) => frames.frames[0].frame.clone(),
        _ => None,
    });
    let Some(Frame::Presence(presence)) = frame else { panic!("{effects:?}") };
    assert_eq!(presence.changes[0].availability(), Availability::Offline);
}

#[test]
fn when_contacts_falls_silent_a_peer_is_offline_after_the_answers_life() {
    let (mut state, _) = watching();
    let mut now = START;
    let mut last = None;
    while now.since(START) < Duration::from_secs(40) {
        now = now.plus(ms(250));
        state.beat(&key(1), &beat(1, u64::MAX), now);
        state.update(online(1, ""), now);
        state.tick(now);
        last = shown(&mut state).pop().map(|presence| (now, presence.changes[0].availability())).or(last);
    }
    let (at, availability) = last.expect("shown");
    assert_eq!(availability, Availability::Offline);
    assert!(at.since(START) >= MAY_SEE_LIFE && at.since(START) < MAY_SEE_LIFE + ms(1_500));
}

fn beat(generation: u32, received: u64) -> bus::SessionBeat {
    bus::SessionBeat {
        ticket: 1,
        generation,
        received,
        user: user(1).to_vec(),
        ..bus::SessionBeat::default()
    }
}

#[test]
fn the_latest_value_is_shown_at_most_once_a_second() {
    let (mut state, now) = watching();
    for n in 0..10 {
        state.update(online(2 + n, &format!("text {n}")), now.plus(ms(n)));
    }
    assert_eq!(only(shown(&mut state)).status, "text 0");
    state.beat(&key(1), &beat(1, 2), now);
    state.tick(now.plus(ms(500)));
    assert!(shown(&mut state).is_empty());
    state.tick(now.plus(ms(1_000)));
    assert_eq!(only(shown(&mut state)).status, "text 9");
    state.update(online(3, "old"), now.plus(ms(2_500)));
    assert!(shown(&mut state).is_empty(), "an older version changes nothing");
}

#[test]
fn typing_lives_six_seconds_and_only_of_watched_peers() {
    let (mut state, now) = watching();
    state.peer_typing(user(3), now);
    assert!(shown(&mut state).is_empty());
    state.peer_typing(user(2), now);
    assert!(only(shown(&mut state)).typing);
    state.beat(&key(1), &beat(1, 2), now);
    state.tick(now.plus(Duration::from_secs(2)));
    assert!(shown(&mut state).is_empty());
    state.sessions.beat(&key(1), &beat(1, 2), heard(now.plus(Duration::from_secs(5))));
    state.tick(now.plus(TYPING_LIFE));
    assert!(!only(shown(&mut state)).typing);
}

#[test]
fn nobody_types_to_whom_it_blocks() {
    let (mut state, now) = watching();
    state.judged(&[(user(2), Some(May::See { typing: false }))], now);
    state.peer_typing(user(2), now);
    assert!(shown(&mut state).is_empty());
}

#[test]
fn offline_is_told_after_the_grace_and_a_return_within_it_is_not_noticed() {
    let mut state = state();
    let ask = |lease_ms| bus::PeerSubscribe {
        target: user(1).to_vec(),
        watcher: user(9).to_vec(),
        watcher_node: "there".into(),
        lease_ms,
    };
    state.attach(key(1), &attach(1, &[]), START);
    state.effects();
    state.subscribe(&ask(90_000), START.plus(ms(10)));
    let told = |state: &mut State| -> Vec<u32> {
        let updates = state.effects().into_iter();
        updates
            .filter_map(|effect| match effect {
                Effect::Update(_, update) => Some(update.availability),
                _ => None,
            })
            .collect()
    };
    assert_eq!(told(&mut state), [2]);
    state.detach(&key(1), START.plus(ms(2_000)));
    state.tick(START.plus(ms(9_000)));
    state.attach(key(2), &attach(1, &[]), START.plus(ms(10_000)));
    assert_eq!(told(&mut state), Vec::<u32>::new());
    state.client_state(&key(2), ClientState::Inactive.into(), START.plus(ms(11_000)));
    assert_eq!(told(&mut state), [3]);
    let gone = START.plus(ms(12_000));
    state.detach(&key(2), gone);
    state.tick(gone.plus(OFFLINE_GRACE - ms(1)));
    assert_eq!(told(&mut state), Vec::<u32>::new());
    state.tick(gone.plus(OFFLINE_GRACE));
    let effects = state.effects();
    assert!(effects.contains(&Effect::Seen(gone)));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Update(_, update)
        if update.availability == 1 && update.last_seen == LastSeen::Recently as u32)));
    assert!(!state.is_quiet());
    state.subscribe(&ask(0), gone.plus(OFFLINE_GRACE));
    assert!(state.is_quiet());
}

#[test]
fn a_session_without_beats_is_offline_after_three_seconds_and_the_grace() {
    let mut state = state();
    state.attach(key(1), &attach(1, &[]), START);
    state.tick(START.plus(ms(2_999)));
    assert!(!state.sessions.is_empty());
    state.tick(START.plus(ms(3_000)));
    assert!(state.sessions.is_empty());
    assert_eq!(state.view(START.plus(ms(3_000))).availability, Availability::Online);
    state.tick(START.plus(ms(18_000)));
    assert_eq!(state.view(START.plus(ms(18_000))).availability, Availability::Offline);
}

#[test]
fn the_invisible_are_offline_and_do_not_type() {
    let (mut state, now) = watching();
    state.set_row(Status { invisible: true, seen: state.seen_if(true, now), ..Default::default() }, now);
    assert_eq!(state.view(now).availability, Availability::Offline);
    assert_eq!(state.view(now).last_seen, LastSeen::Recently);
    state.effects();
    state.typing(&key(1), user(2), now);
    assert!(state.effects().is_empty());
    state.set_row(Status::default(), now);
    state.effects();
    state.typing(&key(1), user(2), now);
    assert!(matches!(state.effects()[..], [Effect::Typing(_)]));
    state.typing(&key(1), user(2), now.plus(ms(500)));
    assert!(state.effects().is_empty(), "not again so soon");
}

#[test]
fn a_missed_change_of_the_table_brings_the_whole_one_along() {
    let (mut state, now) = watching();
    let change = |version| Watch { version, add: refs(&[3]), ..Default::default() };
    state.watch(&key(1), &change(3), now);
    assert!(matches!(
        state.effects()[..],
        [Effect::Gateway(_, ToGateway::Reattach(bus::Reattach { generation: 1 }))]
    ));
    state.watch(&key(1), &change(2), now);
    assert!(state.peers.contains_key(&user(3)));
    state.effects();
    let remove = Watch { version: 3, remove: refs(&[2]), ..Default::default() };
    state.watch(&key(1), &remove, now);
    let ends = |effect: &Effect| matches!(effect, Effect::Subscribe(ask) if ask.lease_ms == 0);
    assert!(state.effects().iter().any(ends));
    let large = Watch { version: 4, replace: refs(&[2, 3, 4, 5, 6]), is_replace: true, ..Default::default() };
    state.watch(&key(1), &large, now);
    assert_eq!(state.peers.keys().copied().collect::<Vec<_>>(), [user(3)], "too large: nothing is changed");
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Update(u64, u8),
    Typing,
    May(Option<May>),
    Watch(Vec<u8>),
    State(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let may = prop_oneof![
        Just(None),
        Just(Some(May::Nothing)),
        Just(Some(May::See { typing: true })),
        Just(Some(May::See { typing: false })),
    ];
    prop_oneof![
        4 => (1u64..3_000).prop_map(Step::Wait),
        4 => (1u64..20, 0u8..4).prop_map(|(version, n)| Step::Update(version, n)),
        1 => Just(Step::Typing),
        2 => may.prop_map(Step::May),
        1 => proptest::collection::vec(2u8..8, 0..5).prop_map(Step::Watch),
        1 => any::<bool>().prop_map(Step::State),
    ]
}

#[test]
fn nobody_is_said_to_be_offline_while_users_move() {
    let mut state = state();
    let settled = START.plus(Duration::from_secs(3));
    state.unsure_until(settled);
    let ask = bus::PeerSubscribe {
        target: user(1).to_vec(),
        watcher: user(2).to_vec(),
        watcher_node: "there".into(),
        lease_ms: 90_000,
    };
    let answers = |state: &mut State, now| {
        state.subscribe(&ask, now);
        state.effects().iter().filter(|effect| matches!(effect, Effect::Update(..))).count()
    };
    assert_eq!(answers(&mut state, START), 0, "its sessions may be about to attach");
    assert_eq!(answers(&mut state, settled), 1, "it has none");
    // Its own sessions wait for peers who move at the same time.
    let late = START.plus(Duration::from_secs(2));
    state.attach(key(1), &attach(1, &[2]), late);
    see(&mut state, 2, late);
    state.effects();
    state.tick(settled.plus(SNAPSHOT_WAIT - Duration::from_millis(1)));
    assert!(shown(&mut state).is_empty());
    state.tick(settled.plus(SNAPSHOT_WAIT));
    assert_eq!(only(shown(&mut state)).availability(), Availability::Offline);
}

/// What the phone believes: snapshots replace, changes add.
#[derive(Default)]
struct Phone {
    version: u64,
    told: BTreeMap<Vec<u8>, (PeerState, UnixMillis)>,
}

impl Phone {
    fn take(&mut self, presence: Presence, now: UnixMillis) -> Result<(), TestCaseError> {
        prop_assert!(presence.version >= self.version);
        prop_assert!(
            presence.snapshot || presence.version == self.version,
            "changes are of the table it has"
        );
        self.version = presence.version;
        if presence.snapshot {
            self.told.clear();
        }
        for change in presence.changes {
            let id = change.user.as_ref().map(|user| user.id.clone()).unwrap_or_default();
            if let Some((_, at)) = self.told.get(&id) {
                prop_assert!(now.since(*at) >= UPDATE_EVERY, "more than one update within a second");
            }
            self.told.insert(id, (change, now));
        }
        Ok(())
    }
}

proptest! {
    /// Whatever happens: at most one update per peer and second, nothing shown that contacts did not allow, and when
    /// it is quiet the phone shows what is true.
    #[test]
    fn the_phone_ends_up_with_the_truth(steps in proptest::collection::vec(step(), 1..60)) {
        let mut state = state();
        let (mut now, mut phone, mut version) = (START, Phone::default(), 1);
        state.attach(key(1), &attach(1, &[2]), now);
        let quiet = std::iter::repeat_n(Step::Wait(1_000), 3);
        for step in steps.into_iter().chain(quiet) {
            match step {
                Step::Wait(wait) => {
                    for _ in 0..wait.div_ceil(250) {
                        now = now.plus(ms(250));
                        state.beat(&key(1), &beat(1, u64::MAX), now);
                        state.tick(now);
                        for presence in shown(&mut state) {
                            phone.take(presence, now)?;
                        }
                    }
                }
                Step::Update(version, n) => state.update(online(version, &n.to_string()), now),
                Step::Typing => state.peer_typing(user(2), now),
                Step::May(may) => state.judged(&[(user(2), may)], now),
                Step::Watch(peers) => {
                    version += 1;
                    let watch = Watch { version, replace: refs(&peers), is_replace: true, ..Default::default() };
                    if peers.iter().collect::<BTreeSet<_>>().len() > 4 {
                        version -= 1;
                    }
                    state.watch(&key(1), &watch, now);
                }
                Step::State(active) => state.client_state(&key(1), if active { 1 } else { 2 }, now),
            }
            for presence in shown(&mut state) {
                phone.take(presence, now)?;
            }
        }
        prop_assert_eq!(phone.version, version);
        prop_assert_eq!(phone.told.len(), state.peers.len());
        for (peer, known) in &state.peers {
            let (view, typing) = known.shown(now);
            if known.may != (May::See { typing: true }) {
                prop_assert!(!typing);
            }
            if !matches!(known.may, May::See { .. }) {
                prop_assert_eq!(&view, &View::nothing());
            }
            let told = phone.told.get(&peer.to_vec()).map(|(told, _)| told.clone());
            prop_assert_eq!(told, Some(view.of(*peer, typing)));
        }
    }
}
