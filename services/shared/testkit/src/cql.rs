//! A CQL server for tests: the one named.

use dialtone_chassis::Chassis;
use dialtone_store::scylla::{Scylla, ScyllaConfig};
use dialtone_store::{Schema, StoreUrl};
use dialtone_vocab::NodeId;
use tokio::sync::Semaphore;

use crate::servers::left_out;

/// The `host:port`s of `DIALTONE_TEST_CQL`, with or without `scylla://` before them; with three of them keyspaces have
/// three replicas. `None` if it is not set: then stderr says that `what` was left out.
///
/// # Panics
/// If it is not set and `DIALTONE_TEST_REQUIRE` names `cql`.
pub fn cql_nodes(what: &str) -> Option<Vec<String>> {
    let Ok(url) = std::env::var("DIALTONE_TEST_CQL") else {
        left_out(what, "cql");
        return None;
    };
    let nodes = url.trim_start_matches("scylla://");
    Some(nodes.split(',').map(str::to_owned).collect())
}

/// A store on a CQL server that nobody else has.
pub struct CqlStore {
    /// How to reach it.
    pub config: ScyllaConfig,
}

impl CqlStore {
    /// A name for a keyspace with nothing behind it yet; `None` as [`cql_nodes`].
    pub fn name(what: &str) -> Option<Self> {
        Some(Self::on(cql_nodes(what)?))
    }

    /// The same, on these.
    pub(crate) fn on(nodes: Vec<String>) -> Self {
        let keyspace = format!("t{:016x}", Chassis::real(NodeId::new("test")).rng.u64());
        Self { config: ScyllaConfig { nodes, keyspace, ..ScyllaConfig::default() } }
    }

    /// One with the tables of these rooms; `None` as [`cql_nodes`]. One is made at a time: a server makes one table at a
    /// time anyway.
    ///
    /// # Panics
    /// If it can't be made.
    pub async fn fresh(what: &str, rooms: &[Schema]) -> Option<Self> {
        static TURN: Semaphore = Semaphore::const_new(1);
        let store = Self::name(what)?;
        let chassis = Chassis::real(NodeId::new("test"));
        let _turn = TURN.acquire().await.expect("never closed");
        let made = Scylla::migrate(&store.config, rooms, store.replicas(), &chassis, || true).await;
        assert_eq!(made, Ok(true), "a new one");
        Some(store)
    }

    /// How often everything is kept: once on every node that is named, at most three times.
    pub fn replicas(&self) -> u32 {
        match self.config.nodes.len() {
            0 | 1 => 1,
            2 => 2,
            _ => 3,
        }
    }

    /// Opens it once more, as another process would.
    ///
    /// # Panics
    /// If it can't be opened.
    pub async fn open(&self) -> StoreUrl {
        StoreUrl::Scylla(Scylla::open(&self.config).await.expect("opens"))
    }

    /// Removes it: a server with hundreds of tables is slow.
    ///
    /// # Panics
    /// If it can't be removed.
    pub async fn remove(self) {
        let scylla = Scylla::connect(&self.config).await.expect("connects");
        scylla.drop_keyspace().await.expect("removed");
    }
}
