//! Sessions: a device has one at most that goes on.

use futures::future::join;

use super::super::accounts::device_key;
use super::*;
use crate::limits::SESSIONS_LISTED;
use dialtone_vocab::DeviceId;

/// Begins a session of a device of Anna's, as a login does.
pub(super) async fn begun(store: &Store, device: u32, id: SessionId, row: SessionRow) -> bool {
    let row = SessionRow { user: ANNA.to_vec(), device, ..row };
    let device = DeviceId(device);
    let holder: Seen<DeviceRow> = store.see("account", &device_key(ANNA, device)).await.expect("read");
    let before = match SessionId::from_slice(&holder.row.session) {
        Ok(before) => store.session(before).await.expect("read"),
        Err(_) => None,
    };
    store.begin_session((ANNA, device), &holder, before.as_ref(), (id, &row)).await.expect("no error")
}

pub(super) async fn there(store: &Store, id: SessionId) -> Seen<SessionRow> {
    store.session(id).await.expect("read").expect("there")
}

async fn revoked(store: &Store, id: SessionId) {
    let mut seen = there(store, id).await;
    seen.row.revoked = true;
    assert!(store.swap_session(id, &seen).await.expect("no error"));
}

async fn has(store: &Store, device: u32) -> Vec<u8> {
    store.device(ANNA, DeviceId(device)).await.expect("read").expect("there").row.session
}

fn id(n: u8) -> SessionId {
    SessionId::new([n; 16])
}

pub(super) async fn sessions_and_names_are_changed_by_one_of_two(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    assert!(store.session(id(5)).await.expect("read").is_none());
    assert!(begun(store, 1, id(5), live()).await);
    let (mut one, other) = (there(store, id(5)).await, there(&beside, id(5)).await);
    one.row.revoked = true;
    assert!(store.swap_session(id(5), &one).await.expect("no error"));
    assert!(!beside.swap_session(id(5), &other).await.expect("no error"));
    assert!(there(&beside, id(5)).await.row.revoked);
    assert!(store.set_nickname(ANNA, "Anna").await.expect("no error"));
    assert_eq!(store.user(ANNA).await.expect("read").expect("there").nickname, "Anna");
}

pub(super) async fn a_device_begins_one_session_of_two(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    let holder: Seen<DeviceRow> = store.see("account", &device_key(ANNA, DeviceId(1))).await.expect("read");
    let row = SessionRow { user: ANNA.to_vec(), device: 1, ..live() };
    let race = join(
        store.begin_session((ANNA, DeviceId(1)), &holder, None, (id(5), &row)),
        beside.begin_session((ANNA, DeviceId(1)), &holder, None, (id(6), &row)),
    );
    let (one, other) = race.await;
    let (one, other) = (one.expect("no error"), other.expect("no error"));
    assert!(one != other, "both saw a device without");
    let (won, lost) = if one { (5, 6) } else { (6, 5) };
    drop(beside);
    let Process { store, .. } = it.restart(url).await;
    assert!(store.session(id(lost)).await.expect("read").is_none());
    assert_eq!(listed(&store, ANNA, id(won)).await, [(won, 1)]);
    assert_eq!(has(&store, 1).await, id(won).to_vec());
    assert!(begun(&store, 2, id(7), live()).await, "another device");
    assert_eq!((has(&store, 1).await, has(&store, 2).await), (id(won).to_vec(), id(7).to_vec()));
}

pub(super) async fn a_session_that_has_run_out_here_and_not_there_is_renewed_or_ended(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    assert!(begun(store, 1, id(5), live()).await);
    let holder = store.device(ANNA, DeviceId(1)).await.expect("read").expect("there");
    // One clock says that it has run out; by the other one it is renewed, just before …
    let over = there(store, id(5)).await;
    let renewed = there(&beside, id(5)).await;
    let later = SessionRow { refresh_expires_ms: NOW.0 + 9, ..renewed.row.clone() };
    assert!(beside.swap_session(id(5), &renewed.with(later)).await.expect("no error"));
    let begin = store.begin_session((ANNA, DeviceId(1)), &holder, Some(&over), (id(6), &over.row));
    assert!(!begin.await.expect("no error"));
    assert!(store.session(id(6)).await.expect("read").is_none());
    assert_eq!(listed(store, ANNA, id(5)).await, [(5, 1)]);
    // … or just after.
    let renewed = there(&beside, id(5)).await;
    assert!(begun(store, 1, id(6), live()).await);
    assert!(!beside.swap_session(id(5), &renewed).await.expect("no error"), "it has ended");
    assert_eq!(listed(store, ANNA, id(5)).await, [(6, 1)]);
    // What was revoked stays known as that.
    revoked(store, id(6)).await;
    assert!(begun(store, 1, id(7), live()).await);
    assert!(there(store, id(6)).await.row.revoked);
    assert_eq!(listed(store, ANNA, id(6)).await, [(7, 1)]);
}

pub(super) async fn a_session_that_its_device_never_came_to_have_is_nothing(url: &StoreUrl) {
    let it = Process::start(url).await;
    assert!(begun(&it.store, 1, id(5), SessionRow::default()).await);
    let over = there(&it.store, id(5)).await;
    // The process dies after each step of a login.
    let bytes = over.bytes.clone().expect("there");
    assert!(it.store.drop_as("session", id(5).to_vec(), &bytes).await.expect("no error"));
    let Process { store, .. } = it.restart(url).await;
    assert!(listed(&store, ANNA, id(5)).await.is_empty());
    let row = SessionRow { user: ANNA.to_vec(), device: 1, ..live() };
    assert!(store.add("session", id(6).to_vec(), &row).await.expect("no error"));
    assert!(listed(&store, ANNA, id(9)).await.is_empty());
    assert!(begun(&store, 1, id(7), live()).await, "the next login goes on");
    assert_eq!(listed(&store, ANNA, id(7)).await, [(7, 1)]);
    assert_eq!(has(&store, 1).await, id(7).to_vec());
}

pub(super) async fn sessions_that_go_on_are_listed_whatever_has_ended(url: &StoreUrl) {
    let it = Process::start(url).await;
    for n in 200..210 {
        assert!(begun(&it.store, 1, id(n), live()).await);
        revoked(&it.store, id(n)).await;
        assert!(begun(&it.store, 2, id(n + 20), SessionRow::default()).await);
    }
    assert!(begun(&it.store, 1, id(1), live()).await);
    assert!(begun(&it.store, 3, id(3), live()).await);
    let Process { store, .. } = it.restart(url).await;
    assert_eq!(listed(&store, ANNA, id(3)).await, [(3, 3), (1, 1)]);
    assert!(listed(&store, BEN, id(3)).await.is_empty(), "it is not his");
    for device in 4..=SESSIONS_LISTED as u32 + 1 {
        assert!(begun(&store, device, id(device as u8), live()).await);
    }
    let own = id(SESSIONS_LISTED as u8);
    let sessions = listed(&store, ANNA, own).await;
    assert_eq!((sessions.len(), sessions[0].0), (SESSIONS_LISTED, SESSIONS_LISTED as u8), "one's own first");
}
