//! What every store of identity does: the same functions over memory and over a folder.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::{Db, MemoryDisk, StoreUrl};
use dialtone_vocab::{DeviceId, NumberHash, PhoneNumber, SessionId, UnixMillis, UserId};

use super::{
    Enroll, Enrolled, Enrolment, FlowId, SCHEMA, Seen, Store, TABLES, device_key, number_budget,
    prefix_budget,
};
use crate::limits::{DEVICES, SESSION_ROWS, SESSIONS_LISTED, SWEEP_ROWS};
use crate::rows::{BudgetRow, DeviceRow, FlowRow, NonceRow, SessionRow};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);
const FLOW: FlowId = [7; 16];
const NOW: UnixMillis = UnixMillis(1_000);

fn number(n: u64) -> PhoneNumber {
    PhoneNumber::from_u64(14_155_550_100 + n).expect("a number")
}

fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    Store::new(Db::open(url.clone(), "identity", TABLES, SCHEMA, chassis).expect("opens"))
}

async fn close(store: Store, chassis: Chassis) {
    drop(store);
    assert!(chassis.tasks.shutdown(Duration::from_secs(5)).await);
}

fn device(name: &str) -> DeviceRow {
    DeviceRow { public_key: vec![3; 32], name: name.into(), ..Default::default() }
}

async fn added(store: &Store, id: FlowId, row: FlowRow) -> Seen<FlowRow> {
    store.add_flow(&id, &row).await.expect("added");
    store.flow(&id).expect("read").expect("there")
}

/// Turns a flow into a device of whoever has the number, `fresh` if nobody has.
async fn enroll(store: &Store, n: u64, fresh: UserId, session: u8, flow: (FlowId, &Seen<FlowRow>)) -> Enroll {
    let enrolment = Enrolment {
        number: number(n),
        fresh,
        nickname: "",
        device: &device("phone"),
        session: (SessionId::new([session; 16]), live()),
        flow: (&flow.0, flow.1),
        now: NOW,
    };
    store.enroll(enrolment).await.expect("no error")
}

/// Begins a session of a device of Anna's.
async fn begin(store: &Store, device: u32, id: SessionId, row: SessionRow) -> bool {
    let row = SessionRow { user: ANNA.to_vec(), device, ..row };
    let seen = store.see("device", &device_key(ANNA, DeviceId(device))).expect("read");
    store.begin_session((ANNA, DeviceId(device)), &seen, (id, &row)).await.expect("no error")
}

/// A session that goes on at [`NOW`].
fn live() -> SessionRow {
    SessionRow { refresh_expires_ms: NOW.0 + 1, ..Default::default() }
}

/// A budget as it is, with one more taken.
fn charged(store: &Store, key: &[u8]) -> Seen<BudgetRow> {
    let mut seen = store.budget(key).expect("read");
    seen.row.count += 1;
    seen
}

async fn charge(store: &Store, budgets: [(&[u8], &Seen<BudgetRow>); 2]) -> bool {
    store.swap_budgets(budgets).await.expect("no error")
}

/// The first byte and the device of each session that is listed.
fn listed(store: &Store, user: UserId, own: SessionId) -> Vec<(u8, u32)> {
    let sessions = store.sessions(user, own, NOW).expect("read");
    sessions.iter().map(|(id, row)| (id.as_bytes()[0], row.device)).collect()
}

async fn a_flow_is_changed_by_one_of_two(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    assert!(store.flow(&FLOW).expect("read").is_none());
    let mut one = added(&store, FLOW, FlowRow::begin(false, Some(number(1)), NOW)).await;
    let mut other = one.clone();
    one.row.tries_left = 4;
    (other.row.tries_left, other.row.mo_token) = (3, "ABC".into());
    assert!(store.swap_flow(&FLOW, &one).await.expect("no error"));
    assert!(!store.swap_flow(&FLOW, &other).await.expect("no error"), "it saw an older row");
    assert!(!store.add_mo(&FLOW, &other).await.expect("no error"));
    assert_eq!(store.flow_of_mo("ABC").expect("read"), None);
    let mut on = one.written();
    let late = on.clone();
    on.row.tries_left = 3;
    assert!(store.swap_flow(&FLOW, &on).await.expect("no error"), "it knows what it wrote");
    assert!(!store.swap_flow(&FLOW, &late).await.expect("no error"), "and what it has not seen");
    close(store, chassis).await;
    let store = open(url, &Chassis::for_tests(1));
    assert_eq!(store.flow(&FLOW).expect("read").expect("there").row, on.row);
}

async fn a_text_leads_to_its_flow(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let mut flow = added(&store, FLOW, FlowRow::begin(false, None, NOW)).await;
    flow.row.mo_token = "ABC".into();
    assert!(store.add_mo(&FLOW, &flow).await.expect("no error"));
    assert_eq!(store.flow_of_mo("ABC").expect("read"), Some(FLOW));
    assert_eq!(store.flow_of_mo("ABCD").expect("read"), None);
    assert_eq!(store.flow(&FLOW).expect("read").expect("there").row.mo_token, "ABC");
}

async fn a_proven_number_becomes_a_user_and_then_its_devices(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let flow = added(&store, FLOW, FlowRow::begin(false, Some(number(1)), NOW)).await;
    let first = enroll(&store, 1, ANNA, 1, (FLOW, &flow)).await;
    assert_eq!(first, Enroll::Done(Enrolled { user: ANNA, device: DeviceId(1) }));
    assert!(store.flow(&FLOW).expect("read").is_none(), "the flow ends with it");
    assert_eq!(enroll(&store, 1, ANNA, 2, (FLOW, &flow)).await, Enroll::Changed, "and is good once");
    let flow = added(&store, FLOW, FlowRow::begin(true, Some(number(1)), NOW)).await;
    let second = enroll(&store, 1, BEN, 2, (FLOW, &flow)).await;
    let expected = Enrolled { user: ANNA, device: DeviceId(2) };
    assert_eq!(second, Enroll::Done(expected), "the number has a user");
    close(store, chassis).await;
    let store = open(url, &Chassis::for_tests(1));
    assert_eq!(store.owner(number(1)).expect("read"), Some((ANNA, 1)));
    assert_eq!(store.owner(number(2)).expect("read"), None);
    let user = store.user(ANNA).expect("read").expect("there");
    assert_eq!((user.primary(), user.registered_ms, user.last_device), (Some(number(1)), NOW.0, 2));
    assert!(store.user(BEN).expect("read").is_none());
    let second = store.device(ANNA, DeviceId(2)).expect("read").expect("there");
    assert_eq!(second.row, DeviceRow { session: vec![2; 16], ..device("phone") });
    assert!(store.device(ANNA, DeviceId(3)).expect("read").is_none());
    assert_eq!(listed(&store, ANNA, SessionId::new([2; 16])), [(2, 2), (1, 1)], "one's own first");
}

async fn of_two_with_one_number_one_is_quicker(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let (one, other) = ([1; 16], [2; 16]);
    let first = added(&store, one, FlowRow::begin(false, Some(number(1)), NOW)).await;
    let second = added(&store, other, FlowRow::begin(false, Some(number(1)), NOW)).await;
    let race = futures::future::join(
        enroll(&store, 1, ANNA, 1, (one, &first)),
        enroll(&store, 1, BEN, 2, (other, &second)),
    );
    let (a, b) = race.await;
    let user = |enroll| if let Enroll::Done(enrolled) = enroll { Some(enrolled.user) } else { None };
    let users: Vec<_> = [a, b].into_iter().filter_map(user).collect();
    let (owner, _) = store.owner(number(1)).expect("read").expect("there");
    assert!(!users.is_empty() && users.iter().all(|user| *user == owner), "never two users");
    assert_eq!(store.facts().expect("read").len(), 1);
}

async fn a_user_has_so_many_devices(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    for n in 1..=DEVICES {
        let flow = added(&store, FLOW, FlowRow::begin(false, Some(number(1)), NOW)).await;
        let enrolled = enroll(&store, 1, ANNA, 1, (FLOW, &flow)).await;
        assert_eq!(enrolled, Enroll::Done(Enrolled { user: ANNA, device: DeviceId(n) }));
    }
    let flow = added(&store, FLOW, FlowRow::begin(false, Some(number(1)), NOW)).await;
    assert_eq!(enroll(&store, 1, ANNA, 1, (FLOW, &flow)).await, Enroll::Full);
}

async fn sessions_and_names_are_changed_by_one_of_two(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let id = SessionId::new([5; 16]);
    assert!(store.session(id).expect("read").is_none());
    assert!(begin(&store, 1, id, live()).await);
    let mut one = store.session(id).expect("read").expect("there");
    let other = one.clone();
    one.row.revoked = true;
    assert!(store.swap_session(id, &one).await.expect("no error"));
    assert!(!store.swap_session(id, &other).await.expect("no error"));
    assert!(store.session(id).expect("read").expect("there").row.revoked);
    assert!(store.set_nickname(ANNA, "Anna").await.expect("no error"));
    assert_eq!(store.user(ANNA).expect("read").expect("there").nickname, "Anna");
}

async fn a_device_begins_one_session_of_two(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let (one, other) = (SessionId::new([5; 16]), SessionId::new([6; 16]));
    let row = live();
    let race =
        futures::future::join(begin(&store, 1, one, row.clone()), begin(&store, 1, other, row.clone()));
    assert_eq!(race.await, (true, false), "it saw a device without");
    close(store, chassis).await;
    let store = open(url, &Chassis::for_tests(1));
    assert!(store.session(other).expect("read").is_none());
    assert_eq!(listed(&store, ANNA, one), [(5, 1)]);
    let holder = |n| store.device(ANNA, DeviceId(n)).expect("read").expect("there").row.session;
    assert_eq!(holder(1), one.to_vec());
    assert!(begin(&store, 2, other, row.clone()).await, "another device");
    assert_eq!((holder(1), holder(2)), (one.to_vec(), other.to_vec()));
}

async fn sessions_that_go_on_are_listed_whatever_has_ended(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let id = |n: u8| SessionId::new([n; 16]);
    let (many, own) = (SESSIONS_LISTED as u8, id(200));
    // In key order before those that go on: as many that were revoked as are listed, and as many that have run out.
    for n in 0..many {
        assert!(begin(&store, 1, id(n), live()).await);
        let mut seen = store.session(id(n)).expect("read").expect("there");
        seen.row.revoked = true;
        assert!(store.swap_session(id(n), &seen).await.expect("no error"));
        assert!(begin(&store, 1, id(many + n), SessionRow::default()).await);
    }
    let rows = store.db.scan_prefix("session_of", ANNA.as_bytes(), SESSION_ROWS).expect("read");
    assert_eq!(rows.len(), SESSIONS_LISTED, "what was revoked is not looked at any more");
    assert!(begin(&store, 1, id(199), live()).await);
    assert!(begin(&store, 2, own, live()).await);
    close(store, chassis).await;
    let store = open(url, &Chassis::for_tests(1));
    assert_eq!(listed(&store, ANNA, own), [(200, 2), (199, 1)]);
    assert!(listed(&store, BEN, SessionId::new([9; 16])).is_empty());
    for n in 128..128 + many {
        assert!(begin(&store, 3, id(n), live()).await);
    }
    let sessions = listed(&store, ANNA, own);
    assert_eq!((sessions.len(), sessions[0]), (SESSIONS_LISTED, (200, 2)), "one's own is among them");
}

async fn budgets_are_kept_apart_and_survive(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let (own, prefix) = (number_budget(NumberHash::new([9; 16])), prefix_budget(number(1)));
    assert_eq!(store.budget(&own).expect("read").row, BudgetRow::default());
    assert!(charge(&store, [(&own, &charged(&store, &own)), (&prefix, &charged(&store, &prefix))]).await);
    assert_eq!(store.budget(&number_budget(NumberHash::new([8; 16]))).expect("read").row.count, 0);
    assert_eq!(prefix_budget(number(1)), prefix_budget(number(99)));
    close(store, chassis).await;
    let store = open(url, &Chassis::for_tests(1));
    assert_eq!([&own, &prefix].map(|key| store.budget(key).expect("read").row.count), [1, 1]);
}

async fn budgets_are_charged_together_or_not_at_all(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let (own, prefix) = (number_budget(NumberHash::new([9; 16])), prefix_budget(number(1)));
    let (late_own, late_prefix) = (charged(&store, &own), charged(&store, &prefix));
    assert!(charge(&store, [(&own, &late_own), (&prefix, &late_prefix)]).await);
    assert!(!charge(&store, [(&own, &late_own), (&prefix, &charged(&store, &prefix))]).await);
    assert!(!charge(&store, [(&own, &charged(&store, &own)), (&prefix, &late_prefix)]).await);
    assert_eq!([&own, &prefix].map(|key| store.budget(key).expect("read").row.count), [1, 1]);
}

async fn a_nonce_is_taken_once(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let row = NonceRow { number: 5, device: 1, expires_ms: 9_000 };
    store.add_nonce(&[4; 32], &row).await.expect("added");
    assert_eq!(store.take_nonce(&[5; 32]).await.expect("no error"), None);
    assert_eq!(store.take_nonce(&[4; 31]).await.expect("no error"), None);
    let both = futures::future::join(store.take_nonce(&[4; 32]), store.take_nonce(&[4; 32])).await;
    let taken: Vec<_> =
        [both.0, both.1].into_iter().filter_map(|outcome| outcome.expect("no error")).collect();
    assert_eq!(taken, [row]);
    assert_eq!(store.take_nonce(&[4; 32]).await.expect("no error"), None);
}

async fn a_fact_stays_until_that_one_is_dropped(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let flow = added(&store, FLOW, FlowRow::begin(false, Some(number(1)), NOW)).await;
    assert!(matches!(enroll(&store, 1, ANNA, 1, (FLOW, &flow)).await, Enroll::Done(_)));
    close(store, chassis).await;
    let store = open(url, &Chassis::for_tests(1));
    let facts = store.facts().expect("read");
    let (key, fact) = &facts[0];
    assert_eq!((facts.len(), &fact.user, fact.epoch), (1, &ANNA.to_vec(), 1));
    let mut older = fact.clone();
    older.epoch = 0;
    store.drop_fact(key, &older).await.expect("no error");
    assert_eq!(store.facts().expect("read"), facts, "another fact than the one that was taken");
    store.drop_fact(key, fact).await.expect("dropped");
    assert!(store.facts().expect("read").is_empty());
}

async fn the_sweep_takes_what_is_over_and_nothing_else(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let (old, new) = ([1; 16], [2; 16]);
    for (id, token, began) in [(old, "OLD", NOW), (new, "NEW", NOW.plus(Duration::from_secs(60)))] {
        let mut flow = added(&store, id, FlowRow::begin(false, None, began)).await;
        flow.row.mo_token = token.into();
        assert!(store.add_mo(&id, &flow).await.expect("no error"));
        let nonce = NonceRow { expires_ms: flow.row.expires_ms, ..Default::default() };
        store.add_nonce(&[id[0]; 32], &nonce).await.expect("added");
    }
    let end = UnixMillis(store.flow(&old).expect("read").expect("there").row.expires_ms);
    assert_eq!(store.sweep(UnixMillis(end.0 - 1)).await.expect("swept"), 0);
    assert_eq!(store.sweep(end).await.expect("swept"), 2);
    assert!(store.flow(&old).expect("read").is_none());
    assert_eq!(store.flow_of_mo("OLD").expect("read"), None);
    assert!(store.flow(&new).expect("read").is_some());
    assert_eq!(store.flow_of_mo("NEW").expect("read"), Some(new));
    assert_eq!(store.take_nonce(&[1; 32]).await.expect("no error"), None);
    assert!(store.take_nonce(&[2; 32]).await.expect("no error").is_some());
}

async fn sessions_are_swept_when_their_refresh_token_has_run_out(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let id = |n: u32| SessionId::new([&[0; 12][..], &n.to_be_bytes()].concat().try_into().expect("16 bytes"));
    let until = |ms| SessionRow { refresh_expires_ms: ms, ..Default::default() };
    let late = NOW.0 + 1;
    // More of those that go on than one sweep looks at, and behind them what is over.
    let many = SWEEP_ROWS as u32;
    let begun = (1..=many).map(|n| begin(&store, n, id(n), until(late)));
    assert!(futures::future::join_all(begun).await.into_iter().all(|begun| begun));
    let revoked = SessionRow { revoked: true, ..until(NOW.0) };
    assert!(begin(&store, many + 1, id(many + 1), until(NOW.0)).await);
    assert!(begin(&store, many + 2, id(many + 2), revoked).await);
    assert!(begin(&store, many + 3, id(many + 3), until(late)).await);
    let mut after = Vec::new();
    let mut sweeps = Vec::new();
    for ms in [NOW.0 - 1, NOW.0 - 1, NOW.0, NOW.0, late, late, late] {
        sweeps.push(store.sweep_sessions(&mut after, UnixMillis(ms)).await.expect("swept"));
    }
    assert_eq!(sweeps, [0, 0, 0, 2, SWEEP_ROWS, 1, 0]);
    assert!((1..=many + 3).all(|n| store.session(id(n)).expect("read").is_none()));
    assert!(store.db.scan_prefix("session_of", &[], 9).expect("read").is_empty());
}

async fn a_session_that_is_renewed_just_now_is_not_swept(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let ids = [SessionId::new([1; 16]), SessionId::new([2; 16])];
    for (n, id) in ids.into_iter().enumerate() {
        assert!(begin(&store, n as u32, id, SessionRow::default()).await);
    }
    let mut seen = store.session(ids[0]).expect("read").expect("there");
    seen.row.refresh_expires_ms = NOW.0 + 1;
    let mut after = Vec::new();
    let race =
        futures::future::join(store.swap_session(ids[0], &seen), store.sweep_sessions(&mut after, NOW));
    let (renewed, swept) = race.await;
    assert!(renewed.expect("no error"));
    assert_eq!(swept.expect("no error"), 0, "it saw an older row");
    assert_eq!(store.sweep_sessions(&mut after, NOW).await.expect("swept"), 1, "the other one, next time");
    assert_eq!(store.session(ids[0]).expect("read").expect("there").row, seen.row);
    assert_eq!(listed(&store, ANNA, ids[1]), [(1, 0)]);
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod over_memory {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                super::$case(&StoreUrl::memory(&MemoryDisk::new())).await;
            })*
        }
        mod over_a_folder {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let folder = tempfile::TempDir::new().expect("a folder for the test");
                super::$case(&StoreUrl::Folder(folder.path().join("store"))).await;
            })*
        }
    };
}

suite! {
    a_flow_is_changed_by_one_of_two
    a_text_leads_to_its_flow
    a_proven_number_becomes_a_user_and_then_its_devices
    of_two_with_one_number_one_is_quicker
    a_user_has_so_many_devices
    sessions_and_names_are_changed_by_one_of_two
    a_device_begins_one_session_of_two
    sessions_that_go_on_are_listed_whatever_has_ended
    budgets_are_kept_apart_and_survive
    budgets_are_charged_together_or_not_at_all
    a_nonce_is_taken_once
    a_fact_stays_until_that_one_is_dropped
    the_sweep_takes_what_is_over_and_nothing_else
    sessions_are_swept_when_their_refresh_token_has_run_out
    a_session_that_is_renewed_just_now_is_not_swept
}
