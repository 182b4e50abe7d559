//! Two processes at once with logs in a store that they share: a real CQL server, and leases. Who does not own a log any
//! more adds nothing to it.

use dialtone_log::LogError;
use dialtone_shards::lease::CheckBy;
use dialtone_shards::rendezvous;
use dialtone_vocab::{NodeId, shard_of};

use crate::ground::{Ground, OWNER};

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
    ground.remove().await;
}
