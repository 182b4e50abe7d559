//! How a proven number becomes a user with a device, in one go and in several.

use futures::future::join;

use super::super::accounts::{number_key, user_key};
use super::*;
use crate::limits::DEVICES;
use crate::rows::{NumberRow, UserRow};
use dialtone_vocab::DeviceId;

pub(super) fn phone() -> DeviceRow {
    DeviceRow { public_key: vec![3; 32], name: "phone".into(), ..Default::default() }
}

/// The session that a flow's device begins with.
pub(super) fn first(flow: FlowId) -> SessionId {
    SessionId::new([flow[0]; 16])
}

/// What a flow asks for; `fresh` if nobody has the number.
pub(super) fn asked<'a>(
    n: u64,
    fresh: UserId,
    (id, seen): (&'a FlowId, &'a Seen<FlowRow>),
    device: &'a DeviceRow,
) -> Enrolment<'a> {
    let row = SessionRow { refresh: vec![id[0]; 16], ..live() };
    Enrolment {
        number: number(n),
        fresh,
        nickname: "",
        device,
        session: (first(*id), row),
        flow: (id, seen),
        now: NOW,
    }
}

/// Enrols until somebody else isn't quicker any more.
pub(super) async fn enrolled(store: &Store, enrolment: &Enrolment<'_>) -> Enroll {
    for _ in 0..9 {
        match store.enroll(enrolment).await.expect("no error") {
            Enroll::Changed => {}
            outcome => return outcome,
        }
    }
    Enroll::Changed
}

pub(super) async fn enroll(store: &Store, n: u64, fresh: UserId, flow: (&FlowId, &Seen<FlowRow>)) -> Enroll {
    enrolled(store, &asked(n, fresh, flow, &phone())).await
}

pub(super) fn done(user: UserId, device: u32) -> Enroll {
    Enroll::Done(Enrolled { user, device: DeviceId(device) })
}

/// The first byte and the device of each session that is listed.
pub(super) async fn listed(store: &Store, user: UserId, own: SessionId) -> Vec<(u8, u32)> {
    let sessions = store.sessions(user, own, NOW).await.expect("read");
    sessions.iter().map(|(id, row)| (id.as_bytes()[0], row.device)).collect()
}

pub(super) async fn a_proven_number_becomes_a_user_and_then_its_devices(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (one, two) = ([5; 16], [6; 16]);
    let flow = verified(&it.store, one, 1).await;
    assert_eq!(enroll(&it.store, 1, ANNA, (&one, &flow)).await, done(ANNA, 1));
    assert!(it.store.flow(&one).await.expect("read").is_none(), "the flow ends with it");
    assert_eq!(enroll(&it.store, 1, ANNA, (&one, &flow)).await, done(ANNA, 1), "and makes no second one");
    let flow = verified(&it.store, two, 1).await;
    assert_eq!(enroll(&it.store, 1, BEN, (&two, &flow)).await, done(ANNA, 2), "the number has a user");
    let Process { store, .. } = it.restart(url).await;
    assert_eq!(store.owner(number(1)).await.expect("read"), Some((ANNA, 1)));
    assert_eq!(store.owner(number(2)).await.expect("read"), None);
    let user = store.user(ANNA).await.expect("read").expect("there");
    assert_eq!((user.primary(), user.registered_ms, user.last_device), (Some(number(1)), NOW.0, 2));
    assert!(store.user(BEN).await.expect("read").is_none());
    let second = store.device(ANNA, DeviceId(2)).await.expect("read").expect("there");
    assert_eq!(second.row, DeviceRow { session: vec![6; 16], flow: two.to_vec(), ..phone() });
    assert!(store.device(ANNA, DeviceId(3)).await.expect("read").is_none());
    assert_eq!(listed(&store, ANNA, first(two)).await, [(6, 2), (5, 1)], "one's own first");
}

/// Does so many steps of an enrolment, as a process that dies then.
async fn begin(store: &Store, enrolment: &Enrolment<'_>, steps: u32) {
    let user = enrolment.fresh;
    if steps == 0 {
        return;
    }
    let (device, holder) = store.add_device(user, enrolment).await.expect("no error").expect("a new device");
    let key = number_key(enrolment.number);
    let seen: Seen<NumberRow> = store.see("number_owner", &key).await.expect("read");
    let seen = seen.with(NumberRow { user: user.to_vec(), epoch: 1 });
    if steps >= 2 {
        store.add_fact(enrolment.number, &seen.row, NOW).await.expect("put down");
    }
    if steps >= 3 {
        assert!(store.swap("number_owner", key, &seen).await.expect("no error"));
    }
    let (session, row) = &enrolment.session;
    if steps >= 4 {
        let row = SessionRow { user: user.to_vec(), device: device.0, ..row.clone() };
        assert!(store.add("session", session.to_vec(), &row).await.expect("no error"));
    }
    if steps >= 5 {
        assert!(store.have_session((user, device), &holder, *session).await.expect("no error"));
    }
    if steps >= 6 {
        let (id, flow) = enrolment.flow;
        assert!(store.drop_flow(id, flow).await.expect("no error"));
    }
}

pub(super) async fn an_enrolment_goes_on_from_wherever_it_was_left(url: &StoreUrl) {
    let mut it = Process::start(url).await;
    for steps in 0..=6_u8 {
        let (n, user, id) = (u64::from(steps), UserId::new([steps + 10; 16]), [steps; 16]);
        let flow = verified(&it.store, id, n).await;
        let device = phone();
        let enrolment = asked(n, user, (&id, &flow), &device);
        begin(&it.store, &enrolment, u32::from(steps)).await;
        let owner = it.store.owner(number(n)).await.expect("read");
        assert_eq!(owner, (steps >= 3).then_some((user, 1)), "after {steps}");
        it = it.restart(url).await;
        for _ in 0..2 {
            assert_eq!(it.store.enroll(&enrolment).await, Ok(done(user, 1)), "after {steps}");
        }
        assert_eq!(it.store.owner(number(n)).await.expect("read"), Some((user, 1)));
        let row = it.store.user(user).await.expect("read").expect("there");
        assert_eq!((row.primary(), row.last_device), (Some(number(n)), 1), "after {steps}");
        assert_eq!(listed(&it.store, user, first([99; 16])).await, [(steps, 1)], "after {steps}");
        assert!(it.store.flow(&id).await.expect("read").is_none());
        let facts = told(&it.store, number(n), NOW).await;
        assert_eq!(facts.len(), 1, "after {steps}");
        assert_eq!((&facts[0].user, facts[0].epoch), (&user.to_vec(), 1));
    }
}

pub(super) async fn of_two_with_one_number_one_is_quicker_and_the_other_joins(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    let (one, other) = ([5; 16], [6; 16]);
    let (first, second) = (verified(store, one, 1).await, verified(store, other, 1).await);
    let race = join(enroll(store, 1, ANNA, (&one, &first)), enroll(&beside, 1, BEN, (&other, &second)));
    let (a, b) = race.await;
    let (owner, epoch) = store.owner(number(1)).await.expect("read").expect("there");
    assert_eq!(epoch, 1);
    let both = [(done(owner, 1), done(owner, 2)), (done(owner, 2), done(owner, 1))];
    assert!(both.contains(&(a, b)), "never two users: {a:?}, {b:?}");
    let nobody = if owner == ANNA { BEN } else { ANNA };
    assert!(store.user(nobody).await.expect("read").is_none());
    assert!(store.devices(nobody).await.expect("read").is_empty());
    assert_eq!(told(store, number(1), NOW).await.len(), 1);
}

pub(super) async fn one_flow_twice_at_once_makes_one_device(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    let flow = verified(store, FLOW, 1).await;
    let race = join(enroll(store, 1, ANNA, (&FLOW, &flow)), enroll(&beside, 1, ANNA, (&FLOW, &flow)));
    assert_eq!(race.await, (done(ANNA, 1), done(ANNA, 1)), "the same answer to both");
    let user = store.user(ANNA).await.expect("read").expect("there");
    assert_eq!(user.last_device, 1);
    assert_eq!(listed(store, ANNA, first(FLOW)).await, [(FLOW[0], 1)]);
}

pub(super) async fn a_flow_is_good_for_one_key_and_until_its_session_is_used(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let flow = verified(&store, FLOW, 1).await;
    assert_eq!(enroll(&store, 1, ANNA, (&FLOW, &flow)).await, done(ANNA, 1));
    let thief = DeviceRow { public_key: vec![4; 32], ..phone() };
    assert_eq!(enrolled(&store, &asked(1, ANNA, (&FLOW, &flow), &thief)).await, Enroll::Over);
    let before = store.session(first(FLOW)).await.expect("read").expect("there");
    let rotated = SessionRow { refresh: vec![9; 16], ..before.row.clone() };
    assert!(store.swap_session(first(FLOW), &before.clone().with(rotated)).await.expect("no error"));
    assert_eq!(enroll(&store, 1, ANNA, (&FLOW, &flow)).await, Enroll::Over, "its tokens are others now");
    let seen = store.session(first(FLOW)).await.expect("read").expect("there");
    let ended = SessionRow { revoked: true, ..before.row };
    assert!(store.swap_session(first(FLOW), &seen.with(ended)).await.expect("no error"));
    assert_eq!(enroll(&store, 1, ANNA, (&FLOW, &flow)).await, Enroll::Over, "it was logged out");
    assert_eq!(store.user(ANNA).await.expect("read").expect("there").last_device, 1);
}

pub(super) async fn a_device_that_logged_in_by_its_key_meanwhile_keeps_that_session(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let flow = verified(&store, FLOW, 1).await;
    let device = phone();
    let enrolment = asked(1, ANNA, (&FLOW, &flow), &device);
    begin(&store, &enrolment, 4).await;
    assert!(begun(&store, 1, SessionId::new([8; 16]), live()).await);
    assert_eq!(enrolled(&store, &enrolment).await, Enroll::Over);
    assert_eq!(listed(&store, ANNA, SessionId::new([8; 16])).await, [(8, 1)]);
    assert!(store.session(first(FLOW)).await.expect("read").is_none(), "nobody has its tokens");
}

pub(super) async fn who_was_not_first_at_the_number_leaves_nothing(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let (one, other) = ([5; 16], [6; 16]);
    let (first, second) = (verified(&store, one, 1).await, verified(&store, other, 1).await);
    let device = phone();
    let late = asked(1, ANNA, (&one, &first), &device);
    let seen: Seen<NumberRow> = store.see("number_owner", &number_key(number(1))).await.expect("read");
    store.add_device(ANNA, &late).await.expect("no error").expect("a new device");
    assert_eq!(enroll(&store, 1, BEN, (&other, &second)).await, done(BEN, 1));
    assert_eq!(store.own(ANNA, seen, &late).await, Ok(false), "Ben was first");
    let rows = store.db.scan_prefix("account", ANNA.as_bytes(), 9).await.expect("read");
    assert!(rows.is_empty());
    assert_eq!(enrolled(&store, &late).await, done(BEN, 2), "and joins him");
    let person: Seen<UserRow> = store.see("account", &user_key(BEN)).await.expect("read");
    assert_eq!(person.row.last_device, 2);
}

pub(super) async fn a_user_has_so_many_devices(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    for n in 1..=DEVICES {
        let id = [n as u8; 16];
        let flow = verified(&store, id, 1).await;
        assert_eq!(enroll(&store, 1, ANNA, (&id, &flow)).await, done(ANNA, n));
    }
    let flow = verified(&store, [99; 16], 1).await;
    assert_eq!(enroll(&store, 1, ANNA, (&[99; 16], &flow)).await, Enroll::Full);
    assert!(store.flow(&[99; 16]).await.expect("read").is_some(), "nothing came of it");
    assert_eq!(listed(&store, ANNA, first([64; 16])).await.len(), DEVICES as usize, "all are told");
    let last = [DEVICES as u8; 16];
    let again = FlowRow { stage: 3, ..FlowRow::begin(false, Some(number(1)), NOW) };
    let flow = added(&store, last, again).await;
    assert_eq!(enroll(&store, 1, ANNA, (&last, &flow)).await, done(ANNA, DEVICES), "it is there already");
}
