//! What logs do over every store: the same functions over memory, over a folder, and over a CQL server with leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dialtone_log::limits::{BUCKET, KEEP};
use dialtone_log::{Due, Opened, mark_name};
use dialtone_shards::LEASES;
use dialtone_shards::lease::CheckBy;
use dialtone_store::StoreUrl;
use dialtone_vocab::UnixMillis;

use crate::ground::{ALPHA, Ground, OWNER, content};

async fn the_next_owner_finds_everything_and_goes_on(url: &StoreUrl) {
    let ground = Ground::over(url);
    let mut epoch = None;
    for round in 0..3_u64 {
        let process = ground.start(&format!("node-{round}"), CheckBy::Clock).await;
        let Opened { mut log, marks, entries } = process.open().await;
        assert!(Some(log.epoch()) > epoch, "every owner has a later epoch");
        epoch = Some(log.epoch());
        assert_eq!(log.tail(), round * 300);
        assert_eq!(marks.get(mark_name("ack/", &[1])), round);
        assert!(entries.iter().all(|entry| entry.content == content(entry.idx) && entry.kind == 1));
        assert_eq!(entries.last().map_or(0, |entry| entry.idx), round * 300);
        process.append(&mut log, 300).await;
        log.mark_now(mark_name("ack/", &[1]), round + 1);
        process.drain(&mut log).await;
        let page =
            process.logs.read(log.id(), 1, log.tail(), usize::MAX, process.now()).await.expect("reads");
        let all: Vec<_> = page.entries.iter().map(|entry| entry.idx).collect();
        assert_eq!(
            all,
            (1..=(round + 1) * 300).collect::<Vec<_>>(),
            "over buckets, and no carried row twice"
        );
        assert_eq!(process.logs.tail_on_disk(log.id(), process.now()).await, Ok(log.tail()));
        assert_eq!(process.logs.logs(None, 9).await, Ok(vec![log.id()]));
        process.leave().await;
    }
    const { assert!(900 > BUCKET, "more than one bucket was written") };
}

async fn a_log_that_is_opened_again_waits_for_what_its_former_opening_writes(url: &StoreUrl) {
    let ground = Ground::over(url);
    let one = ground.start("one", CheckBy::Clock).await;
    let mut log = one.open().await.log;
    for idx in 1..=20 {
        assert_eq!(log.push(1, content(idx)), idx);
        let write = log.next_write(one.now()).expect("waits");
        // Its actor fails here: nobody hears the outcome.
        one.logs.submit(write, |_, _| {});
        log = one.open().await.log;
        assert_eq!(log.tail(), idx, "else another content could get this index");
    }
    one.leave().await;
}

async fn what_is_due_is_found_by_the_next_owner_until_it_is_done(url: &StoreUrl) {
    let ground = Ground::over(url);
    let due = Due { at: UnixMillis(0), idx: 0, kind: 1 };
    let one = ground.start("one", CheckBy::Clock).await;
    let mut log = one.open().await.log;
    for _ in 0..2 {
        log.due(due);
        one.append(&mut log, 1).await;
    }
    // Quiet for a while, and opened again under the same epoch: what was deleted may be so late that it hits what is put
    // now, if that had the same key.
    let before: BTreeSet<_> = one.due().await.into_iter().collect();
    log.due_done(due);
    one.drain(&mut log).await;
    let mut log = one.open().await.log;
    for _ in 0..2 {
        log.due(due);
        one.append(&mut log, 1).await;
    }
    one.leave().await;
    let two = ground.start("two", CheckBy::Clock).await;
    let mut log = two.open().await.log;
    let found = two.due().await;
    assert!(found.iter().all(|row| !before.contains(row)) && before.len() == 2, "put once");
    let owners: BTreeMap<_, _> = found.iter().map(|row| (row.owner(), row.due())).collect();
    assert_eq!((owners, found.len()), (BTreeMap::from([(OWNER, due)]), 2));
    found.into_iter().for_each(|row| log.adopt(row));
    // Put once more, under this epoch: whatever rows there are, done is done.
    log.due(due);
    two.drain(&mut log).await;
    log.due_done(due);
    two.drain(&mut log).await;
    assert_eq!(two.due().await, []);
    two.leave().await;
}

async fn a_log_that_nobody_wrote_to_is_empty_and_open(url: &StoreUrl) {
    let process = Ground::over(url).start("one", CheckBy::Clock).await;
    let Opened { log, marks, entries } = process.open().await;
    assert_eq!((log.tail(), entries.len(), marks.get("bucket")), (0, 0, 0));
    assert_eq!(log.id(), process.logs.log_id(&OWNER));
    let page = process.logs.read(log.id(), 1, 0, 10, process.now()).await.expect("reads");
    assert_eq!((page.entries.len(), page.expired_to), (0, 0));
    assert_eq!(process.logs.logs(None, 9).await, Ok(vec![]));
}

async fn pages_begin_and_end_where_they_are_asked_to(url: &StoreUrl) {
    let process = Ground::over(url).start("one", CheckBy::Clock).await;
    let mut log = process.open().await.log;
    process.append(&mut log, BUCKET + 20).await;
    for (from, upto, limit) in
        [(1, 5, 9), (3, BUCKET + 20, 4), (BUCKET - 1, BUCKET + 20, 9), (BUCKET + 20, BUCKET + 20, 1)]
    {
        let page = process.logs.read(log.id(), from, upto, limit, process.now()).await.expect("reads");
        let found: Vec<_> = page.entries.iter().map(|entry| (entry.idx, entry.content.to_vec())).collect();
        let last = upto.min(from + limit as u64 - 1);
        let wanted: Vec<_> = (from..=last).map(|idx| (idx, content(idx))).collect();
        assert_eq!((found, page.expired_to), (wanted, 0), "{from} to {upto}, {limit}");
    }
}

async fn what_is_past_its_time_is_not_read_and_the_log_goes_on_behind_it(url: &StoreUrl) {
    let ground = Ground::over(url);
    let process = ground.start("one", CheckBy::Clock).await;
    let mut log = process.open().await.log;
    process.append(&mut log, 7).await;
    let then = process.now().plus(KEEP + Duration::from_secs(60));
    let page = process.logs.read(log.id(), 1, log.tail(), 10, then).await.expect("reads");
    assert_eq!((page.entries.len(), page.expired_to), (0, 7));
    process.append(&mut log, 1).await;
    process.leave().await;
    let log = ground.start("two", CheckBy::Clock).await.open().await.log;
    assert_eq!(log.tail(), 8);
}

async fn the_higher_of_two_marks_stays(url: &StoreUrl) {
    let ground = Ground::over(url);
    for (round, marked) in [(1, [5, 3]), (2, [4, 9]), (3, [8, 8])] {
        let process = ground.start(&format!("node-{round}"), CheckBy::Clock).await;
        let mut log = process.open().await.log;
        for value in marked {
            log.mark_now(mark_name("ack/", &[1]), value);
            process.append(&mut log, 1).await;
        }
        let marks = process.logs.marks(log.id()).await.expect("reads");
        assert_eq!(marks.get(mark_name("ack/", &[1])), if round == 1 { 5 } else { 9 });
        assert_eq!(marks.get(mark_name("ack/", &[2])), 0, "another's");
        process.leave().await;
    }
}

dialtone_testkit::over_every_store! { "logs over a CQL server", [super::LEASES, super::ALPHA], {
    the_next_owner_finds_everything_and_goes_on
    a_log_that_is_opened_again_waits_for_what_its_former_opening_writes
    what_is_due_is_found_by_the_next_owner_until_it_is_done
    a_log_that_nobody_wrote_to_is_empty_and_open
    pages_begin_and_end_where_they_are_asked_to
    what_is_past_its_time_is_not_read_and_the_log_goes_on_behind_it
    the_higher_of_two_marks_stays
}}
