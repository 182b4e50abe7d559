//! What is past its time goes.

use std::collections::BTreeSet;

use futures::future::{join, join_all};

use super::super::accounts::user_key;
use super::*;
use crate::limits::{FLOW_LIFE, SMS_FORGET, USER_LOOKED_AT, USER_PATIENCE};
use crate::rows::UserRow;

/// One whole walk; how many were dropped.
async fn swept(store: &Store, what: Sweep, now: UnixMillis) -> usize {
    let mut sweeper = Sweeper::new(what);
    let (dropped, is_end) = sweeper.next(store, now).await.expect("swept");
    assert!(is_end, "there are few");
    dropped
}

pub(super) async fn the_sweep_takes_what_is_over_and_nothing_else(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let (old, new) = ([1; 16], [2; 16]);
    for (id, token, began) in [(old, "OLD", NOW), (new, "NEW", NOW.plus(Duration::from_secs(60)))] {
        let mut flow = added(&store, id, FlowRow::begin(false, None, began)).await;
        flow.row.mo_token = token.into();
        assert!(store.add_mo(&id, &flow).await.expect("no error"));
        let nonce = NonceRow { expires_ms: flow.row.expires_ms, ..Default::default() };
        assert!(store.add_nonce(&[id[0]; 32], &nonce).await.expect("added"));
        let mut budget = store.budget(token.as_bytes()).await.expect("read");
        (budget.row.count, budget.row.last_ms) = (1, began.0);
        assert!(store.swap_budget(token.as_bytes(), &budget).await.expect("no error"));
    }
    let flow = NOW.plus(FLOW_LIFE);
    let ends = [(Sweep::Flows, flow), (Sweep::Texts, flow), (Sweep::Nonces, flow)];
    for (what, end) in ends.into_iter().chain([(Sweep::Budgets, NOW.plus(SMS_FORGET))]) {
        assert_eq!(swept(&store, what, UnixMillis(end.0 - 1)).await, 0, "{what:?}");
        assert_eq!(swept(&store, what, end).await, 1, "{what:?}");
    }
    assert!(store.flow(&old).await.expect("read").is_none());
    assert!(store.flow_of_mo("OLD").await.expect("read").is_none());
    assert_eq!(store.db.walk("flow_mo", &[], 9).await.expect("read").len(), 1);
    assert!(store.flow_of_mo("NEW").await.expect("read").is_some());
    assert_eq!(store.take_nonce(&[1; 32]).await.expect("no error"), None);
    assert!(store.take_nonce(&[2; 32]).await.expect("no error").is_some());
    assert_eq!(store.budget(b"OLD").await.expect("read").row, BudgetRow::default());
    assert_eq!(store.budget(b"NEW").await.expect("read").row.count, 1);
}

fn sid(n: u32) -> SessionId {
    SessionId::new([&[0; 12][..], &n.to_be_bytes()].concat().try_into().expect("16 bytes"))
}

pub(super) async fn what_goes_on_does_not_hide_what_is_over(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let late = NOW.0 + 1;
    let until = |n: u32| SessionRow {
        refresh_expires_ms: if n.is_multiple_of(8) { NOW.0 } else { late },
        revoked: n.is_multiple_of(16),
        ..Default::default()
    };
    let begun = join_all((1..=32).map(|n| begun(&store, n, sid(n), until(n))));
    assert!(begun.await.into_iter().all(|begun| begun));
    let mut sweeper = Sweeper { step: 5, ..Sweeper::new(Sweep::Sessions) };
    let (mut dropped, mut steps) = (0, 0);
    loop {
        let (now, is_end) = sweeper.next(&store, NOW).await.expect("swept");
        (dropped, steps) = (dropped + now, steps + 1);
        if is_end {
            break;
        }
        assert!(steps < 9, "a walk has an end");
    }
    assert_eq!((dropped, steps), (4, 7), "five at a time, all of 32");
    for n in 1..=32 {
        let there = store.session(sid(n)).await.expect("read").is_some();
        assert_eq!(there, !n.is_multiple_of(8), "{n}");
    }
    let mut again = 0;
    for _ in 0..7 {
        again += sweeper.next(&store, UnixMillis(late)).await.expect("swept").0;
    }
    assert_eq!(again, 28, "and then begins anew");
}

pub(super) async fn a_session_that_is_renewed_just_now_is_not_swept(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    for n in [1, 2] {
        assert!(begun(store, n, sid(n), SessionRow::default()).await);
    }
    let mut seen = there(store, sid(1)).await;
    let old = seen.bytes.clone().expect("there");
    seen.row.refresh_expires_ms = NOW.0 + 1;
    assert!(beside.swap_session(sid(1), &seen).await.expect("no error"));
    // As a sweep that looked before.
    let dropped = store.sweep(Sweep::Sessions, sid(1).to_vec().into(), old).await.expect("no error");
    assert!(!dropped, "it saw an older row");
    assert_eq!(swept(store, Sweep::Sessions, NOW).await, 1, "the other one");
    assert_eq!(there(store, sid(1)).await.row, seen.row);
    assert!(store.session(sid(2)).await.expect("read").is_none());
}

pub(super) async fn of_two_sweeps_at_once_each_row_is_taken_by_one(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    for n in 0..20 {
        assert!(store.add_nonce(&[n; 32], &NonceRow::default()).await.expect("added"));
    }
    let (one, other) = join(swept(store, Sweep::Nonces, NOW), swept(&beside, Sweep::Nonces, NOW)).await;
    assert_eq!(one + other, 20);
    assert_eq!(swept(store, Sweep::Nonces, NOW).await, 0);
}

pub(super) async fn a_user_who_never_came_to_own_their_number_is_forgotten(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let (lost, died) = (UserId::new([3; 16]), UserId::new([4; 16]));
    let flows = [(5, 1, ANNA), (6, 1, lost), (7, 2, died)];
    for (id, n, user) in flows {
        let flow = verified(&store, [id; 16], n).await;
        let (id, device) = ([id; 16], phone());
        let enrolment = asked(n, user, (&id, &flow), &device);
        store.add_device(user, &enrolment).await.expect("no error").expect("a new device");
        if user == ANNA {
            assert_eq!(enrolled(&store, &enrolment).await, done(ANNA, 1));
        }
    }
    let users = async |store: &Store| {
        let rows = store.db.walk("account", &[], 99).await.expect("read");
        rows.iter().map(|(key, _)| key[0]).collect::<BTreeSet<u8>>()
    };
    let end = NOW.plus(USER_PATIENCE);
    assert_eq!(swept(&store, Sweep::Users, UnixMillis(end.0 - 1)).await, 0, "they may be on the way");
    assert_eq!(users(&store).await, BTreeSet::from([1, 3, 4]));
    assert_eq!(swept(&store, Sweep::Users, NOW.plus(USER_LOOKED_AT)).await, 0, "asked often enough");
    assert_eq!(swept(&store, Sweep::Users, end).await, 2);
    assert_eq!(users(&store).await, BTreeSet::from([1]), "with all that was theirs");
    assert_eq!(listed(&store, ANNA, first([5; 16])).await, [(5, 1)]);
    let person: Seen<UserRow> = store.see("account", &user_key(ANNA)).await.expect("read");
    assert_eq!(person.row.last_device, 1);
}
