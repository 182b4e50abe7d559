//! What every store of the SMS service does: the same functions over memory and over a folder.

use std::collections::BTreeSet;

use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::{SmsResult, SmsSubmit};
use dialtone_proto::types::v1::FateKind;
use dialtone_store::{Db, MemoryDisk, StoreUrl};
use dialtone_vocab::{NumberHash, UnixMillis, UserId};
use futures::future::join_all;

use super::sweep::Cursors;
use super::{HOUR_MS, Progress, SCHEMA, SmsRow, Store, TABLES};
use crate::limits::{RESULTS, SPEND_KEEP, SWEEP_ROWS, TAKEN_KEEP};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);
const CARLA: UserId = UserId::new([3; 16]);
const PHONE: NumberHash = NumberHash::new([7; 16]);
const NOW: UnixMillis = UnixMillis(1_000_000 * HOUR_MS);
const OTHER: NumberHash = NumberHash::new([8; 16]);

fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    Store::new(Db::open(url.clone(), "sms", TABLES, SCHEMA, chassis).expect("opens"))
}

async fn close(store: Store, chassis: Chassis) {
    drop(store);
    assert!(chassis.tasks.shutdown(std::time::Duration::from_secs(5)).await);
}

fn pool() -> [String; 2] {
    ["+15550001".to_owned(), "+15550002".to_owned()]
}

fn submit(n: u8) -> SmsSubmit {
    SmsSubmit { message_id: vec![n; 16], text: "hello".into(), ..SmsSubmit::default() }
}

fn result(n: u16, kind: FateKind) -> SmsResult {
    SmsResult { message_id: [&n.to_be_bytes()[..], &[0; 14]].concat(), kind: kind.into(), ..<_>::default() }
}

fn progress(store: &Store, id: &[u8]) -> u32 {
    store.row(id).expect("read").expect("taken").progress
}

fn results(store: &Store) -> Vec<SmsResult> {
    store.results().expect("read")
}

async fn an_sms_is_taken_once_and_queued_until_something_became_of_it(url: &StoreUrl) {
    let id = vec![1; 16];
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        assert_eq!(store.row(&id).expect("read"), None);
        let one = submit(1);
        let taken = join_all((0..5).map(|_| store.take(&one, NOW)));
        let taken = taken.await.into_iter().filter(|taken| *taken.as_ref().expect("no error")).count();
        assert_eq!(taken, 1, "of five at once");
        assert!(store.take(&submit(2), NOW).await.expect("taken"));
        let row = store.row(&id).expect("read").expect("taken");
        assert_eq!((row.submit.clone(), row.progress), (Some(submit(1)), Progress::Queued as u32));
        store.submitting(&id, &row).await.expect("written");
        assert_eq!(progress(&store, &id), Progress::Submitting as u32);
        store.requeue(&id, &row).await.expect("written");
        assert_eq!(progress(&store, &id), Progress::Queued as u32);
        store.submitting(&id, &row).await.expect("written");
        close(store, chassis).await;
    }
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    assert_eq!(store.queued().expect("read"), [vec![1; 16], vec![2; 16]]);
    assert_eq!(
        progress(&store, &id),
        Progress::Submitting as u32,
        "a later start sees that it may have left"
    );
    let row = store.row(&id).expect("read").expect("taken");
    store.submitted(&id, &row, &[], None, true).await.expect("written");
    assert_eq!(progress(&store, &id), Progress::Ended as u32);
    assert_eq!(store.queued().expect("read"), [vec![2; 16]]);
    assert!(!store.take(&submit(1), NOW).await.expect("no error"), "once and for all");
}

async fn a_receipt_finds_its_sms_until_it_was_reported(url: &StoreUrl) {
    let (id, row) = (vec![1; 16], SmsRow { parts: 2, ..SmsRow::default() });
    let told = result(0x0101, FateKind::SmsDelivered);
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        let ids = ["a".to_owned(), String::new(), "b".to_owned()];
        store.submitted(&id, &row, &ids, None, false).await.expect("written");
        assert_eq!(progress(&store, &id), Progress::Submitted as u32);
        close(store, chassis).await;
    }
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let of = |operator_id: &str| store.of_receipt(operator_id).expect("read");
    assert_eq!([of("a"), of("b"), of(""), of("c")], [Some(id.clone()), Some(id.clone()), None, None]);
    let once = SmsRow { delivered: 1, ..row };
    store.reported("a", &id, &once, None).await.expect("written");
    assert_eq!([of("a"), of("b")], [None, Some(id.clone())]);
    assert_eq!(store.row(&id).expect("read").expect("there").delivered, 1);
    assert!(results(&store).is_empty());
    store.reported("b", &id, &once, Some(&told)).await.expect("written");
    assert_eq!((of("b"), results(&store), progress(&store, &id)), (None, vec![told], Progress::Ended as u32));
}

async fn results_stay_until_they_are_taken_each_kind_for_itself(url: &StoreUrl) {
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        for kind in [FateKind::SmsDelivered, FateKind::SmsSubmitted] {
            let told = result(1, kind);
            store.submitted(&[1], &SmsRow::default(), &[], Some(&told), false).await.expect("written");
        }
        close(store, chassis).await;
    }
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let (submitted, delivered) = (result(1, FateKind::SmsSubmitted), result(1, FateKind::SmsDelivered));
    assert_eq!(
        results(&store),
        [submitted.clone(), delivered.clone()],
        "of one SMS in the order of its fates, whichever was written first"
    );
    store.result_taken(&submitted.message_id, submitted.kind).await.expect("written");
    store.result_taken(&submitted.message_id, submitted.kind).await.expect("taken again changes nothing");
    assert_eq!(results(&store), [delivered]);
    let many = u16::try_from(RESULTS).expect("few") + 1;
    for n in 2..=many {
        let told = result(n, FateKind::SmsFailed);
        store.submitted(&[2], &SmsRow::default(), &[], Some(&told), true).await.expect("written");
    }
    assert_eq!(results(&store).len(), RESULTS, "a round has a limit");
}

async fn a_number_belongs_to_one_user_for_each_phone_and_stays(url: &StoreUrl) {
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        assert!(store.could_assign(PHONE, CARLA, &pool()).expect("read"));
        let (numbers, users) = (pool(), [ANNA, BEN, CARLA]);
        let assigned = join_all(users.iter().map(|user| store.assign(PHONE, *user, &numbers))).await;
        let assigned: Vec<_> = assigned.into_iter().map(|number| number.expect("no error")).collect();
        let different: BTreeSet<_> = assigned.iter().flatten().collect();
        assert_eq!(
            (different.len(), assigned.iter().flatten().count()),
            (2, 2),
            "two numbers, two of three users"
        );
        for (user, number) in users.into_iter().zip(&assigned) {
            assert_eq!(store.could_assign(PHONE, user, &numbers).expect("read"), number.is_some());
            assert_eq!(store.number_of(PHONE, user).expect("read"), *number);
            if let Some(number) = number {
                assert_eq!(store.route(PHONE, number).expect("read"), Some(user));
            }
        }
        assert_eq!(store.assign(OTHER, CARLA, &numbers).await.expect("no error"), Some(numbers[0].clone()));
        close(store, chassis).await;
    }
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let mut turned = pool();
    turned.reverse();
    for user in [ANNA, BEN, CARLA] {
        let known = store.number_of(PHONE, user).expect("read");
        assert_eq!(
            store.assign(PHONE, user, &turned).await.expect("no error"),
            known,
            "whatever the pool's order"
        );
    }
    assert_eq!(store.route(OTHER, "+15550001").expect("read"), Some(CARLA));
    assert_eq!(store.route(OTHER, "+15550002").expect("read"), None);
}

async fn whoever_opted_out_is_out_until_it_is_undone(url: &StoreUrl) {
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        store.opt_out(PHONE, true).await.expect("written");
        close(store, chassis).await;
    }
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    assert!(store.is_opted_out(PHONE).expect("read") && !store.is_opted_out(OTHER).expect("read"));
    store.opt_out(PHONE, false).await.expect("written");
    assert!(!store.is_opted_out(PHONE).expect("read"));
}

async fn an_hour_has_so_many_sms_also_of_several_at_once_and_over_a_restart(url: &StoreUrl) {
    let now = UnixMillis(5 * HOUR_MS + 600_000);
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        let spent = join_all((0..6).map(|_| store.spend(4, now))).await;
        let waits: Vec<_> = spent.into_iter().filter_map(|wait| wait.expect("no error")).collect();
        assert_eq!(waits, [HOUR_MS - 600_000; 2], "two of six wait for the hour to end");
        close(store, chassis).await;
    }
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    assert_eq!(store.spend(4, UnixMillis(6 * HOUR_MS - 1)).await.expect("no error"), Some(1));
    assert_eq!(store.spend(5, now).await.expect("no error"), None, "the cap was raised");
    assert_eq!(store.spend(4, UnixMillis(6 * HOUR_MS)).await.expect("no error"), None);
}

async fn the_text_and_the_numbers_go_when_the_operator_has_them(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let numbers = |to: &str, from_number: &str, text: &str| SmsSubmit {
        to: to.into(),
        from_number: from_number.into(),
        text: text.into(),
        from_user: ANNA.to_vec(),
        sent_idx: 7,
        ..submit(1)
    };
    let (full, rest) = (numbers("+15550199", "+15550101", "dinner?"), numbers("", "", ""));
    store.take(&full, NOW).await.expect("taken");
    let row = || store.row(&[1; 16]).expect("read").expect("taken");
    for _ in 0..2 {
        store.submitting(&[1; 16], &row()).await.expect("written");
        assert_eq!(row().submit, Some(full.clone()), "it may have to leave again");
        store.requeue(&[1; 16], &row()).await.expect("written");
    }
    assert_eq!(row().submit, Some(full.clone()));
    for ended in [false, true] {
        let before = SmsRow { submit: Some(full.clone()), ..row() };
        store.submitted(&[1; 16], &before, &[], None, ended).await.expect("written");
        assert_eq!((row().submit, row().at_ms), (Some(rest.clone()), NOW.0));
    }
}

fn nth(n: usize) -> Vec<u8> {
    [&u32::try_from(n).expect("few").to_be_bytes()[..], &[0; 12]].concat()
}

async fn what_is_past_its_time_is_swept_in_steps_behind_what_stays(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let keep = TAKEN_KEEP.as_millis() as u64;
    let (old, young) = (UnixMillis(NOW.0 - keep), UnixMillis(NOW.0 - keep + 1));
    // A whole step of rows that stay: of their age, or because they have not left.
    let write = async |n: usize| {
        let at = if n < SWEEP_ROWS - 2 { young } else { old };
        let row = SmsRow { at_ms: at.0, ..SmsRow::default() };
        let (id, ids) = (nth(n), [n.to_string()]);
        match n {
            _ if n == SWEEP_ROWS - 2 => store.requeue(&id, &row).await,
            _ if n == SWEEP_ROWS - 1 => store.submitting(&id, &row).await,
            _ => store.submitted(&id, &row, &ids, None, n.is_multiple_of(2)).await,
        }
    };
    join_all((0..SWEEP_ROWS + 2).map(write)).await.into_iter().for_each(|written| written.expect("written"));
    let mut cursors = Cursors::default();
    let mut swept = Vec::new();
    for _ in 0..4 {
        swept.push(store.sweep(&mut cursors, NOW).await.expect("swept"));
    }
    // The two that are past stand behind a step of others, as do the ids of their receipts.
    assert_eq!(swept.iter().sum::<usize>(), 4, "{swept:?}");
    let is_there = |n| store.row(&nth(n)).expect("read").is_some();
    let has_id = |n: usize| store.of_receipt(&n.to_string()).expect("read").is_some();
    for n in [0, SWEEP_ROWS - 3, SWEEP_ROWS - 2, SWEEP_ROWS - 1] {
        assert!(is_there(n), "{n}");
    }
    assert!(has_id(0) && has_id(SWEEP_ROWS - 3));
    for n in [SWEEP_ROWS, SWEEP_ROWS + 1] {
        assert!(!is_there(n) && !has_id(n), "{n}");
    }
    let later = UnixMillis(NOW.0 + 1);
    let mut all = 0;
    for _ in 0..4 {
        all += store.sweep(&mut cursors, later).await.expect("swept");
    }
    assert_eq!(all, 2 * (SWEEP_ROWS - 2), "in their own time");
}

async fn hours_that_are_past_are_swept(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let kept = UnixMillis(NOW.0 - SPEND_KEEP.as_millis() as u64);
    let hours = [UnixMillis(kept.0 - 1), kept, NOW];
    for hour in hours {
        assert_eq!(store.spend(1, hour).await.expect("no error"), None);
    }
    let mut cursors = Cursors::default();
    assert_eq!(store.sweep(&mut cursors, NOW).await.expect("swept"), 1);
    let full = join_all(hours.map(|hour| store.spend(1, hour))).await;
    let full: Vec<_> = full.into_iter().map(|wait| wait.expect("no error").is_some()).collect();
    assert_eq!(full, [false, true, true]);
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
    an_sms_is_taken_once_and_queued_until_something_became_of_it
    a_receipt_finds_its_sms_until_it_was_reported
    results_stay_until_they_are_taken_each_kind_for_itself
    a_number_belongs_to_one_user_for_each_phone_and_stays
    whoever_opted_out_is_out_until_it_is_undone
    an_hour_has_so_many_sms_also_of_several_at_once_and_over_a_restart
    the_text_and_the_numbers_go_when_the_operator_has_them
    what_is_past_its_time_is_swept_in_steps_behind_what_stays
    hours_that_are_past_are_swept
}
