//! What every store of identity does: the same functions over memory, a folder and, if there is one, a CQL server.

mod enrolments;
mod facts;
mod sessions;
mod sweeps;

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::{Batch, Db, StoreUrl};
use dialtone_vocab::{NumberHash, PhoneNumber, SessionId, UnixMillis, UserId};
use prost::Message as _;

use super::{
    Enroll, Enrolled, Enrolment, FlowId, SCHEMA, Seen, Store, Sweep, Sweeper, number_budget, prefix_budget,
};
use crate::rows::{BudgetRow, DeviceRow, FlowRow, MoRow, NonceRow, SessionRow};
use enrolments::*;
use facts::*;
use sessions::*;
use sweeps::*;

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);
const FLOW: FlowId = [7; 16];
const NOW: UnixMillis = UnixMillis(1_000);

fn number(n: u64) -> PhoneNumber {
    PhoneNumber::from_u64(14_155_550_100 + n).expect("a number")
}

/// A process with identity's store.
struct Process {
    store: Store,
    chassis: Chassis,
}

impl Process {
    async fn start(url: &StoreUrl) -> Self {
        let chassis = Chassis::for_tests(1);
        let db = Db::open(url.clone(), SCHEMA, &chassis).await.expect("opens");
        Self { store: Store::new(db), chassis }
    }

    async fn restart(self, url: &StoreUrl) -> Self {
        drop(self.store);
        assert!(self.chassis.tasks.shutdown(Duration::from_secs(5)).await);
        Self::start(url).await
    }

    /// What another process has of the same store, where it can be shared; else another part of this one.
    async fn beside(&self, url: &StoreUrl) -> Store {
        match url {
            StoreUrl::Scylla(_) => Self::start(url).await.store,
            _ => self.store.clone(),
        }
    }
}

async fn added(store: &Store, id: FlowId, row: FlowRow) -> Seen<FlowRow> {
    assert!(store.add_flow(&id, &row).await.expect("added"));
    store.flow(&id).await.expect("read").expect("there")
}

/// A flow that has proved a number.
async fn verified(store: &Store, id: FlowId, n: u64) -> Seen<FlowRow> {
    added(store, id, FlowRow { stage: 3, ..FlowRow::begin(false, Some(number(n)), NOW) }).await
}

/// A session that goes on at [`NOW`].
fn live() -> SessionRow {
    SessionRow { refresh_expires_ms: NOW.0 + 1, ..Default::default() }
}

async fn a_flow_is_changed_by_one_of_two(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    assert!(store.flow(&FLOW).await.expect("read").is_none());
    let mut one = added(store, FLOW, FlowRow::begin(false, Some(number(1)), NOW)).await;
    assert!(!store.add_flow(&FLOW, &FlowRow::default()).await.expect("no error"), "an id is drawn once");
    let mut other = beside.flow(&FLOW).await.expect("read").expect("there");
    one.row.tries_left = 4;
    (other.row.tries_left, other.row.mo_token) = (3, "ABC".into());
    assert!(store.swap_flow(&FLOW, &one).await.expect("no error"));
    assert!(!beside.swap_flow(&FLOW, &other).await.expect("no error"), "it saw an older row");
    assert!(!beside.add_mo(&FLOW, &other).await.expect("no error"));
    assert!(store.flow_of_mo("ABC").await.expect("read").is_none(), "the text is not the flow's");
    let mut on = one.written();
    let late = on.clone();
    on.row.tries_left = 3;
    assert!(store.swap_flow(&FLOW, &on).await.expect("no error"), "it knows what it wrote");
    assert!(!store.swap_flow(&FLOW, &late).await.expect("no error"), "and what it has not seen");
    assert!(!store.drop_flow(&FLOW, &late).await.expect("no error"));
    drop(beside);
    let it = it.restart(url).await;
    assert_eq!(it.store.flow(&FLOW).await.expect("read").expect("there").row, on.row);
    assert!(it.store.drop_flow(&FLOW, &on.written()).await.expect("no error"));
    assert!(it.store.flow(&FLOW).await.expect("read").is_none());
}

async fn a_text_leads_to_its_flow(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let mut flow = added(&store, FLOW, FlowRow::begin(false, None, NOW)).await;
    flow.row.mo_token = "ABC".into();
    assert!(store.add_mo(&FLOW, &flow).await.expect("no error"));
    let (id, found) = store.flow_of_mo("ABC").await.expect("read").expect("there");
    assert_eq!((id, found.row), (FLOW, flow.row.clone()));
    for text in ["", "ABCD", &"A".repeat(2_000)] {
        assert!(store.flow_of_mo(text).await.expect("read").is_none());
    }
    // A process that gave a text died before the flow had it; then it is given another one.
    let mut again = added(&store, [8; 16], FlowRow::begin(false, None, NOW)).await;
    let leads = MoRow { flow: vec![8; 16], expires_ms: again.row.expires_ms };
    let batch = Batch::new().put("flow_mo", "LOST", leads.encode_to_vec());
    assert!(store.db.commit(batch).await.expect("no error").is_applied());
    assert!(store.flow_of_mo("LOST").await.expect("read").is_none());
    again.row.mo_token = "KEPT".into();
    assert!(store.add_mo(&[8; 16], &again).await.expect("no error"));
    assert_eq!(store.flow_of_mo("KEPT").await.expect("read").expect("there").0, [8; 16]);
}

/// A budget as it is, with one more taken.
async fn charged(store: &Store, key: &[u8]) -> Seen<BudgetRow> {
    let mut seen = store.budget(key).await.expect("read");
    seen.row.count += 1;
    seen
}

async fn budgets_are_kept_apart_and_survive(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (own, prefix) = (number_budget(NumberHash::new([9; 16])), prefix_budget(number(1)));
    assert_eq!(it.store.budget(&own).await.expect("read").row, BudgetRow::default());
    for key in [&own, &prefix, &prefix] {
        assert!(it.store.swap_budget(key, &charged(&it.store, key).await).await.expect("no error"));
    }
    let other = number_budget(NumberHash::new([8; 16]));
    assert_eq!(it.store.budget(&other).await.expect("read").row.count, 0);
    assert_eq!(prefix_budget(number(1)), prefix_budget(number(99)));
    let it = it.restart(url).await;
    assert_eq!(it.store.budget(&own).await.expect("read").row.count, 1);
    assert_eq!(it.store.budget(&prefix).await.expect("read").row.count, 2);
}

async fn a_budget_is_charged_by_one_of_two_and_given_back_by_whom_it_was_charged(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    let key = number_budget(NumberHash::new([9; 16]));
    let (mine, late) = (charged(store, &key).await, charged(&beside, &key).await);
    let before = store.budget(&key).await.expect("read").row;
    assert!(store.swap_budget(&key, &mine).await.expect("no error"));
    assert!(!beside.swap_budget(&key, &late).await.expect("no error"), "it saw an older row");
    let back = mine.written().with(before.clone());
    assert!(store.swap_budget(&key, &back).await.expect("no error"));
    assert_eq!(store.budget(&key).await.expect("read").row, before);
    assert!(!store.swap_budget(&key, &back).await.expect("no error"), "and given back once");
    let other = charged(&beside, &key).await;
    assert!(beside.swap_budget(&key, &other).await.expect("no error"));
}

async fn a_nonce_is_taken_once(url: &StoreUrl) {
    let it = Process::start(url).await;
    let (store, beside) = (&it.store, it.beside(url).await);
    let row = NonceRow { number: 5, device: 1, expires_ms: 9_000 };
    assert!(store.add_nonce(&[4; 32], &row).await.expect("added"));
    assert_eq!(store.take_nonce(&[5; 32]).await.expect("no error"), None);
    assert_eq!(store.take_nonce(&[4; 31]).await.expect("no error"), None);
    let both = futures::future::join(store.take_nonce(&[4; 32]), beside.take_nonce(&[4; 32])).await;
    let taken: Vec<_> =
        [both.0, both.1].into_iter().filter_map(|outcome| outcome.expect("no error")).collect();
    assert_eq!(taken, [row]);
    assert_eq!(store.take_nonce(&[4; 32]).await.expect("no error"), None);
}

dialtone_testkit::over_every_store! { "identity over a CQL server", [crate::SCHEMA], {
    a_flow_is_changed_by_one_of_two
    a_text_leads_to_its_flow
    budgets_are_kept_apart_and_survive
    a_budget_is_charged_by_one_of_two_and_given_back_by_whom_it_was_charged
    a_nonce_is_taken_once
    a_proven_number_becomes_a_user_and_then_its_devices
    an_enrolment_goes_on_from_wherever_it_was_left
    of_two_with_one_number_one_is_quicker_and_the_other_joins
    one_flow_twice_at_once_makes_one_device
    a_flow_is_good_for_one_key_and_until_its_session_is_used
    a_device_that_logged_in_by_its_key_meanwhile_keeps_that_session
    who_was_not_first_at_the_number_leaves_nothing
    a_user_has_so_many_devices
    a_fact_is_there_before_it_is_so_and_told_when_it_is
    a_fact_that_never_came_to_pass_is_not_told
    a_lot_is_read_part_by_part_and_woken_alone
    sessions_and_names_are_changed_by_one_of_two
    a_device_begins_one_session_of_two
    a_session_that_has_run_out_here_and_not_there_is_renewed_or_ended
    a_session_that_its_device_never_came_to_have_is_nothing
    sessions_that_go_on_are_listed_whatever_has_ended
    the_sweep_takes_what_is_over_and_nothing_else
    what_goes_on_does_not_hide_what_is_over
    a_session_that_is_renewed_just_now_is_not_swept
    of_two_sweeps_at_once_each_row_is_taken_by_one
    a_user_who_never_came_to_own_their_number_is_forgotten
} }
