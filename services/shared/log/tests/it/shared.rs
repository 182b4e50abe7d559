//! Logs in a store that processes share: a real CQL server, and leases. Whoever owns a log finds what its owner before
//! settled, and nobody else adds to it.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_log::limits::BUCKET;
use dialtone_log::{Due, LogError, Opened, mark_name};
use dialtone_shards::lease::CheckBy;
use dialtone_shards::rendezvous;
use dialtone_vocab::{NodeId, UnixMillis, shard_of};

use crate::ground::{Ground, OWNER, content};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_owner_finds_everything_and_goes_on() {
    let Some(ground) = Ground::find("a log handed from owner to owner over a CQL server").await else {
        return;
    };
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
    ground.store.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_log_went_to_another_settles_nothing_more() {
    let Some(ground) = Ground::find("a log that went to another process over a CQL server").await else {
        return;
    };
    for by in [CheckBy::Clock, CheckBy::Read] {
        // Whoever comes second gets the log, and the first one lives on.
        let mut nodes = ["one", "two"].map(NodeId::new);
        if rendezvous(shard_of(&OWNER), &nodes) == Some(&nodes[0]) {
            nodes.reverse();
        }
        let one = ground.start(nodes[0].as_str(), by).await;
        let mut log = one.open().await.log;
        let before = log.tail();
        one.append(&mut log, 3).await;
        assert!(one.logs.owns(&log) && one.logs.may_tell(&OWNER, log.epoch()).await);
        log.push(1, "stale");
        let write = log.next_write(one.now()).expect("waits");
        let two = ground.start(nodes[1].as_str(), by).await;
        let opened = two.open().await;
        assert_eq!(opened.log.tail(), before + 3);
        assert!(!one.logs.owns(&log) && !one.logs.may_tell(&OWNER, log.epoch()).await);
        assert_eq!(one.logs.write(&write).await, Err(LogError::NotOwner), "written perhaps, settled never");
        two.leave().await;
        one.leave().await;
    }
    ground.store.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_opened_again_waits_for_what_its_former_opening_writes() {
    let Some(ground) = Ground::find("a log opened again over a CQL server").await else { return };
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
    ground.store.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_is_found_by_the_next_owner_until_it_is_done() {
    let Some(ground) = Ground::find("due rows over a CQL server").await else { return };
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
    ground.store.remove().await;
}
