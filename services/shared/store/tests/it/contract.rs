//! What every engine must do. Each case gets a place where nothing is yet.

mod conditions;

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dialtone_chassis::Chassis;
use dialtone_store::{Batch, Commit, Db, Schema, StoreError, StoreUrl, Table, limits};
use dialtone_vocab::Epoch;
use futures::future::join_all;
use futures::poll;

use conditions::cas_value;
pub(crate) use conditions::*;

pub(crate) const TABLES: &[Table] = &[
    Table::new("one", 0),
    Table::new("two", 0),
    Table::new("cas", 0).conditional(),
    Table::new("split", 2),
    Table::of_rows("rows"),
];
pub(crate) const ALPHA: Schema = Schema { service: "alpha", tables: TABLES, version: 1 };
pub(crate) const MORE_TABLES: &[Table] = &[
    Table::new("one", 0),
    Table::new("two", 0),
    Table::new("cas", 0).conditional(),
    Table::new("split", 2),
    Table::of_rows("rows"),
    Table::new("three", 0),
];
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

pub(crate) async fn try_open(
    url: &StoreUrl,
    service: &'static str,
    tables: &'static [Table],
    version: u32,
) -> Result<Opening, StoreError> {
    // Another process has other random numbers.
    static SEED: AtomicU64 = AtomicU64::new(1);
    let chassis = Chassis::for_tests(SEED.fetch_add(1, Ordering::Relaxed));
    let schema = Schema { service, tables, version };
    let db = Db::open(url.clone(), schema, &chassis).await?;
    Ok(Opening { db, chassis })
}

pub(crate) async fn open(url: &StoreUrl) -> Opening {
    try_open(url, "alpha", TABLES, 1).await.expect("opens")
}

async fn reopen(opening: Opening, url: &StoreUrl) -> Opening {
    opening.close().await;
    open(url).await
}

pub(crate) async fn put(db: &Db, key: &[u8], value: &[u8]) {
    assert_eq!(db.commit(Batch::new().put("one", key, value)).await, Ok(Commit::Applied));
}

pub(crate) async fn value(db: &Db, key: &[u8]) -> Option<Vec<u8>> {
    db.get("one", key).await.expect("reads").map(|value| value.to_vec())
}

fn keys(rows: Result<Vec<(Bytes, Bytes)>, StoreError>) -> Vec<Vec<u8>> {
    rows.expect("scans").into_iter().map(|(key, _)| key.to_vec()).collect()
}

pub(crate) async fn a_new_store_has_nothing(url: &StoreUrl) {
    let it = open(url).await;
    assert_eq!(value(&it.db, b"key").await, None);
    assert_eq!(it.db.scan("one", .., 10).await, Ok(vec![]));
    assert_eq!(it.db.get_u64("two", b"key").await, Ok(None));
}

pub(crate) async fn what_was_answered_is_there_after_reopening(url: &StoreUrl) {
    let it = open(url).await;
    for n in 0..100_u8 {
        put(&it.db, &[n], &[n, n]).await;
    }
    let it = reopen(it, url).await;
    for n in 0..100_u8 {
        assert_eq!(value(&it.db, &[n]).await, Some(vec![n, n]));
    }
}

pub(crate) async fn a_put_replaces(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"key", b"old").await;
    put(&it.db, b"key", b"new").await;
    assert_eq!(value(&it.db, b"key").await, Some(b"new".to_vec()));
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key").await, Some(b"new".to_vec()));
}

pub(crate) async fn a_delete_stays_deleted(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"key", b"value").await;
    let batch = Batch::new().delete("one", b"key").delete("one", b"never there");
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    assert_eq!(value(&it.db, b"key").await, None);
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key").await, None);
}

pub(crate) async fn a_batch_spans_tables(url: &StoreUrl) {
    let it = open(url).await;
    let batch = Batch::new().put("one", b"a", b"1").put("two", b"b", b"2").max("two", b"c", 3);
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"a").await, Some(b"1".to_vec()));
    assert_eq!(it.db.get("two", b"b").await, Ok(Some(Bytes::from_static(b"2"))));
    assert_eq!(it.db.get_u64("two", b"c").await, Ok(Some(3)));
}

pub(crate) async fn the_last_change_of_a_key_wins(url: &StoreUrl) {
    let it = open(url).await;
    let batch = Batch::new().put("one", b"a", b"1").delete("one", b"a").put("one", b"a", b"2");
    let batch = batch.and(Batch::new().put("one", b"b", b"1").delete("one", b"b"));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    assert_eq!((value(&it.db, b"a").await, value(&it.db, b"b").await), (Some(b"2".to_vec()), None));
}

pub(crate) async fn an_empty_value_is_a_value(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"key", b"").await;
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key").await, Some(vec![]));
}

pub(crate) async fn a_megabyte_comes_back(url: &StoreUrl) {
    let it = open(url).await;
    let big: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    put(&it.db, b"key", &big).await;
    let it = reopen(it, url).await;
    assert_eq!(value(&it.db, b"key").await, Some(big));
}

pub(crate) async fn a_maximum_only_grows(url: &StoreUrl) {
    let it = open(url).await;
    for (given, kept) in [(5, 5), (3, 5), (9, 9), (0, 9)] {
        assert_eq!(it.db.commit(Batch::new().max("one", b"m", given)).await, Ok(Commit::Applied));
        assert_eq!(it.db.get_u64("one", b"m").await, Ok(Some(kept)));
    }
    let it = reopen(it, url).await;
    assert_eq!(it.db.commit(Batch::new().max("one", b"m", 4)).await, Ok(Commit::Applied));
    assert_eq!(it.db.get_u64("one", b"m").await, Ok(Some(9)));
}

pub(crate) async fn maxima_merge_within_a_batch(url: &StoreUrl) {
    let it = open(url).await;
    let batch = Batch::new().max("one", b"m", 7).max("one", b"m", 2).max("one", b"n", 1).delete("one", b"n");
    assert_eq!(it.db.commit(batch.max("one", b"n", 0)).await, Ok(Commit::Applied));
    assert_eq!(
        (it.db.get_u64("one", b"m").await, it.db.get_u64("one", b"n").await),
        (Ok(Some(7)), Ok(Some(0)))
    );
}

pub(crate) async fn maxima_of_a_group_all_count(url: &StoreUrl) {
    let it = open(url).await;
    let commits =
        (0..GROUP as u64).map(|n| it.db.commit(Batch::new().max("one", b"m", (n * 7) % GROUP as u64)));
    for outcome in join_all(commits).await {
        assert_eq!(outcome, Ok(Commit::Applied));
    }
    assert_eq!(it.db.get_u64("one", b"m").await, Ok(Some(GROUP as u64 - 1)));
}

pub(crate) async fn a_maximum_over_something_else_is_refused_whole(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"m", b"not a number").await;
    let outcome = it.db.commit(Batch::new().put("one", b"other", b"x").max("one", b"m", 1)).await;
    assert_eq!(outcome, Err(StoreError::Corrupt { table: "one".to_owned() }));
    assert_eq!(value(&it.db, b"other").await, None, "no half of a batch");
    assert_eq!(it.db.get_u64("one", b"m").await, Err(StoreError::Corrupt { table: "one".to_owned() }));
    put(&it.db, b"other", b"y").await;
}

pub(crate) async fn commits_that_wait_share_a_group(url: &StoreUrl) {
    let it = open(url).await;
    let before = it.db.stats();
    let commits = (0..GROUP).map(|n| it.db.commit(Batch::new().put("one", n.to_string(), "x")));
    assert!(join_all(commits).await.into_iter().all(|outcome| outcome == Ok(Commit::Applied)));
    let after = it.db.stats();
    assert_eq!(after.batches - before.batches, GROUP as u64);
    assert!((after.groups - before.groups) * 10 <= GROUP as u64, "{after:?}");
    assert_eq!(after.waiting, 0);
}

pub(crate) async fn an_empty_batch_waits_for_those_before(url: &StoreUrl) {
    let it = open(url).await;
    let mut first = Box::pin(it.db.commit(Batch::new().put("one", b"key", b"x")));
    // Polled once, so it is in the queue.
    assert!(poll!(first.as_mut()).is_pending());
    assert_eq!(it.db.commit(Batch::new()).await, Ok(Commit::Applied));
    assert_eq!(value(&it.db, b"key").await, Some(b"x".to_vec()));
}

pub(crate) async fn a_call_that_is_dropped_hurts_nobody(url: &StoreUrl) {
    let it = open(url).await;
    let mut dropped = Box::pin(it.db.commit(Batch::new().put("one", b"a", b"x")));
    assert!(poll!(dropped.as_mut()).is_pending());
    drop(dropped);
    put(&it.db, b"b", b"y").await;
    assert_eq!(value(&it.db, b"b").await, Some(b"y".to_vec()));
}

pub(crate) async fn scans_keep_to_bounds_order_and_limit(url: &StoreUrl) {
    let it = open(url).await;
    for key in [b"d", b"a", b"c", b"b"] {
        put(&it.db, key, b"x").await;
    }
    let key = |c: &str| c.as_bytes().to_vec();
    let db = &it.db;
    assert_eq!(keys(db.scan("one", .., 10).await), [b"a", b"b", b"c", b"d"]);
    assert_eq!(keys(db.scan("one", key("b")..key("d"), 10).await), [b"b", b"c"]);
    assert_eq!(keys(db.scan("one", key("b")..=key("d"), 10).await), [b"b", b"c", b"d"]);
    assert_eq!(keys(db.scan("one", (Bound::Excluded(key("b")), Bound::Unbounded), 10).await), [b"c", b"d"]);
    assert_eq!(keys(db.scan("one", .., 2).await), [b"a", b"b"]);
    assert_eq!(keys(db.scan_rev("one", .., 2).await), [b"d", b"c"]);
    assert_eq!(keys(db.scan_rev("one", ..key("c"), 10).await), [b"b", b"a"]);
    assert_eq!(keys(db.scan("one", .., 0).await), Vec::<Vec<u8>>::new());
}

pub(crate) async fn ranges_that_hold_nothing_are_empty(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"b", b"x").await;
    let key = |c: &str| c.as_bytes().to_vec();
    assert_eq!(it.db.scan("one", key("c")..key("a"), 10).await, Ok(vec![]));
    assert_eq!(it.db.scan("one", key("b")..key("b"), 10).await, Ok(vec![]));
    assert_eq!(
        it.db.scan_rev("one", (Bound::Excluded(key("b")), Bound::Excluded(key("b"))), 10).await,
        Ok(vec![])
    );
    assert_eq!(it.db.delete_range("one", key("c")..key("a")).await, Ok(0));
}

pub(crate) async fn prefixes_end_where_they_end(url: &StoreUrl) {
    let it = open(url).await;
    for key in [&[1][..], &[1, 0], &[1, 0xff], &[1, 0xff, 0xff], &[2], &[0xff], &[0xff, 0xff, 1]] {
        put(&it.db, key, b"x").await;
    }
    let db = &it.db;
    assert_eq!(
        keys(db.scan_prefix("one", &[1], 10).await),
        [&[1][..], &[1, 0], &[1, 0xff], &[1, 0xff, 0xff]]
    );
    assert_eq!(keys(db.scan_prefix("one", &[1, 0xff], 10).await), [&[1, 0xff][..], &[1, 0xff, 0xff]]);
    assert_eq!(keys(db.scan_prefix_rev("one", &[1], 2).await), [&[1, 0xff, 0xff][..], &[1, 0xff]]);
    assert_eq!(keys(db.scan_prefix("one", &[0xff], 10).await), [&[0xff][..], &[0xff, 0xff, 1]]);
    assert_eq!(keys(db.scan_prefix("one", &[0xff, 0xff], 10).await), [&[0xff, 0xff, 1]]);
    assert_eq!(keys(db.scan_prefix("one", &[], 10).await).len(), 7);
    assert_eq!(keys(db.scan_prefix("one", &[3], 10).await).len(), 0);
}

pub(crate) async fn tables_do_not_see_each_other(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"key", b"x").await;
    assert_eq!(it.db.get("two", b"key").await, Ok(None));
    assert_eq!(it.db.scan("two", .., 10).await, Ok(vec![]));
}

pub(crate) async fn services_do_not_see_each_other(url: &StoreUrl) {
    let it = open(url).await;
    let other = try_open(url, "beta", TABLES, 7).await.expect("opens beside it");
    put(&it.db, b"key", b"x").await;
    assert_eq!(value(&other.db, b"key").await, None);
    assert_ne!(it.db.store_id(), other.db.store_id());
}

pub(crate) async fn an_unknown_table_is_named(url: &StoreUrl) {
    let it = open(url).await;
    let unknown = StoreError::UnknownTable { table: "nine".to_owned() };
    assert_eq!(it.db.get("nine", b"key").await, Err(unknown.clone()));
    assert_eq!(it.db.scan("nine", .., 1).await, Err(unknown.clone()));
    let batch = Batch::new().put("one", b"key", b"x").put("nine", b"key", b"x");
    assert_eq!(it.db.commit(batch).await, Err(unknown));
    assert_eq!(value(&it.db, b"key").await, None, "no half of a batch");
    assert!(it.db.get("_meta", b"epoch").await.is_err(), "the store's own rows are its own");
}

pub(crate) async fn what_is_too_large_is_refused(url: &StoreUrl) {
    let it = open(url).await;
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
    let mut it = open(url).await;
    let id = it.db.store_id();
    for epoch in 1..5 {
        assert_eq!(it.db.epoch(), Some(Epoch(epoch)));
        assert_eq!(it.db.store_id(), id, "made once");
        it = reopen(it, url).await;
    }
}

pub(crate) async fn another_schema_is_refused_and_harms_nothing(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"key", b"x").await;
    it.close().await;
    let refused = try_open(url, "alpha", TABLES, 2).await.map(|it| it.db.epoch());
    assert_eq!(refused, Err(StoreError::WrongSchema { service: "alpha".to_owned(), found: 1, wanted: 2 }));
    let it = open(url).await;
    assert_eq!(value(&it.db, b"key").await, Some(b"x".to_vec()));
}

pub(crate) async fn a_table_may_be_added(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"key", b"x").await;
    it.close().await;
    let it = try_open(url, "alpha", MORE_TABLES, 1).await.expect("opens");
    assert_eq!(it.db.commit(Batch::new().put("three", b"key", b"y")).await, Ok(Commit::Applied));
    it.close().await;
    let it = try_open(url, "alpha", MORE_TABLES, 1).await.expect("opens");
    assert_eq!(value(&it.db, b"key").await, Some(b"x".to_vec()));
    assert_eq!(it.db.get("three", b"key").await, Ok(Some(Bytes::from_static(b"y"))));
}

pub(crate) async fn delete_range_drops_the_range_and_counts(url: &StoreUrl) {
    let it = open(url).await;
    let rows = 2 * limits::DELETE_STEP as u64 + 10;
    let batch = (0..rows).fold(Batch::new(), |batch, n| batch.put("one", n.to_be_bytes(), b"x"));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    let key = |n: u64| n.to_be_bytes().to_vec();
    assert_eq!(it.db.delete_range("one", key(5)..key(rows - 5)).await, Ok(rows - 10));
    let it = reopen(it, url).await;
    let left: Vec<_> = (0..5).chain(rows - 5..rows).map(key).collect();
    assert_eq!(keys(it.db.scan("one", .., 100).await), left);
}

pub(crate) async fn after_the_stop_nothing_is_pretended(url: &StoreUrl) {
    let it = open(url).await;
    put(&it.db, b"key", b"x").await;
    assert!(it.chassis.tasks.shutdown(Duration::from_secs(10)).await, "ends though somebody holds the store");
    assert_eq!(it.db.commit(Batch::new().put("one", b"key", b"y")).await, Err(StoreError::Closed));
    assert_eq!(it.db.check(), Err(StoreError::Closed));
}

pub(crate) async fn what_is_not_one_partition_is_a_defect(url: &StoreUrl) {
    let it = open(url).await;
    let scattered = |table| Err(StoreError::Scattered { table });
    let key = |key: &[u8]| key.to_vec();
    assert_eq!(it.db.get("split", b"a").await, Err(StoreError::Scattered { table: "split" }), "too short");
    assert_eq!(it.db.scan("split", key(b"aa1")..key(b"ab"), 9).await, Ok(vec![]), "up to the next one");
    assert_eq!(it.db.scan("split", key(b"aa1")..key(b"ac"), 9).await, scattered("split").map(|()| vec![]));
    assert_eq!(it.db.scan("split", .., 9).await, scattered("split").map(|()| vec![]));
    let refused = |table| Err::<Commit, _>(StoreError::Scattered { table });
    let unconditional = Batch::new().put("cas", b"a", b"1");
    assert_eq!(it.db.commit(unconditional).await, refused("cas"));
    let conditional = Batch::new().expect_absent("one", b"a").put("one", b"a", b"1");
    assert_eq!(it.db.commit(conditional).await, refused("one"));
    let two_tables = Batch::new().expect_absent("cas", b"a").put("cas", b"a", b"1").put("one", b"a", b"1");
    assert_eq!(it.db.commit(two_tables).await, refused("one"));
    assert_eq!((cas_value(&it.db, b"a").await, value(&it.db, b"a").await), (None, None));
}

pub(crate) async fn partitions_are_scanned_apart_and_walked_together(url: &StoreUrl) {
    let it = open(url).await;
    let all = ["aa1", "aa2", "aa3", "ab1", "zz1"];
    let batch = all.iter().fold(Batch::new(), |batch, key| batch.put("split", *key, *key));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    for key in ["x", "yy", "z"] {
        assert_eq!(it.db.commit(Batch::new().put("rows", key, b"r")).await, Ok(Commit::Applied));
    }
    assert_eq!(keys(it.db.scan_prefix("split", b"aa", 9).await), [b"aa1", b"aa2", b"aa3"]);
    assert_eq!(keys(it.db.scan_prefix_rev("split", b"aa", 2).await), [b"aa3", b"aa2"]);
    assert_eq!(keys(it.db.scan_prefix("split", b"zz1", 9).await), [b"zz1"]);
    for (table, limit, sorted) in [
        ("split", 1, all.to_vec()),
        ("split", 2, all.to_vec()),
        ("split", 9, all.to_vec()),
        ("rows", 2, vec!["x", "yy", "z"]),
    ] {
        let (mut walked, mut after) = (Vec::new(), Vec::new());
        loop {
            let page = keys(it.db.walk(table, &after, limit).await);
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit);
            after.clone_from(last);
            walked.extend(page);
        }
        walked.sort_unstable();
        assert_eq!(walked, sorted.iter().map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>(), "each once");
    }
}

pub(crate) async fn what_may_expire_is_there_meanwhile(url: &StoreUrl) {
    let it = open(url).await;
    let batch = Batch::new().put_for("one", b"key", b"x", Duration::from_secs(3_600));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Applied));
    assert_eq!(value(&it.db, b"key").await, Some(b"x".to_vec()));
}
