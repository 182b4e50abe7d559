//! Logs over a CQL server that errs, is slow, or goes away: what was settled is there, once, whatever happened meanwhile.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_log::limits::BUCKET;
use dialtone_log::{Log, LogError, Opened};
use dialtone_shards::lease::CheckBy;
use dialtone_store::limits::CQL_REQUEST;
use dialtone_testkit::{CqlError, CqlProxy, Fault};
use dialtone_vocab::NodeId;

use crate::ground::{Ground, Process, content};

/// Later than anybody waits for an answer.
const SLOW: Fault = Fault::Late(Duration::from_millis(2_500));
const _: () = assert!(2_500 > CQL_REQUEST.as_millis());

/// How long a process may take to notice, and to be itself again.
const PATIENCE: Duration = Duration::from_secs(60);

impl Ground {
    /// A process that reaches the store by a proxy.
    async fn behind(&self, proxy: &CqlProxy, node: &str) -> Process {
        let url = proxy.open(self.store()).await;
        self.start_as(Chassis::real(NodeId::new(node)), CheckBy::Clock, url).await
    }

    /// Another process, past the proxy, finds so many entries, each once and in order.
    async fn assert_whole(&self, settled: u64) {
        let next = self.start("next", CheckBy::Clock).await;
        let Opened { log, .. } = next.open().await;
        // What was written and never answered may be there too, once.
        assert!((settled..=settled + 1).contains(&log.tail()), "{} of {settled}", log.tail());
        let page = next.logs.read(log.id(), 1, log.tail(), usize::MAX, next.now()).await.expect("reads");
        let found: Vec<_> = page.entries.iter().map(|entry| entry.content.to_vec()).collect();
        assert_eq!(found, (1..=log.tail()).map(content).collect::<Vec<_>>());
        next.leave().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_repeated_until_its_answer_is_good_and_is_there_once() {
    let Some(ground) = Ground::find("a log over a CQL server that errs").await else { return };
    let proxy = CqlProxy::before(ground.store()).await;
    let one = ground.behind(&proxy, "one").await;
    let mut log = one.open().await.log;
    let errors = [CqlError::Overloaded, CqlError::WriteTimeout, CqlError::Unavailable];
    let denied = errors.into_iter().map(Fault::Denied).chain(errors.into_iter().map(Fault::Refused));
    let late = Fault::Late(CQL_REQUEST + Duration::from_millis(500));
    for fault in denied.chain([Fault::Lost, late]) {
        // More errors than the driver tries by itself; it tries nothing again that is silent.
        let times = if matches!(fault, Fault::Lost | Fault::Late(_)) { 2 } else { 4 };
        let before = proxy.hits();
        proxy.inflict_times("alpha_log", fault, times);
        one.append(&mut log, 100).await;
        assert_eq!(proxy.hits(), before + times, "{fault:?}");
    }
    assert_eq!(log.tail(), 800);
    const { assert!(800 > BUCKET, "more than one bucket was written") };
    one.leave().await;
    ground.assert_whole(800).await;
    ground.remove().await;
}

impl Process {
    /// Appends one by one until it is the owner no more; how many were settled.
    async fn append_until_lost(&self, log: &mut Log) -> u64 {
        loop {
            let idx = log.last() + 1;
            assert_eq!(log.push(1, content(idx)), idx);
            let write = log.next_write(self.now()).expect("waits");
            match self.logs.write(&write).await {
                Ok(()) => drop(log.settled(&write)),
                Err(LogError::NotOwner) => return log.tail(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until it is ready, or is not because of its leases.
    async fn until_ready(&self, ready: bool) {
        let missing = || self.chassis.ready.report().into_iter().find(|(name, _)| *name == "leases");
        let seen = async {
            while missing().is_some_and(|(_, why)| why.is_none() != ready) {
                self.chassis.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        self.chassis.clock.timeout(PATIENCE, seen).await.expect("in time");
        let why = missing().expect("it has leases").1;
        assert_eq!(why.as_deref(), (!ready).then_some("the lease was lost"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_or_is_slow_is_waited_out_and_nothing_settled_is_lost() {
    let Some(ground) = Ground::find("a log over a CQL server that goes and comes").await else { return };
    let proxy = CqlProxy::before(ground.store()).await;
    let one = ground.behind(&proxy, "one").await;
    let mut settled = 0;
    for how in ["gone", "slow"] {
        let mut log = one.open().await.log;
        assert!((settled..=settled + 1).contains(&log.tail()), "{how}: {} of {settled}", log.tail());
        one.append(&mut log, 10).await;
        let before = log.tail();
        let outage = async {
            match how {
                "gone" => proxy.cut().await,
                // Everything: renewals as well as entries.
                _ => proxy.inflict(&ground.store().config.keyspace, SLOW),
            }
        };
        let (lost, ()) = tokio::join!(one.append_until_lost(&mut log), outage);
        settled = lost;
        assert!(settled >= before);
        one.until_ready(false).await;
        assert_eq!(one.logs.open(&crate::ground::OWNER, one.now()).await.err(), Some(LogError::NotOwner));
        match how {
            "gone" => proxy.mend().await,
            _ => proxy.heal(),
        }
        // By itself.
        one.until_ready(true).await;
    }
    let mut log = one.open().await.log;
    one.append(&mut log, 10).await;
    let settled = log.tail();
    one.leave().await;
    ground.assert_whole(settled).await;
    ground.remove().await;
}
