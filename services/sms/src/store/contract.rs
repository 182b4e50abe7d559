//! What every store of the SMS service does: the same functions over memory, over a folder and over a CQL server.

mod numbers;
mod suite;
mod torn;

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::{SmsResult, SmsSubmit};
use dialtone_proto::types::v1::FateKind;
use dialtone_store::{Db, StoreUrl};
use dialtone_vocab::{NumberHash, UnixMillis, UserId};
use futures::future::join_all;

use super::sweep::Cursors;
use super::{HOUR_MS, Lane, Progress, SCHEMA, Sms, Store, Told, id_of};
use crate::limits::{OPEN_ROWS, SPEND_KEEP, SWEEP_ROWS, TAKEN_KEEP};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);
const CARLA: UserId = UserId::new([3; 16]);
const PHONE: NumberHash = NumberHash::new([7; 16]);
const OTHER: NumberHash = NumberHash::new([8; 16]);
const NOW: UnixMillis = UnixMillis(1_000_000 * HOUR_MS);
const NODE: &str = "node";

async fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    Store::new(Db::open(url.clone(), SCHEMA, chassis).await.expect("opens"))
}

async fn close(store: Store, chassis: Chassis) {
    drop(store);
    assert!(chassis.tasks.shutdown(Duration::from_secs(5)).await);
}

/// Two processes, where a store can be shared; else one twice. What either remembers the other does not know.
async fn two(url: &StoreUrl, chassis: &Chassis) -> [Store; 2] {
    let db = Db::open(url.clone(), SCHEMA, chassis).await.expect("opens");
    let is_shared = matches!(url, StoreUrl::Scylla(_));
    let other = if is_shared { open(url, chassis).await } else { Store::new(db.clone()) };
    [Store::new(db), other]
}

fn submit(n: u8) -> SmsSubmit {
    SmsSubmit { message_id: vec![n; 16], text: "hello".into(), ..SmsSubmit::default() }
}

fn result(n: u16, kind: FateKind) -> SmsResult {
    SmsResult { message_id: [&n.to_be_bytes()[..], &[0; 14]].concat(), kind: kind.into(), ..<_>::default() }
}

/// Takes the n-th SMS; its key in the queue.
async fn taken(store: &Store, n: u8) -> Vec<u8> {
    store.take(&submit(n), NODE, NOW).await.expect("no error").expect("taken now")
}

async fn sms(store: &Store, n: u8) -> Sms {
    store.sms(&[n; 16]).await.expect("read").expect("taken")
}

/// An SMS that the operator has, under some ids.
async fn submitted(store: &Store, n: u8, ids: &[&str], told: Option<&SmsResult>) -> Sms {
    let key = taken(store, n).await;
    let mut sms = sms(store, n).await;
    assert!(store.submitting(&mut sms, NODE).await.expect("written"));
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    assert!(store.submitted(&mut sms, &ids, told).await.expect("written"));
    store.follow(&sms, &key, NOW).await.expect("written");
    sms
}

/// The queue, as whoever looks around finds it: keys and nodes, in the order of the ids.
async fn queued(store: &Store) -> Vec<(Vec<u8>, String)> {
    let mut found = Vec::new();
    for hour in store.hours().await.expect("read") {
        for lane in Lane::of(hour) {
            let mut after = Vec::new();
            loop {
                let page = store.queued(lane, &after).await.expect("read");
                let Some((last, _)) = page.last() else { break };
                after.clone_from(last);
                found.extend(page);
            }
        }
    }
    found.sort_by(|a, b| id_of(&a.0).cmp(id_of(&b.0)));
    found
}

/// Message ids of the queue.
async fn queued_ids(store: &Store) -> Vec<Vec<u8>> {
    queued(store).await.iter().map(|(key, _)| id_of(key).to_vec()).collect()
}

/// The results to tell, as whoever looks around finds them.
async fn told(store: &Store) -> Vec<Told> {
    let mut found = Vec::new();
    for hour in store.hours().await.expect("read") {
        for lane in Lane::of(hour) {
            found.extend(store.results(lane, &[]).await.expect("read"));
        }
    }
    found
}

async fn results(store: &Store) -> Vec<SmsResult> {
    told(store).await.into_iter().map(|told| told.result).collect()
}

async fn an_sms_is_taken_once_and_queued_until_something_became_of_it(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    assert!(store.sms(&[1; 16]).await.expect("read").is_none());
    let one = submit(1);
    let takers = join_all((0..5).map(|_| store.take(&one, NODE, NOW))).await;
    let winners = takers.into_iter().filter(|taken| taken.as_ref().expect("no error").is_some()).count();
    // Of one process, the same in the same moment is the same: at least one hears that it was taken now.
    assert!(winners >= 1);
    let key = taken(&store, 2).await;
    let mut first = sms(&store, 1).await;
    assert_eq!((first.row.submit.clone(), first.row.node.as_str()), (Some(submit(1)), NODE));
    assert!(first.row.is(Progress::Queued));
    assert!(store.submitting(&mut first, NODE).await.expect("written"));
    assert!(sms(&store, 1).await.row.is(Progress::Submitting));
    assert!(store.requeue(&mut first).await.expect("written"));
    assert!(sms(&store, 1).await.row.is(Progress::Queued));
    assert!(store.submitting(&mut first, NODE).await.expect("written"));
    close(store, chassis).await;

    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    assert_eq!(queued_ids(&store).await, [vec![1; 16], vec![2; 16]]);
    let mut first = sms(&store, 1).await;
    assert!(first.row.is(Progress::Submitting), "a later start sees that it may have left");
    assert!(store.ended(&mut first, None).await.expect("written"));
    assert_eq!(queued_ids(&store).await.len(), 2, "until all that follows is written");
    store.follow(&first, &first.queue_key(), NOW).await.expect("written");
    assert!(sms(&store, 1).await.row.is(Progress::Ended));
    assert_eq!(queued(&store).await, [(key, NODE.to_owned())]);
    assert_eq!(store.take(&submit(1), NODE, NOW).await, Ok(None), "once and for all");
    close(store, chassis).await;
}

async fn of_processes_that_take_or_submit_the_same_sms_one_does(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let [one, other] = two(url, &chassis).await;
    for n in 1..=8 {
        let sms_n = submit(n);
        let (a, b) = tokio::join!(one.take(&sms_n, "one", NOW), other.take(&sms_n, "other", NOW));
        let winners = [a.expect("no error").is_some(), b.expect("no error").is_some()];
        let mut seen = sms(&one, n).await;
        assert_eq!(winners, [seen.row.node == "one", seen.row.node == "other"]);
        let mut also_seen = sms(&other, n).await;
        let (a, b) =
            tokio::join!(one.submitting(&mut seen, "one"), other.submitting(&mut also_seen, "other"));
        let winners = [a.expect("no error"), b.expect("no error")];
        let row = sms(&one, n).await.row;
        assert_eq!(winners, [row.node == "one", row.node == "other"], "it leaves once");
    }
    assert_eq!(queued_ids(&other).await.len(), 8);
}

async fn a_receipt_finds_its_sms_and_counts_once(url: &StoreUrl) {
    let ended = result(0x0101, FateKind::SmsDelivered);
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    submitted(&store, 1, &["a", "", "b"], None).await;
    close(store, chassis).await;

    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    let mut found = Vec::new();
    for id in ["a", "b", "", "c"] {
        found.push(if id.is_empty() { None } else { other.of_receipt(id).await.expect("read") });
    }
    assert_eq!(found, [Some(vec![1; 16]), Some(vec![1; 16]), None, None]);
    let (mut seen, mut also_seen) = (sms(&store, 1).await, sms(&other, 1).await);
    assert_eq!((seen.row.parts, &seen.row.waiting[..]), (3, &["a".to_owned(), "b".to_owned()][..]));
    assert!(store.reported(&mut seen, "a", true, None).await.expect("written"));
    assert!(!other.reported(&mut also_seen, "b", true, None).await.expect("no error"), "seen before that");
    let mut now = sms(&other, 1).await;
    assert_eq!((now.row.delivered, &now.row.waiting[..]), (1, &["b".to_owned()][..]));
    assert!(other.reported(&mut now, "b", true, Some(&ended)).await.expect("written"));
    assert!(results(&store).await.is_empty(), "until it is told");
    store.tell(&ended, NOW).await.expect("written");
    let row = sms(&store, 1).await.row;
    assert_eq!((row.ended_by.as_str(), row.delivered, row.waiting.len()), ("b", 2, 0));
    assert!(row.is(Progress::Ended));
    assert_eq!(results(&other).await, [ended]);
    close(store, chassis).await;
}

async fn results_stay_until_they_are_taken_each_kind_for_itself(url: &StoreUrl) {
    let (first, second) = (result(1, FateKind::SmsSubmitted), result(1, FateKind::SmsDelivered));
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    for told in [&second, &first] {
        store.tell(told, NOW).await.expect("written");
    }
    close(store, chassis).await;

    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    assert_eq!(results(&store).await, [first, second.clone()], "in the order of their fates");
    let taken = told(&store).await.swap_remove(0);
    for _ in 0..2 {
        store.result_taken(&taken).await.expect("taken again changes nothing");
        assert_eq!(results(&store).await, std::slice::from_ref(&second));
    }
    // Whatever its SMS's hour, it is found where it was written.
    let later = UnixMillis(NOW.0 + 100 * HOUR_MS);
    store.tell(&second, later).await.expect("written");
    assert_eq!(store.hours().await.expect("read").len(), 2);
    assert_eq!(results(&store).await, [second.clone(), second]);
}

async fn whoever_opted_out_is_out_until_it_is_undone(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    store.opt_out(PHONE, true).await.expect("written");
    close(store, chassis).await;

    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    assert_eq!(store.is_opted_out(PHONE).await, Ok(true));
    assert_eq!(store.is_opted_out(OTHER).await, Ok(false));
    other.opt_out(PHONE, false).await.expect("written");
    assert_eq!(store.is_opted_out(PHONE).await, Ok(false));
}

async fn the_text_and_the_numbers_go_when_the_operator_has_them(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    let numbers = |n: u8, to: &str, from_number: &str, text: &str| SmsSubmit {
        to: to.into(),
        from_number: from_number.into(),
        text: text.into(),
        from_user: ANNA.to_vec(),
        sent_idx: 7,
        ..submit(n)
    };
    for n in [1, 2] {
        let (full, rest) = (numbers(n, "+15550199", "+15550101", "dinner?"), numbers(n, "", "", ""));
        store.take(&full, NODE, NOW).await.expect("no error").expect("taken");
        let mut now = sms(&store, n).await;
        for _ in 0..2 {
            assert!(store.submitting(&mut now, NODE).await.expect("written"));
            assert_eq!(sms(&store, n).await.row.submit, Some(full.clone()), "it may have to leave again");
            assert!(store.requeue(&mut now).await.expect("written"));
        }
        assert_eq!(sms(&store, n).await.row.submit, Some(full));
        let written = match n {
            1 => store.submitted(&mut now, &[], None).await,
            _ => store.ended(&mut now, None).await,
        };
        assert_eq!(written, Ok(true));
        let row = sms(&store, n).await.row;
        assert_eq!((row.submit, row.at_ms), (Some(rest), NOW.0));
    }
}

async fn what_is_to_be_done_is_found_page_by_page_and_hours_without_any_close(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    // All in one lane, two pages of them.
    let id = |n: usize| [&[0][..], &u32::try_from(n).expect("few").to_be_bytes(), &[0; 11]].concat();
    let take = async |n: usize| {
        let submit = SmsSubmit { message_id: id(n), ..SmsSubmit::default() };
        store.take(&submit, NODE, NOW).await.expect("no error").expect("taken")
    };
    store.open_hour(NOW).await.expect("written");
    for n in (0..=OPEN_ROWS).collect::<Vec<_>>().chunks(64) {
        join_all(n.iter().map(|n| take(*n))).await;
    }
    let all: Vec<_> = (0..=OPEN_ROWS).map(id).collect();
    assert_eq!(queued_ids(&store).await, all);
    let hours = store.hours().await.expect("read");
    let after = |hours: u64| UnixMillis(NOW.0 + hours * HOUR_MS - 1);
    store.close(hours[0], after(2)).await.expect("no error");
    assert_eq!(store.hours().await.expect("read"), hours, "somebody may still write into it");
    store.close(hours[0], after(3)).await.expect("no error");
    assert!(store.hours().await.expect("read").is_empty());
}

fn nth(n: usize) -> Vec<u8> {
    [&u32::try_from(n).expect("few").to_be_bytes()[..], &[0; 12]].concat()
}

async fn what_is_past_its_time_is_swept_in_steps_behind_what_stays(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    let keep = TAKEN_KEEP.as_millis() as u64;
    let (old, young) = (UnixMillis(NOW.0 - keep), UnixMillis(NOW.0 - keep + 1));
    // A whole step of rows that stay: of their age, or because they have not left.
    let write = async |n: usize| {
        let (id, at) = (nth(n), if n < SWEEP_ROWS - 2 { young } else { old });
        let taken = SmsSubmit { message_id: id.clone(), ..SmsSubmit::default() };
        let key = store.take(&taken, NODE, at).await.expect("no error").expect("taken");
        let mut sms = store.sms(&id).await.expect("read").expect("taken");
        match n {
            _ if n == SWEEP_ROWS - 2 => {}
            _ if n == SWEEP_ROWS - 1 => assert!(store.submitting(&mut sms, NODE).await.expect("written")),
            _ => {
                assert!(store.submitted(&mut sms, &[n.to_string()], None).await.expect("written"));
                store.follow(&sms, &key, NOW).await.expect("written");
            }
        }
    };
    for n in (0..SWEEP_ROWS + 2).collect::<Vec<_>>().chunks(64) {
        join_all(n.iter().map(|n| write(*n))).await;
    }
    let mut cursors = Cursors::default();
    let mut swept = 0;
    for _ in 0..4 {
        swept += store.sweep(&mut cursors, NOW).await.expect("swept");
    }
    // The two that are past may stand behind a step of others, as do the ids of their receipts.
    assert_eq!(swept, 4);
    for n in [0, SWEEP_ROWS - 3, SWEEP_ROWS - 2, SWEEP_ROWS - 1, SWEEP_ROWS, SWEEP_ROWS + 1] {
        let is_there = store.sms(&nth(n)).await.expect("read").is_some();
        let has_id = store.of_receipt(&n.to_string()).await.expect("read").is_some();
        assert_eq!((is_there, has_id), (n < SWEEP_ROWS, n < SWEEP_ROWS - 2), "{n}");
    }
    let mut all = 0;
    for _ in 0..4 {
        all += store.sweep(&mut cursors, UnixMillis(NOW.0 + 1)).await.expect("swept");
    }
    assert_eq!(all, 2 * (SWEEP_ROWS - 2), "in their own time");
}

async fn hours_that_are_past_are_swept(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
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
