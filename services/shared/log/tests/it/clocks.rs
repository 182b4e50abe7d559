//! Owners whose wall clock is set to an hour off, beside others whose is right.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dialtone_chassis::{Chassis, WallError};
use dialtone_log::limits::KEEP;
use dialtone_log::{Due, LogError, Opened, mark_name};
use dialtone_shards::lease::CheckBy;
use dialtone_shards::lease::limits::{LEASE, WAIT};
use dialtone_shards::rendezvous;
use dialtone_vocab::{NodeId, shard_of};

use crate::ground::{Ground, OWNER, Process, content};

const HOUR: Duration = Duration::from_secs(3_600);

impl Ground {
    /// A process whose wall clock is as wrong as is said.
    async fn start_wrong(&self, node: &NodeId, error: &WallError) -> Process {
        let chassis = Chassis::with_wrong_wall(node.clone(), error.clone());
        self.start_as(chassis, CheckBy::Clock, self.store().open().await).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_clock_is_an_hour_off_keeps_its_lease_and_loses_nothing() {
    let Some(ground) = Ground::find("owners of a log whose clocks are wrong").await else { return };
    let hour = i64::try_from(HOUR.as_millis()).expect("small");
    let mut tail = 0;
    for (round, ahead) in [hour, -hour].into_iter().enumerate() {
        // The log is the wrong one's, whoever else is there.
        let mut nodes = [format!("a-{round}"), format!("b-{round}")].map(|name| NodeId::new(&name));
        if rendezvous(shard_of(&OWNER), &nodes) == Some(&nodes[1]) {
            nodes.reverse();
        }
        let error = WallError::default();
        let wrong = ground.start_wrong(&nodes[0], &error).await;
        let epoch = wrong.open().await.log.epoch();
        // Set while it owns the log.
        error.store(ahead, Ordering::Relaxed);
        let Opened { mut log, .. } = wrong.open().await;
        assert_eq!((log.tail(), log.epoch()), (tail, epoch), "{ahead}: all is there, and still its own");
        let due = Due { at: wrong.now(), idx: tail + 1, kind: 1 };
        log.due(due);
        let right = ground.start(nodes[1].as_str(), CheckBy::Clock).await;
        let until = right.chassis.clock.boot() + LEASE + WAIT;
        while right.chassis.clock.boot() < until {
            wrong.append(&mut log, 1).await;
            assert_eq!(right.logs.open(&OWNER, right.now()).await.err(), Some(LogError::NotOwner));
            right.chassis.clock.sleep(Duration::from_millis(100)).await;
        }
        log.mark_now(mark_name("ack/", &[1]), log.tail());
        wrong.drain(&mut log).await;
        assert!(wrong.logs.owns(&log), "{ahead}: the lease held");
        tail = log.tail();
        wrong.leave().await;

        let Opened { mut log, marks, .. } = right.open().await;
        assert_eq!((log.tail(), log.epoch() > epoch), (tail, true), "{ahead}");
        assert_eq!(marks.get(mark_name("ack/", &[1])), tail);
        assert!(right.due().await.iter().any(|row| row.due() == due), "{ahead}: what is due is found");
        right.append(&mut log, 3).await;
        tail = log.tail();
        // Nobody's entries are past their time sooner than the error allows.
        let almost = right.now().plus(KEEP.saturating_sub(2 * HOUR));
        let page = right.logs.read(log.id(), 1, tail, usize::MAX, almost).await.expect("reads");
        let found: Vec<_> = page.entries.iter().map(|entry| entry.content.to_vec()).collect();
        assert_eq!(found, (1..=tail).map(content).collect::<Vec<_>>(), "{ahead}");
        right.leave().await;
    }
    ground.remove().await;
}
