//! `deploy/local/cluster`, driven: thirteen processes over a real nats-server, which the script
//! starts and which knows what each service may do, and a real CQL server.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dialtone_testkit::{CqlStore, may_be_cluster, repository};
use tempfile::TempDir;

use super::at_all::{Told, missing};
use super::load::Load;
use crate::process::outcome;

/// Its processes, in the order of the script.
pub(crate) const NAMES: [&str; 13] = [
    "centre-1",
    "identity-1",
    "contacts-1",
    "presence-1",
    "presence-2",
    "presence-3",
    "sms-1",
    "offline-1",
    "offline-2",
    "routing-1",
    "routing-2",
    "gateway-1",
    "gateway-2",
];
/// Ports that the script counts up from its first.
const PORTS: u16 = 60;
/// Where a range of ports is looked for: below those that the kernel gives away.
const LOOKED_AT: std::ops::Range<u16> = 20_000..32_000;

/// Thirteen processes at a time are enough for a machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A cluster that runs; its end stops everything and takes its keyspace away.
pub(crate) struct Cluster {
    home: Option<TempDir>,
    first_port: u16,
    store: Option<CqlStore>,
    settings: Vec<(String, &'static str)>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts everything over the CQL server of the tests; `None`, and said on stderr, if it is not wanted or that server
    /// is not there.
    pub(crate) fn up(what: &str) -> Option<Self> {
        Self::up_over(what, &[], || CqlStore::name(what).map(Some))
    }

    /// As [`Cluster::up`], over the three CQL servers that `start` starts, if they are wanted.
    pub(crate) fn up_over_nodes(what: &str, start: impl FnOnce() -> CqlStore) -> Option<Self> {
        Self::up_over(what, &[], || Some(Some(start())))
    }

    /// As a person starts it, over a CQL server that the script starts, and with settings of every process over those of
    /// the script: their environment names, and values.
    pub(crate) fn up_by_hand(what: &str, settings: &[(&str, &'static str)]) -> Option<Self> {
        Self::up_over(what, settings, || Some(None))
    }

    fn up_over(
        what: &str,
        settings: &[(&str, &'static str)],
        store: impl FnOnce() -> Option<Option<CqlStore>>,
    ) -> Option<Self> {
        if !may_be_cluster(what) {
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let store = store()?;
        let replicas = store.as_ref().map_or(1, CqlStore::replicas);
        let cluster = Self {
            home: Some(tempfile::tempdir().expect("a folder")),
            first_port: free_range(),
            store,
            settings: settings.iter().map(|(name, value)| (format!("DIALTONE__{name}"), *value)).collect(),
            _turn: turn,
        };
        cluster.run(&["up", "--replicas", &replicas.to_string()]);
        Some(cluster)
    }

    /// URL of a gateway: 0 or 1.
    pub(crate) fn gateway(&self, nth: u16) -> String {
        format!("http://127.0.0.1:{}", self.first_port + 1 + nth)
    }

    /// URL of the handsets.
    pub(crate) fn handsets(&self) -> String {
        format!("http://127.0.0.1:{}", self.first_port)
    }

    /// Phones that write to each other by both gateways.
    pub(crate) fn load(&self) -> Load {
        Load::begin([0, 1].map(|nth| self.gateway(nth)), &self.handsets())
    }

    /// What of all that phones were told its logs lack, read from all replicas.
    pub(crate) fn missing(&self, told: &[Told]) -> Vec<String> {
        let store = self.store.as_ref().expect("not the script's own");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(missing(&store.config, told))
    }

    /// The folder of its logs.
    pub(crate) fn home(&self) -> PathBuf {
        self.home.as_ref().expect("until the end").path().to_owned()
    }

    /// What a process has said.
    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.home().join(format!("{name}.log"))).expect("its log")
    }

    /// Runs the script, which has to succeed.
    pub(crate) fn run(&self, args: &[&str]) {
        let said = self.script(args);
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "cluster {args:?}: {words}");
    }

    fn script(&self, args: &[&str]) -> Output {
        let mut command = Command::new(repository().join("deploy/local/cluster"));
        command
            .args(args)
            .stdin(Stdio::null())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .env("DIALTONE_BIN", env!("CARGO_BIN_EXE_dialtone"))
            .env("DIALTONE_CLUSTER_HOME", self.home())
            .env("DIALTONE_CLUSTER_PORT", self.first_port.to_string());
        for given in ["NATS", "CQL", "KEYSPACE"] {
            command.env_remove(format!("DIALTONE_CLUSTER_{given}"));
        }
        if let Some(CqlStore { config: store, .. }) = &self.store {
            command
                .env("DIALTONE_CLUSTER_CQL", format!("scylla://{}", store.nodes.join(",")))
                .env("DIALTONE_CLUSTER_KEYSPACE", &store.keyspace);
        }
        outcome(command)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.script(&["down"]).status.success() {
            for name in NAMES {
                self.script(&["kill", name]);
            }
            self.script(&["stop", "nats"]);
        }
        if std::thread::panicking()
            && let Some(home) = self.home.take()
        {
            super::say(&format!("the logs are left in {}", home.keep().display()));
        }
        let Some(store) = self.store.take() else { return };
        // A thread of its own: a panic in here would hide the one that is under way.
        let removed = std::thread::spawn(|| {
            tokio::runtime::Runtime::new().expect("a runtime").block_on(store.remove());
        });
        if removed.join().is_err() {
            super::say("the keyspace of the test could not be removed");
        }
    }
}

/// The first of so many ports that nobody listens on.
fn free_range() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    // Not where another test run begins to look.
    let own = u16::try_from(std::process::id() % 100).expect("below 100") * PORTS;
    let ranges = LOOKED_AT.step_by(PORTS.into()).map(|first| first + own % (PORTS * 90));
    let mut free = ranges.filter(|first| (*first..*first + PORTS).all(is_free));
    free.next().expect("a range of ports nobody listens on")
}
