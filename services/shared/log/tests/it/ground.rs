//! Processes with logs in a store that they share.

use std::time::Duration;

use dialtone_bus::Bus;
use dialtone_chassis::Chassis;
use dialtone_log::limits::KEEP;
use dialtone_log::{DueRow, Log, LogError, LogKind, LogStore, Opened, TABLES};
use dialtone_shards::lease::CheckBy;
use dialtone_shards::{LEASES, Leases, Shards};
use dialtone_store::{Db, Schema, StoreUrl};
use dialtone_testkit::CqlStore;
use dialtone_vocab::{NodeId, UnixMillis};

pub(crate) const OWNER: [u8; 16] = [7; 16];
pub(crate) const ALPHA: Schema = Schema { service: "alpha", tables: &TABLES, version: 1 };
/// How long a process may take to own what it is to own: it listens first, and waits for a lease to run out.
const OWNED_WITHIN: Duration = Duration::from_secs(30);
/// How long one may take to end.
const LEFT_WITHIN: Duration = Duration::from_secs(10);

/// A store, and the bus of its processes.
pub(crate) struct Ground {
    url: StoreUrl,
    store: Option<CqlStore>,
    bus: Bus,
    _bus_of: Chassis,
}

impl Ground {
    pub(crate) fn over(url: &StoreUrl) -> Self {
        let chassis = Chassis::real(NodeId::new("ground"));
        Self { url: url.clone(), store: None, bus: Bus::local(&chassis), _bus_of: chassis }
    }

    /// A store on a CQL server that nobody else has.
    pub(crate) async fn find(what: &str) -> Option<Self> {
        let store = CqlStore::fresh(what, &[LEASES, ALPHA]).await?;
        let url = store.open().await;
        Some(Self { store: Some(store), ..Self::over(&url) })
    }

    pub(crate) fn store(&self) -> &CqlStore {
        self.store.as_ref().expect("found")
    }

    pub(crate) async fn remove(self) {
        self.store.expect("found").remove().await;
    }

    pub(crate) async fn start(&self, node: &str, by: CheckBy) -> Process {
        self.start_as(Chassis::real(NodeId::new(node)), by, self.url.clone()).await
    }

    /// A process with this chassis, which reaches the store in this way.
    pub(crate) async fn start_as(&self, chassis: Chassis, by: CheckBy, url: StoreUrl) -> Process {
        let shards = Shards::start(&chassis, &self.bus, &["alpha"], &[]).await.expect("starts");
        let leases = if url.is_shared() {
            let db = Db::open(url.clone(), LEASES, &chassis).await.expect("opens");
            Some(Leases::start(&chassis, &self.bus, &shards, db, by, vec!["alpha"]).await.expect("starts"))
        } else {
            None
        };
        let db = Db::open(url, ALPHA, &chassis).await.expect("opens");
        let logs = LogStore::new(db, LogKind::Inbox, KEEP, leases, &chassis);
        Process { chassis, logs }
    }
}

pub(crate) struct Process {
    pub(crate) chassis: Chassis,
    pub(crate) logs: LogStore,
}

impl Process {
    pub(crate) fn now(&self) -> UnixMillis {
        self.chassis.clock.now()
    }

    /// Opens the log as soon as it is this process's.
    pub(crate) async fn open(&self) -> Opened {
        let open = async {
            loop {
                match self.logs.open(&OWNER, self.now()).await {
                    Ok(opened) => return opened,
                    Err(LogError::NotOwner) => self.chassis.clock.sleep(Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        self.chassis.clock.timeout(OWNED_WITHIN, open).await.expect("owned in time")
    }

    pub(crate) async fn drain(&self, log: &mut Log) {
        while let Some(write) = log.next_write(self.now()) {
            self.logs.write(&write).await.expect("writes");
            log.settled(&write);
        }
    }

    pub(crate) async fn append(&self, log: &mut Log, count: u64) {
        for _ in 0..count {
            let idx = log.last() + 1;
            assert_eq!(log.push(1, content(idx)), idx);
        }
        self.drain(log).await;
    }

    /// What is due, as far as this process owns it.
    pub(crate) async fn due(&self) -> Vec<DueRow> {
        let (sender, mut found) = tokio::sync::mpsc::unbounded_channel();
        let awake = self.logs.clone().keep_awake(move |row| sender.send(row).expect("is heard"));
        let task = self.chassis.tasks.spawn("awake", awake);
        let mut rows = Vec::new();
        while let Ok(Some(row)) = self.chassis.clock.timeout(Duration::from_secs(2), found.recv()).await {
            rows.push(row);
        }
        task.abort();
        rows
    }

    pub(crate) async fn leave(self) {
        assert!(self.chassis.tasks.shutdown(LEFT_WITHIN).await, "ends");
    }
}

pub(crate) fn content(idx: u64) -> Vec<u8> {
    format!("entry {idx}").into_bytes()
}
