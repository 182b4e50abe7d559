//! What every engine must do. Each case gets a place where nothing is yet.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dialtone_chassis::Chassis;
use dialtone_store::{Batch, Commit, Db, StoreError, StoreUrl, limits};
use futures::future::join_all;
use futures::poll;

pub(crate) const TABLES: &[&str] = &["one", "two"];
const MORE_TABLES: &[&str] = &["one", "two", "three"];
const GROUP: usize = 500;

/// A database and the process it is open in.
pub(crate) struct Opening {
    pub(crate) db: Db,
    chassis: Chassis,
}

impl Opening {
    /// Ends the process in good order.
    pub(crate) async fn close(self) {
        drop(self.db);
        assert!(self.chassis.tasks.shutdown(Duration::from_secs(10)).await, "the writer ends");
    }
}

pub(crate) fn try_open(
    url: &StoreUrl,
    service: &'static str,
    tables: &'static [&'static str],
    version: u32,
) -> Result<Opening, StoreError> {
    // Another process has other random numbers.
    static SEED: AtomicU64 = AtomicU64::new(1);
    let chassis = Chassis::for_tests(SEED.fetch_add(1, Ordering::Relaxed));
    let db = Db::open(url.clone(), service, tables, version, &chassis)?;
    Ok(Opening { db, chassis })
}

pub(crate) fn open(url: &StoreUrl) -> Opening {
    try_open(url, "alpha", TABLES, 1).expect("opens")
}

async fn reopen(opening: Opening, url: &StoreUrl) -> Opening {
    opening.close().await;
    open(url)
}

pub(crate) async fn put(db: &Db, key: &[u8], value: &[u8]) {
    assert_eq!(db.commit(Batch::new().put("one", key, value)).await, Ok(Commit::Applied));
}

pub(crate) fn value(db: &Db, key: &[u8]) -> Option<Vec<u8>> {
    db.get("one", key).expect("reads").map(|value| value.to_vec())
}

fn keys(rows: Result<Vec<(Bytes, Bytes)>, StoreError>) -> Vec<Vec<u8>> {
    rows.expect("scans").into_iter().map(|(key, _)| key.to_vec()).collect()
}

pub(crate) async fn a_new_store_has_nothing(url: &StoreUrl) {
    let it = open(url);
    assert_eq!(value(&it.db, b"key"), None);
    assert_eq!(it.db.scan("one", .., 10), Ok(vec![]));
    assert_eq!(it.db.get_u64("two", b"key"), Ok(None));
}

pub(crate) async fn what_was_answered_is_there_after_reopening(url: &StoreUrl) {
    let it = open(url);
    for n in 0..100_u8 {
        put(&it.db, &[n], &[n, n]).await;
    }
    let it = reopen(it, url).await;
    for n in 0..100_u8 {
        assert_eq!(value(&it.db, &[n]), Some(vec![n, n]));
    }
}

pub(crate) async fn a_put_replaces(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"key", b"old").await;
    put(&it.db, b"key", b"new").await;
    assert_eq!(value(&it.db, b"key"), Some(b"new".to_vec()));
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key"), Some(b"new".to_vec()));
}

pub(crate) async fn a_delete_stays_deleted(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"key", b"value").await;
    let batch = Batch::new().delete("one", b"key").delete("one", b"never there");
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    assert_eq!(value(&it.db, b"key"), None);
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key"), None);
}

pub(crate) async fn a_batch_spans_tables(url: &StoreUrl) {
    let it = open(url);
    let batch = Batch::new().put("one", b"a", b"1").put("two", b"b", b"2").max("two", b"c", 3);
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"a"), Some(b"1".to_vec()));
    assert_eq!(it.db.get("two", b"b"), Ok(Some(Bytes::from_static(b"2"))));
    assert_eq!(it.db.get_u64("two", b"c"), Ok(Some(3)));
}

pub(crate) async fn the_last_change_of_a_key_wins(url: &StoreUrl) {
    let it = open(url);
    let batch = Batch::new().put("one", b"a", b"1").delete("one", b"a").put("one", b"a", b"2");
    let batch = batch.and(Batch::new().put("one", b"b", b"1").delete("one", b"b"));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    assert_eq!((value(&it.db, b"a"), value(&it.db, b"b")), (Some(b"2".to_vec()), None));
}

pub(crate) async fn an_empty_value_is_a_value(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"key", b"").await;
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key"), Some(vec![]));
}

pub(crate) async fn a_megabyte_comes_back(url: &StoreUrl) {
    let it = open(url);
    let big: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    put(&it.db, b"key", &big).await;
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key"), Some(big));
}

pub(crate) async fn a_maximum_only_grows(url: &StoreUrl) {
    let it = open(url);
    for (given, kept) in [(5, 5), (3, 5), (9, 9), (0, 9)] {
        assert_eq!(it.db.commit(Batch::new().max("one", b"m", given)).await, Ok(Commit::Applied));
        assert_eq!(it.db.get_u64("one", b"m"), Ok(Some(kept)));
    }
    let it = reopen(it, url).await;
    assert_eq!(it.db.commit(Batch::new().max("one", b"m", 4)).await, Ok(Commit::Applied));
    assert_eq!(it.db.get_u64("one", b"m"), Ok(Some(9)));
}

pub(crate) async fn maxima_merge_within_a_batch(url: &StoreUrl) {
    let it = open(url);
    let batch = Batch::new().max("one", b"m", 7).max("one", b"m", 2).max("one", b"n", 1).delete("one", b"n");
    assert_eq!(it.db.commit(batch.max("one", b"n", 0)).await, Ok(Commit::Applied));
    assert_eq!((it.db.get_u64("one", b"m"), it.db.get_u64("one", b"n")), (Ok(Some(7)), Ok(Some(0))));
}

pub(crate) async fn maxima_of_a_group_all_count(url: &StoreUrl) {
    let it = open(url);
    let commits =
        (0..GROUP as u64).map(|n| it.db.commit(Batch::new().max("one", b"m", (n * 7) % GROUP as u64)));
    for outcome in join_all(commits).await {
        assert_eq!(outcome, Ok(Commit::Applied));
    }
    assert_eq!(it.db.get_u64("one", b"m"), Ok(Some(GROUP as u64 - 1)));
}

pub(crate) async fn a_maximum_over_something_else_is_refused_whole(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"m", b"not a number").await;
    let outcome = it.db.commit(Batch::new().put("one", b"other", b"x").max("one", b"m", 1)).await;
    assert_eq!(outcome, Err(StoreError::Corrupt { table: "one".to_owned() }));
    assert_eq!(value(&it.db, b"other"), None, "no half of a batch");
    assert_eq!(it.db.get_u64("one", b"m"), Err(StoreError::Corrupt { table: "one".to_owned() }));
    put(&it.db, b"other", b"y").await;
}

pub(crate) async fn expect_absent_lets_only_the_first_pass(url: &StoreUrl) {
    let it = open(url);
    let claim = |who: &'static str| Batch::new().expect_absent("one", b"key").put("one", b"key", who);
    assert_eq!(it.db.commit(claim("me")).await, Ok(Commit::Applied));
    assert_eq!(it.db.commit(claim("you")).await, Ok(Commit::Refused { index: 0 }));
    let it = reopen(it, url).await;
    assert_eq!(it.db.commit(claim("you")).await, Ok(Commit::Refused { index: 0 }));
    assert_eq!(value(&it.db, b"key"), Some(b"me".to_vec()));
}

pub(crate) async fn expect_value_compares_the_whole_value(url: &StoreUrl) {
    let it = open(url);
    let swap = |from: &'static str, to: &'static str| {
        Batch::new().expect_value("one", b"key", from).put("one", b"key", to)
    };
    assert_eq!(it.db.commit(swap("a", "b")).await, Ok(Commit::Refused { index: 0 }), "absent is no value");
    put(&it.db, b"key", b"a").await;
    for (from, applied) in [("", false), ("ab", false), ("a", true), ("a", false)] {
        assert_eq!(it.db.commit(swap(from, "b")).await.map(Commit::is_applied), Ok(applied), "{from:?}");
    }
    assert_eq!(value(&it.db, b"key"), Some(b"b".to_vec()));
}

pub(crate) async fn a_refusal_names_the_first_condition_and_writes_nothing(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"there", b"x").await;
    let batch = Batch::new()
        .put("one", b"new", b"1")
        .expect_value("one", b"there", b"x")
        .expect_absent("one", b"there")
        .expect_absent("one", b"there");
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Refused { index: 1 }));
    assert_eq!(value(&it.db, b"new"), None);
}

pub(crate) async fn conditions_hold_before_the_batchs_own_changes(url: &StoreUrl) {
    let it = open(url);
    let batch = Batch::new().put("one", b"key", b"1").expect_absent("one", b"key");
    assert_eq!(it.db.commit(batch.clone()).await, Ok(Commit::Applied));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Refused { index: 0 }));
}

pub(crate) async fn of_a_group_that_claims_one_key_exactly_one_wins(url: &StoreUrl) {
    let it = open(url);
    let claims = (0..GROUP).map(|n| {
        let batch = Batch::new().expect_absent("one", b"key").put("one", b"key", n.to_string());
        it.db.commit(batch)
    });
    let outcomes = join_all(claims).await;
    let winners: Vec<_> = (0..GROUP).filter(|n| outcomes[*n] == Ok(Commit::Applied)).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(value(&it.db, b"key"), Some(winners[0].to_string().into_bytes()));
    assert!(outcomes.iter().all(Result::is_ok));
}

pub(crate) async fn a_group_counts_up_by_compare_and_swap(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"n", b"0").await;
    // So few that all are asked in their order.
    let swaps = (0..30).map(|n: u32| {
        let batch =
            Batch::new().expect_value("one", b"n", n.to_string()).put("one", b"n", (n + 1).to_string());
        it.db.commit(batch)
    });
    assert!(join_all(swaps).await.into_iter().all(|outcome| outcome == Ok(Commit::Applied)), "in order");
    assert_eq!(value(&it.db, b"n"), Some(b"30".to_vec()));
}

pub(crate) async fn commits_that_wait_share_a_group(url: &StoreUrl) {
    let it = open(url);
    let before = it.db.stats();
    let commits = (0..GROUP).map(|n| it.db.commit(Batch::new().put("one", n.to_string(), "x")));
    assert!(join_all(commits).await.into_iter().all(|outcome| outcome == Ok(Commit::Applied)));
    let after = it.db.stats();
    assert_eq!(after.batches - before.batches, GROUP as u64);
    assert!((after.groups - before.groups) * 10 <= GROUP as u64, "{after:?}");
    assert_eq!(after.waiting, 0);
}

pub(crate) async fn an_empty_batch_waits_for_those_before(url: &StoreUrl) {
    let it = open(url);
    let mut first = Box::pin(it.db.commit(Batch::new().put("one", b"key", b"x")));
    // Polled once, so it is in the queue.
    assert!(poll!(first.as_mut()).is_pending());
    assert_eq!(it.db.commit(Batch::new()).await, Ok(Commit::Applied));
    assert_eq!(value(&it.db, b"key"), Some(b"x".to_vec()));
}

pub(crate) async fn a_call_that_is_dropped_hurts_nobody(url: &StoreUrl) {
    let it = open(url);
    let mut dropped = Box::pin(it.db.commit(Batch::new().put("one", b"a", b"x")));
    assert!(poll!(dropped.as_mut()).is_pending());
    drop(dropped);
    put(&it.db, b"b", b"y").await;
    assert_eq!(value(&it.db, b"b"), Some(b"y".to_vec()));
}

pub(crate) async fn scans_keep_to_bounds_order_and_limit(url: &StoreUrl) {
    let it = open(url);
    for key in [b"d", b"a", b"c", b"b"] {
        put(&it.db, key, b"x").await;
    }
    let key = |c: &str| c.as_bytes().to_vec();
    let db = &it.db;
    assert_eq!(keys(db.scan("one", .., 10)), [b"a", b"b", b"c", b"d"]);
    assert_eq!(keys(db.scan("one", key("b")..key("d"), 10)), [b"b", b"c"]);
    assert_eq!(keys(db.scan("one", key("b")..=key("d"), 10)), [b"b", b"c", b"d"]);
    assert_eq!(keys(db.scan("one", (Bound::Excluded(key("b")), Bound::Unbounded), 10)), [b"c", b"d"]);
    assert_eq!(keys(db.scan("one", .., 2)), [b"a", b"b"]);
    assert_eq!(keys(db.scan_rev("one", .., 2)), [b"d", b"c"]);
    assert_eq!(keys(db.scan_rev("one", ..key("c"), 10)), [b"b", b"a"]);
    assert_eq!(keys(db.scan("one", .., 0)), Vec::<Vec<u8>>::new());
}

pub(crate) async fn ranges_that_hold_nothing_are_empty(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"b", b"x").await;
    let key = |c: &str| c.as_bytes().to_vec();
    assert_eq!(it.db.scan("one", key("c")..key("a"), 10), Ok(vec![]));
    assert_eq!(it.db.scan("one", key("b")..key("b"), 10), Ok(vec![]));
    assert_eq!(it.db.scan_rev("one", (Bound::Excluded(key("b")), Bound::Excluded(key("b"))), 10), Ok(vec![]));
    assert_eq!(it.db.delete_range("one", key("c")..key("a")).await, Ok(0));
}

pub(crate) async fn prefixes_end_where_they_end(url: &StoreUrl) {
    let it = open(url);
    for key in [&[1][..], &[1, 0], &[1, 0xff], &[1, 0xff, 0xff], &[2], &[0xff], &[0xff, 0xff, 1]] {
        put(&it.db, key, b"x").await;
    }
    let db = &it.db;
    assert_eq!(keys(db.scan_prefix("one", &[1], 10)), [&[1][..], &[1, 0], &[1, 0xff], &[1, 0xff, 0xff]]);
    assert_eq!(keys(db.scan_prefix("one", &[1, 0xff], 10)), [&[1, 0xff][..], &[1, 0xff, 0xff]]);
    assert_eq!(keys(db.scan_prefix_rev("one", &[1], 2)), [&[1, 0xff, 0xff][..], &[1, 0xff]]);
    assert_eq!(keys(db.scan_prefix("one", &[0xff], 10)), [&[0xff][..], &[0xff, 0xff, 1]]);
    assert_eq!(keys(db.scan_prefix("one", &[0xff, 0xff], 10)), [&[0xff, 0xff, 1]]);
    assert_eq!(keys(db.scan_prefix("one", &[], 10)).len(), 7);
    assert_eq!(keys(db.scan_prefix("one", &[3], 10)).len(), 0);
}

pub(crate) async fn tables_do_not_see_each_other(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"key", b"x").await;
    assert_eq!(it.db.get("two", b"key"), Ok(None));
    assert_eq!(it.db.scan("two", .., 10), Ok(vec![]));
}

pub(crate) async fn services_do_not_see_each_other(url: &StoreUrl) {
    let it = open(url);
    let other = try_open(url, "beta", TABLES, 7).expect("opens beside it");
    put(&it.db, b"key", b"x").await;
    assert_eq!(value(&other.db, b"key"), None);
    assert_ne!(it.db.store_id(), other.db.store_id());
}

pub(crate) async fn an_unknown_table_is_named(url: &StoreUrl) {
    let it = open(url);
    let unknown = StoreError::UnknownTable { table: "nine".to_owned() };
    assert_eq!(it.db.get("nine", b"key"), Err(unknown.clone()));
    assert_eq!(it.db.scan("nine", .., 1), Err(unknown.clone()));
    let batch = Batch::new().put("one", b"key", b"x").put("nine", b"key", b"x");
    assert_eq!(it.db.commit(batch).await, Err(unknown));
    assert_eq!(value(&it.db, b"key"), None, "no half of a batch");
    assert!(it.db.get("_meta", b"epoch").is_err(), "the store's own rows are its own");
}

pub(crate) async fn what_is_too_large_is_refused(url: &StoreUrl) {
    let it = open(url);
    let long = vec![1; limits::KEY_BYTES + 1];
    assert_eq!(it.db.commit(Batch::new().put("one", &long[1..], b"x")).await, Ok(Commit::Applied));
    for key in [&[][..], &long] {
        let outcome = it.db.commit(Batch::new().put("one", key, b"x")).await;
        assert_eq!(outcome, Err(StoreError::TooLarge { what: "a key" }));
        let outcome = it.db.commit(Batch::new().expect_absent("one", key)).await;
        assert_eq!(outcome, Err(StoreError::TooLarge { what: "a key" }));
    }
    let rows =
        (0..=limits::BATCH_ROWS as u64).fold(Batch::new(), |batch, n| batch.max("one", n.to_be_bytes(), n));
    assert_eq!(it.db.commit(rows).await, Err(StoreError::TooLarge { what: "a batch" }));
    let bytes = Batch::new().put("one", b"key", vec![0; limits::BATCH_BYTES]);
    assert_eq!(it.db.commit(bytes).await, Err(StoreError::TooLarge { what: "a batch" }));
}

pub(crate) async fn each_opening_is_a_new_epoch(url: &StoreUrl) {
    let mut it = open(url);
    let id = it.db.store_id();
    for epoch in 1..5 {
        assert_eq!(it.db.epoch().0, epoch);
        assert_eq!(it.db.store_id(), id, "made once");
        it = reopen(it, url).await;
    }
}

pub(crate) async fn another_schema_is_refused_and_harms_nothing(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"key", b"x").await;
    it.close().await;
    let refused = try_open(url, "alpha", TABLES, 2).map(|it| it.db.epoch());
    assert_eq!(refused, Err(StoreError::WrongSchema { service: "alpha".to_owned(), found: 1, wanted: 2 }));
    let it = open(url);
    assert_eq!(value(&it.db, b"key"), Some(b"x".to_vec()));
}

pub(crate) async fn a_table_may_be_added(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"key", b"x").await;
    it.close().await;
    let it = try_open(url, "alpha", MORE_TABLES, 1).expect("opens");
    assert_eq!(it.db.commit(Batch::new().put("three", b"key", b"y")).await, Ok(Commit::Applied));
    it.close().await;
    let it = try_open(url, "alpha", MORE_TABLES, 1).expect("opens");
    assert_eq!(value(&it.db, b"key"), Some(b"x".to_vec()));
    assert_eq!(it.db.get("three", b"key"), Ok(Some(Bytes::from_static(b"y"))));
}

pub(crate) async fn delete_range_drops_the_range_and_counts(url: &StoreUrl) {
    let it = open(url);
    let rows = 2 * limits::DELETE_STEP as u64 + 10;
    let batch = (0..rows).fold(Batch::new(), |batch, n| batch.put("one", n.to_be_bytes(), b"x"));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    let key = |n: u64| n.to_be_bytes().to_vec();
    assert_eq!(it.db.delete_range("one", key(5)..key(rows - 5)).await, Ok(rows - 10));
    let it = reopen(it, url).await;
    let left: Vec<_> = (0..5).chain(rows - 5..rows).map(key).collect();
    assert_eq!(keys(it.db.scan("one", .., 100)), left);
}

pub(crate) async fn after_the_stop_nothing_is_pretended(url: &StoreUrl) {
    let it = open(url);
    put(&it.db, b"key", b"x").await;
    assert!(it.chassis.tasks.shutdown(Duration::from_secs(10)).await, "ends though somebody holds the store");
    assert_eq!(it.db.commit(Batch::new().put("one", b"key", b"y")).await, Err(StoreError::Closed));
    assert_eq!(it.db.check(), Err(StoreError::Closed));
}
