//! What every engine must do with conditions.

use dialtone_store::{Batch, Commit, Db, StoreUrl};
use futures::future::join_all;

use super::{GROUP, open, reopen};

/// A row of the conditional table, made under a condition as all of them are.
async fn first(db: &Db, key: &[u8], value: &[u8]) {
    let batch = Batch::new().expect_absent("cas", key).put("cas", key, value);
    assert_eq!(db.commit(batch).await, Ok(Commit::Applied));
}

pub(super) async fn cas_value(db: &Db, key: &[u8]) -> Option<Vec<u8>> {
    db.get_serial("cas", key).await.expect("reads").map(|value| value.to_vec())
}

async fn exactly_one_of(count: usize, url: &StoreUrl) {
    let it = open(url).await;
    let claims = (0..count).map(|n| {
        let batch = Batch::new().expect_absent("cas", b"key").put("cas", b"key", n.to_string());
        it.db.commit(batch)
    });
    let outcomes = join_all(claims).await;
    let winners: Vec<_> = (0..count).filter(|n| outcomes[*n] == Ok(Commit::Applied)).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(cas_value(&it.db, b"key").await, Some(winners[0].to_string().into_bytes()));
    assert!(outcomes.iter().all(Result::is_ok));
}

pub(crate) async fn expect_absent_lets_only_the_first_pass(url: &StoreUrl) {
    let it = open(url).await;
    let claim = |who: &'static str| Batch::new().expect_absent("cas", b"key").put("cas", b"key", who);
    assert_eq!(it.db.commit(claim("me")).await, Ok(Commit::Applied));
    assert_eq!(it.db.commit(claim("you")).await, Ok(Commit::Refused));
    let it = reopen(it, url).await;
    assert_eq!(it.db.commit(claim("you")).await, Ok(Commit::Refused));
    assert_eq!(cas_value(&it.db, b"key").await, Some(b"me".to_vec()));
}

pub(crate) async fn expect_value_compares_the_whole_value(url: &StoreUrl) {
    let it = open(url).await;
    let swap = |from: &'static str, to: &'static str| {
        Batch::new().expect_value("cas", b"key", from).put("cas", b"key", to)
    };
    assert_eq!(it.db.commit(swap("a", "b")).await, Ok(Commit::Refused), "absent is no value");
    first(&it.db, b"key", b"a").await;
    for (from, applied) in [("", false), ("ab", false), ("a", true), ("a", false)] {
        assert_eq!(it.db.commit(swap(from, "b")).await.map(Commit::is_applied), Ok(applied), "{from:?}");
    }
    assert_eq!(cas_value(&it.db, b"key").await, Some(b"b".to_vec()));
}

pub(crate) async fn what_one_condition_refuses_writes_nothing(url: &StoreUrl) {
    let it = open(url).await;
    first(&it.db, b"there", b"x").await;
    let batch = Batch::new()
        .put("cas", b"new", b"1")
        .expect_value("cas", b"there", b"x")
        .expect_absent("cas", b"there")
        .expect_absent("cas", b"there");
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Refused));
    assert_eq!(cas_value(&it.db, b"new").await, None);
}

pub(crate) async fn conditions_hold_before_the_batchs_own_changes(url: &StoreUrl) {
    let it = open(url).await;
    let batch = Batch::new().put("cas", b"key", b"1").expect_absent("cas", b"key");
    assert_eq!(it.db.commit(batch.clone()).await, Ok(Commit::Applied));
    assert_eq!(it.db.commit(batch).await, Ok(Commit::Refused));
}

pub(crate) async fn of_a_group_that_claims_one_key_exactly_one_wins(url: &StoreUrl) {
    exactly_one_of(GROUP, url).await;
}

/// So few that a CQL server has an answer for each in time: they disturb each other.
pub(crate) async fn of_a_few_that_claim_one_key_exactly_one_wins(url: &StoreUrl) {
    exactly_one_of(8, url).await;
}

pub(crate) async fn a_group_counts_up_by_compare_and_swap(url: &StoreUrl) {
    let it = open(url).await;
    first(&it.db, b"n", b"0").await;
    // So few that all are asked in their order.
    let swaps = (0..30).map(|n: u32| {
        let batch =
            Batch::new().expect_value("cas", b"n", n.to_string()).put("cas", b"n", (n + 1).to_string());
        it.db.commit(batch)
    });
    assert!(join_all(swaps).await.into_iter().all(|outcome| outcome == Ok(Commit::Applied)), "in order");
    assert_eq!(cas_value(&it.db, b"n").await, Some(b"30".to_vec()));
}

pub(crate) async fn a_refused_batch_changes_none_of_its_rows(url: &StoreUrl) {
    let it = open(url).await;
    first(&it.db, b"a", b"1").await;
    let batch = |seen: &str| {
        let batch = Batch::new().expect_value("cas", b"a", seen).expect_absent("cas", b"b");
        batch.put("cas", b"a", b"2").put("cas", b"b", b"3").put("cas", b"c", b"4").delete("cas", b"d")
    };
    assert_eq!(it.db.commit(batch("0")).await, Ok(Commit::Refused));
    assert_eq!(cas_value(&it.db, b"c").await, None);
    assert_eq!(it.db.commit(batch("1")).await, Ok(Commit::Applied));
    let rows = it.db.scan_prefix("cas", b"", 9).await.expect("scans");
    let rows: Vec<_> = rows.iter().map(|(key, value)| [&key[..], value].concat()).collect();
    assert_eq!(rows, [b"a2", b"b3", b"c4"]);
    let gone = Batch::new().expect_value("cas", b"a", b"2").delete("cas", b"a");
    assert_eq!(it.db.commit(gone).await, Ok(Commit::Applied));
    assert_eq!(cas_value(&it.db, b"a").await, None, "as if it had never been");
    first(&it.db, b"a", b"5").await;
}

pub(crate) async fn a_condition_of_what_is_not_changed_counts_too(url: &StoreUrl) {
    let it = open(url).await;
    first(&it.db, b"seen", b"1").await;
    let batch = |seen: &str| {
        let batch = Batch::new().expect_value("cas", b"seen", seen).expect_absent("cas", b"never");
        batch.expect_absent("cas", b"own").put("cas", b"own", b"x")
    };
    assert_eq!(it.db.commit(batch("2")).await, Ok(Commit::Refused));
    assert_eq!(it.db.commit(batch("1")).await, Ok(Commit::Applied));
    assert_eq!(it.db.commit(batch("1")).await, Ok(Commit::Refused));
    assert_eq!(cas_value(&it.db, b"seen").await, Some(b"1".to_vec()));
    assert_eq!(cas_value(&it.db, b"never").await, None);
}

pub(crate) async fn what_a_condition_removed_takes_no_place_in_a_page(url: &StoreUrl) {
    let it = open(url).await;
    // Written beside a condition, not under one of its own.
    let batch = Batch::new().expect_absent("cas", b"a").put("cas", b"a", b"1").put("cas", b"b", b"2");
    assert_eq!(it.db.commit(batch.put("cas", b"c", b"3")).await, Ok(Commit::Applied));
    let gone = Batch::new().expect_value("cas", b"b", b"2").delete("cas", b"b");
    assert_eq!(
        it.db.commit(gone.expect_value("cas", b"a", b"1").delete("cas", b"a")).await,
        Ok(Commit::Applied)
    );
    let page = it.db.scan_prefix("cas", b"", 1).await.expect("scans");
    assert_eq!(page.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), [b"c"]);
    assert_eq!(it.db.walk("cas", b"", 1).await.expect("walks").len(), 1);
}
