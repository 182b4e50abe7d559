//! Logs on a disk: what is settled is there, whatever became of the process.

use std::collections::BTreeSet;
use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_log::limits::{BUCKET, KEEP};
use dialtone_log::{Due, DueRow, Log, LogError, LogKind, LogStore, Opened, TABLES, mark_name};
use dialtone_store::{Batch, Db, MemoryDisk, Rows, Schema};
use dialtone_vocab::{UnixMillis, shard_of};

const OWNER: [u8; 16] = [7; 16];
const NOW: UnixMillis = UnixMillis(1_000_000);
const ALPHA: Schema = Schema { service: "alpha", tables: &TABLES, version: 1 };

fn store(disk: &MemoryDisk, seed: u64) -> LogStore {
    let chassis = Chassis::for_tests(seed);
    let db = Db::open_memory(disk, ALPHA, &chassis).expect("opens");
    LogStore::new(db, LogKind::Inbox, KEEP, None, &chassis)
}

async fn open(store: &LogStore) -> Opened {
    store.open(&OWNER, NOW).await.expect("opens")
}

/// Writes everything that waits.
async fn drain(store: &LogStore, log: &mut Log, now: UnixMillis) {
    while let Some(write) = log.next_write(now) {
        store.write(&write).await.expect("writes");
        log.settled(&write);
    }
}

async fn rows_of(store: &LogStore) -> Rows {
    store.db().walk("log", &[], usize::MAX).await.expect("walks")
}

async fn found(store: &LogStore) -> Vec<DueRow> {
    let (sender, mut rows) = tokio::sync::mpsc::unbounded_channel();
    store.clone().keep_awake(move |row| sender.send(row).expect("is heard")).await;
    let mut found = Vec::new();
    while let Some(row) = rows.recv().await {
        found.push(row);
    }
    found
}

async fn woken(store: &LogStore) -> Vec<([u8; 16], Due)> {
    found(store).await.into_iter().map(|row| (row.owner(), row.due())).collect()
}

fn content(idx: u64) -> Vec<u8> {
    format!("entry {idx}").into_bytes()
}

/// A log with entries 1 to `count`, each saying its index.
async fn filled(store: &LogStore, count: u64, now: UnixMillis) -> Log {
    let mut log = open(store).await.log;
    for idx in log.last() + 1..=count {
        assert_eq!(log.push(1, content(idx)), idx);
    }
    drain(store, &mut log, now).await;
    log
}

#[tokio::test]
async fn a_log_that_nobody_wrote_to_is_empty_and_open() {
    let store = store(&MemoryDisk::new(), 1);
    let opened = open(&store).await;
    assert_eq!((opened.log.tail(), opened.entries.len(), opened.marks.get("bucket")), (0, 0, 0));
    assert_eq!(opened.log.id(), store.log_id(&OWNER));
    let page = store.read(opened.log.id(), 1, 0, 10, NOW).await.expect("reads");
    assert_eq!((page.entries.len(), page.expired_to), (0, 0));
}

#[tokio::test]
async fn entries_and_marks_are_found_again_under_every_epoch() {
    let disk = MemoryDisk::new();
    for round in 0..5_u64 {
        let store = store(&disk, round);
        let Opened { mut log, marks, entries } = open(&store).await;
        assert_eq!(log.tail(), round * 300);
        assert_eq!(marks.get(mark_name("ack/", &[1])), round);
        assert_eq!(marks.of("ack/").collect::<Vec<_>>().len(), usize::from(round > 0));
        let last: Vec<_> = entries.iter().map(|entry| entry.idx).collect();
        assert_eq!(last.last().copied().unwrap_or(0), round * 300);
        assert!(last.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert!(entries.iter().all(|entry| entry.content == content(entry.idx) && entry.kind == 1));
        for idx in round * 300 + 1..=(round + 1) * 300 {
            assert_eq!(log.push(1, content(idx)), idx);
        }
        log.mark_now(mark_name("ack/", &[1]), round + 1);
        drain(&store, &mut log, NOW).await;
        let page = store.read(log.id(), 1, log.tail(), usize::MAX, NOW).await.expect("reads");
        let all: Vec<_> = page.entries.iter().map(|entry| entry.idx).collect();
        assert_eq!(all, (1..=(round + 1) * 300).collect::<Vec<_>>(), "no carried row shows twice");
    }
}

#[tokio::test]
async fn opening_reads_the_last_bucket_whole() {
    let disk = MemoryDisk::new();
    filled(&store(&disk, 1), 2 * BUCKET + 10, NOW).await;
    let opened = open(&store(&disk, 2)).await;
    let first = opened.entries.first().map(|entry| entry.idx);
    assert!(first.is_some_and(|first| first <= 2 * BUCKET + 1), "{first:?}");
    assert_eq!(opened.marks.get("bucket"), 2);
}

#[tokio::test]
async fn opening_writes_the_last_write_once_more() {
    let disk = MemoryDisk::new();
    let old = store(&disk, 1);
    let mut log = filled(&old, 3, NOW).await;
    assert_eq!((log.push(1, content(4)), log.push(1, content(5))), (4, 5));
    drain(&old, &mut log, NOW).await;
    let new = store(&disk, 2);
    open(&new).await;
    let rows =
        new.db().scan_prefix("log", &[log.id().as_bytes(), &[0; 4][..]].concat(), 100).await.expect("scans");
    let epochs: Vec<_> = rows.iter().map(|(key, _)| (key[27], key[35])).collect();
    assert_eq!(epochs, [(0, 0), (1, 1), (2, 1), (3, 1), (4, 1), (4, 2), (5, 1), (5, 2)]);
    assert_eq!(rows[4].1, rows[5].1, "as it was, its time too");
}

#[tokio::test]
async fn reads_pages_from_the_middle() {
    let store = store(&MemoryDisk::new(), 1);
    let log = filled(&store, 1_200, NOW).await;
    let page = store.read(log.id(), 500, log.tail(), 100, NOW).await.expect("reads");
    let found: Vec<_> = page.entries.iter().map(|entry| entry.idx).collect();
    assert_eq!((found, page.expired_to), ((500..600).collect(), 0));
    let page = store.read(log.id(), 1_190, log.tail(), 100, NOW).await.expect("reads");
    assert_eq!(page.entries.len(), 11);
}

#[tokio::test]
async fn what_is_past_its_time_is_said_and_never_a_hole() {
    let store = store(&MemoryDisk::new(), 1);
    let mut log = filled(&store, 600, NOW).await;
    let later = NOW.plus(Duration::from_secs(60));
    (601..=700).for_each(|idx| assert_eq!(log.push(1, content(idx)), idx));
    drain(&store, &mut log, later).await;
    let then = NOW.plus(KEEP);
    let page = store.read(log.id(), 1, log.tail(), 10, then).await.expect("reads");
    assert_eq!((page.entries[0].idx, page.entries.len(), page.expired_to), (601, 10, 600));
    let page = store.read(log.id(), 590, log.tail(), 1_000, then).await.expect("reads");
    assert_eq!((page.entries[0].idx, page.entries.len(), page.expired_to), (601, 100, 600));
    let all_past = store.read(log.id(), 1, log.tail(), 10, later.plus(KEEP)).await.expect("reads");
    assert_eq!((all_past.entries.len(), all_past.expired_to), (0, 700));
    let opened = store.open(&OWNER, later.plus(KEEP)).await.expect("opens");
    assert_eq!((opened.log.tail(), opened.entries.len()), (700, 0), "the index goes on");
}

#[tokio::test]
async fn a_hole_is_an_error_wherever_a_page_meets_it() {
    let store = store(&MemoryDisk::new(), 1);
    let log = filled(&store, 300, NOW).await;
    let row = rows_of(&store).await[150].0.to_vec();
    assert!(store.db().commit(Batch::new().delete("log", row)).await.expect("deletes").is_applied());
    for from in [1, 100, 149, 150] {
        let found = store.read(log.id(), from, log.tail(), 1_000, NOW).await;
        assert_eq!(found, Err(LogError::Hole { idx: 150 }), "from {from}");
    }
    assert_eq!(store.read(log.id(), 1, 149, 1_000, NOW).await.map(|page| page.entries.len()), Ok(149));
    assert_eq!(store.read(log.id(), 151, 300, 1_000, NOW).await.map(|page| page.entries.len()), Ok(150));
}

#[tokio::test]
async fn a_log_with_a_hole_near_its_end_is_not_opened() {
    let store = store(&MemoryDisk::new(), 1);
    filled(&store, 300, NOW).await;
    let row = rows_of(&store).await[290].0.to_vec();
    assert!(store.db().commit(Batch::new().delete("log", row)).await.expect("deletes").is_applied());
    assert_eq!(store.open(&OWNER, NOW).await.err(), Some(LogError::Hole { idx: 290 }));
}

#[tokio::test]
async fn the_sweeper_drops_what_is_past_and_the_index_goes_on() {
    let disk = MemoryDisk::new();
    let store = store(&disk, 1);
    let log = filled(&store, 3 * BUCKET + 5, NOW).await;
    let before = rows_of(&store).await.len();
    let mut cursor = store.sweep(Vec::new(), 2, NOW).await.expect("sweeps");
    assert!(!cursor.is_empty(), "two of four seen");
    cursor = store.sweep(cursor, 3, NOW).await.expect("sweeps");
    assert_eq!((cursor.is_empty(), rows_of(&store).await.len()), (true, before), "nothing is past its time");
    assert!(store.sweep(Vec::new(), 10, NOW.plus(KEEP)).await.expect("sweeps").is_empty());
    assert_eq!(rows_of(&store).await.len(), 1, "the newest tail stays");
    drop(log);
    let opened = store.open(&OWNER, NOW.plus(KEEP)).await.expect("opens");
    assert_eq!(opened.log.tail(), 3 * BUCKET + 5);
    let page = store.read(opened.log.id(), 1, opened.log.tail(), 10, NOW.plus(KEEP)).await.expect("reads");
    assert_eq!((page.entries.len(), page.expired_to), (0, 3 * BUCKET + 5));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_opened_again_waits_for_what_its_former_opening_had_queued() {
    let disk = MemoryDisk::with_delay(Duration::from_millis(50)..=Duration::from_millis(50));
    let store = store(&disk, 1);
    let mut log = open(&store).await.log;
    log.push(1, content(1));
    let write = log.next_write(NOW).expect("waits");
    // Its actor fails here: nobody hears the outcome.
    store.submit(write, |_, _| {});
    drop(log);
    let opened = open(&store).await;
    assert_eq!((opened.log.tail(), opened.entries.len()), (1, 1), "else index 1 would be written twice");
}

#[tokio::test]
async fn owners_are_woken_until_nothing_of_theirs_is_due() {
    let store = store(&MemoryDisk::new(), 1);
    let mut log = open(&store).await.log;
    let due = |at: u64, idx: u64| Due { at: UnixMillis(at), idx, kind: 1 };
    assert_eq!(woken(&store).await, []);
    log.push(0, "x");
    [due(300, 1), due(100, 2)].into_iter().for_each(|due| log.due(due));
    drain(&store, &mut log, NOW).await;
    assert_eq!(woken(&store).await, [(OWNER, due(100, 2)), (OWNER, due(300, 1))]);
    log.due_done(due(100, 2));
    drain(&store, &mut log, NOW).await;
    assert_eq!(woken(&store).await, [(OWNER, due(300, 1))]);
    // Due again before it was done, and put by a former owner: whatever rows there are, done is done.
    log.due(due(300, 1));
    drain(&store, &mut log, NOW).await;
    assert_eq!(woken(&store).await.len(), 2);
    let mut log = open(&store).await.log;
    for row in found(&store).await {
        log.adopt(row);
    }
    log.due_done(due(300, 1));
    drain(&store, &mut log, NOW).await;
    assert_eq!(woken(&store).await, []);
}

#[tokio::test]
async fn a_log_whose_database_was_opened_again_settles_nothing() {
    let disk = MemoryDisk::new();
    let old = store(&disk, 1);
    let mut log = filled(&old, 3, NOW).await;
    let new = store(&disk, 2);
    log.push(1, "stale");
    let write = log.next_write(NOW).expect("waits");
    assert!(matches!(old.write(&write).await, Err(LogError::Store(_))));
    assert_eq!(open(&new).await.log.tail(), 3);
}

/// A process that appends one entry after the other until it is killed: the last index that it had settled.
fn live_and_die(disk: &MemoryDisk, seed: u64, lives: Duration) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let chassis = Chassis::for_tests(seed);
        let mut settled = 0;
        let life = async {
            let db = Db::open_memory(disk, ALPHA, &chassis).expect("opens");
            let store = LogStore::new(db, LogKind::Inbox, KEEP, None, &chassis);
            let mut log = open(&store).await.log;
            let page = store.read(log.id(), 1, log.tail(), usize::MAX, NOW).await.expect("no hole");
            assert_eq!(page.entries.len() as u64, log.tail());
            assert!(page.entries.iter().all(|entry| entry.content == content(entry.idx)));
            settled = log.tail();
            loop {
                for _ in 0..chassis.rng.below(100) + 1 {
                    let idx = log.last() + 1;
                    assert_eq!(log.push(1, content(idx)), idx);
                }
                while let Some(write) = log.next_write(NOW) {
                    store.write(&write).await.expect("writes");
                    log.settled(&write);
                    settled = log.tail();
                }
            }
        };
        assert!(chassis.clock.timeout(lives, life).await.is_err(), "is killed");
        settled
    })
}

#[test]
fn what_was_settled_survives_every_death() {
    let delay = Duration::from_millis(1)..=Duration::from_millis(20);
    let mut more = 0;
    for seed in 0..40 {
        let disk = MemoryDisk::with_delay(delay.clone());
        let mut settled = 0;
        for life in 0..6 {
            let lives = Duration::from_millis(1 + (seed * 37 + life * 61) % 300);
            let found = live_and_die(&disk, seed * 100 + life, lives);
            // A life that ends while it opens settles nothing that it could tell.
            assert!(
                found == 0 || found >= settled,
                "seed {seed}, life {life}: {settled} settled, {found} later"
            );
            more += u64::from(found > settled);
            settled = settled.max(found);
        }
    }
    assert!(more > 100, "the lives did something: {more}");
}

#[tokio::test]
async fn the_logs_of_a_store_are_listed_and_counted_without_opening_one() {
    let store = store(&MemoryDisk::new(), 1);
    let mut written = Vec::new();
    for owner in 1..=5_u8 {
        let mut log = store.open(&[owner; 16], NOW).await.expect("opens").log;
        let entries = u64::from(owner) * 300;
        (1..=entries).for_each(|idx| assert_eq!(log.push(1, content(idx)), idx));
        log.mark_now("seen", u64::from(owner));
        drain(&store, &mut log, NOW).await;
        written.push((log.id(), entries, u64::from(owner)));
    }
    store.open(&[9; 16], NOW).await.expect("opens, and writes nothing");
    written.sort();
    let (first, rest) = (store.logs(None, 2).await.expect("lists"), written[1].0);
    let rest = store.logs(Some(rest), 9).await.expect("lists");
    let listed: Vec<_> = first.into_iter().chain(rest).collect();
    assert_eq!(listed, written.iter().map(|(log, _, _)| *log).collect::<Vec<_>>());
    for (log, tail, mark) in written {
        assert_eq!(store.tail_on_disk(log, NOW).await, Ok(tail));
        assert_eq!(store.marks(log).await.expect("reads").get("seen"), mark);
    }
    assert_eq!(store.tail_on_disk(store.log_id(&[9; 16]), NOW).await, Ok(0));
}

#[tokio::test]
async fn everybody_with_something_to_do_is_woken_however_many_there_are() {
    let store = store(&MemoryDisk::new(), 1);
    let owner = |n: u64| {
        let mut owner = [0; 16];
        owner[..8].copy_from_slice(&n.to_be_bytes());
        owner
    };
    // All in one shard, more than a page, some for several reasons.
    let shard = shard_of(&owner(0));
    let owners: Vec<_> = (0..).map(owner).filter(|owner| shard_of(owner) == shard).take(600).collect();
    for (owner, nth) in owners.iter().zip(0..) {
        let mut log = store.open(owner, NOW).await.expect("opens").log;
        for idx in 0..=nth % 3 {
            log.due(Due { at: UnixMillis(nth), idx, kind: 1 });
        }
        drain(&store, &mut log, NOW).await;
    }
    let woken: BTreeSet<_> = woken(&store).await.into_iter().map(|(owner, _)| owner).collect();
    assert!(woken.iter().eq(&owners));
}

#[tokio::test(start_paused = true)]
async fn what_is_past_its_time_is_swept_by_itself() {
    let chassis = Chassis::for_tests(1);
    let disk = MemoryDisk::new();
    let db = Db::open_memory(&disk, ALPHA, &chassis).expect("opens");
    let store = LogStore::new(db.clone(), LogKind::Inbox, KEEP, None, &chassis);
    filled(&store, 3, chassis.clock.now()).await;
    let sweeping = chassis.tasks.spawn("sweep", store.keep_swept(chassis.clone()));
    let rows = async || db.walk(dialtone_log::LOG, &[], 10).await.expect("walks").len();
    chassis.clock.sleep(KEEP - Duration::from_secs(60)).await;
    assert_eq!(rows().await, 3 + 1);
    chassis.clock.sleep(Duration::from_secs(180)).await;
    assert_eq!((rows().await, sweeping.is_finished()), (1, false));
    assert!(chassis.tasks.shutdown(Duration::from_secs(1)).await);
}
