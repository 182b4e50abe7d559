//! What only a disk of memory can do: crash at any moment, and fail on command.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::{Batch, Db, MemoryDisk, StoreError, StoreUrl};

use crate::contract::{ALPHA, open, put, value};

const SLOW: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(20);

/// A process that commits one row after the other and is killed after a while: how many it was answered, and how
/// many the next process finds.
fn crash(seed: u64, lives: Duration) -> (u64, u64) {
    let disk = MemoryDisk::with_delay(SLOW);
    let answered = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let chassis = Chassis::for_tests(seed);
            let db = Db::open_memory(&disk, ALPHA, &chassis).expect("opens");
            let mut answered = 0;
            let commits = async {
                for n in 1_u64.. {
                    let batch =
                        Batch::new().put("one", n.to_be_bytes(), b"x").put("two", n.to_be_bytes(), b"x");
                    db.commit(batch).await.map(|_| answered = n).expect("commits");
                }
            };
            assert!(chassis.clock.timeout(lives, commits).await.is_err(), "is killed");
            answered
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let found = runtime.block_on(async {
        let it = open(&StoreUrl::memory(&disk)).await;
        let one = it.db.scan("one", .., usize::MAX).await.expect("scans");
        assert_eq!(one, it.db.scan("two", .., usize::MAX).await.expect("scans"), "whole batches");
        one.len() as u64
    });
    (answered, found)
}

#[test]
fn a_crash_keeps_what_was_answered_and_may_keep_one_more() {
    let mut applied_unanswered = 0;
    for seed in 0..200 {
        let lives = Duration::from_millis(50 + seed);
        let (answered, found) = crash(seed, lives);
        assert_eq!(crash(seed, lives), (answered, found), "seed {seed} replays");
        assert!(
            found == answered || found == answered + 1,
            "seed {seed}: {answered} answered, {found} found"
        );
        applied_unanswered += found - answered;
    }
    assert!(
        (20..=180).contains(&applied_unanswered),
        "both kinds of crash happen: {applied_unanswered} of 200"
    );
}

#[tokio::test]
async fn a_failed_write_poisons_the_store_until_the_next_opening() {
    let disk = MemoryDisk::new();
    let it = open(&StoreUrl::memory(&disk)).await;
    put(&it.db, b"a", b"1").await;
    disk.fail_next(1);
    let poisoned = StoreError::Poisoned { why: "the disk was told to fail".into() };
    assert_eq!(it.db.commit(Batch::new().put("one", b"b", b"2")).await, Err(poisoned.clone()));
    assert_eq!(it.db.commit(Batch::new().put("one", b"c", b"3")).await, Err(poisoned.clone()));
    assert_eq!(it.db.get("one", b"a").await, Err(poisoned.clone()));
    assert_eq!(it.db.scan("one", .., 1).await, Err(poisoned.clone()));
    assert_eq!(it.db.check(), Err(poisoned));
    it.close().await;
    let it = open(&StoreUrl::memory(&disk)).await;
    assert_eq!((value(&it.db, b"a").await, value(&it.db, b"c").await), (Some(b"1".to_vec()), None));
    put(&it.db, b"c", b"3").await;
}

#[tokio::test]
async fn an_older_opening_reads_and_writes_nothing_any_more() {
    let url = StoreUrl::memory(&MemoryDisk::new());
    let old = open(&url).await;
    put(&old.db, b"a", b"1").await;
    let new = open(&url).await;
    let fenced = StoreError::Poisoned { why: "the database was opened again".into() };
    assert_eq!(old.db.get("one", b"a").await, Err(fenced.clone()));
    assert_eq!(old.db.commit(Batch::new().put("one", b"a", b"2")).await, Err(fenced.clone()));
    assert_eq!(old.db.check(), Err(fenced));
    assert_eq!(value(&new.db, b"a").await, Some(b"1".to_vec()));
}
