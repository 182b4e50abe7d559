//! Stores for tests: every case runs over each of them.

use dialtone_chassis::Chassis;
use dialtone_store::scylla::{Scylla, ScyllaConfig};
use dialtone_store::{Db, StoreError, StoreUrl};
use dialtone_vocab::NodeId;

use crate::store::{SCHEMA, Store};

const MIGRATE_TRIES: u32 = 5;

pub(crate) async fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    let db = Db::open(url.clone(), SCHEMA, chassis).await.expect("opens");
    Store::new(db, chassis.clock.clone())
}

/// Two processes, where a store can be shared; else one twice.
pub(crate) async fn two(url: &StoreUrl, chassis: &Chassis) -> [Store; 2] {
    let one = open(url, chassis).await;
    let other = if matches!(url, StoreUrl::Scylla(_)) { open(url, chassis).await } else { one.clone() };
    [one, other]
}

/// A keyspace that nobody else has, if there is a server.
pub(crate) async fn keyspace() -> Option<StoreUrl> {
    let nodes = dialtone_testkit::cql_nodes("contacts over a CQL server")?;
    let keyspace = format!("t{:016x}", Chassis::real(NodeId::new("test")).rng.u64());
    let config = ScyllaConfig { nodes, keyspace, ..ScyllaConfig::default() };
    let chassis = Chassis::for_tests(1);
    // A server that has just started, or makes many, may take longer over it than a request may.
    let mut made = Scylla::migrate(&config, &[SCHEMA], 1, &chassis).await;
    for _ in 0..MIGRATE_TRIES {
        if let Err(StoreError::Unreachable { .. } | StoreError::Unknown { .. }) = made {
            made = Scylla::migrate(&config, &[SCHEMA], 1, &chassis).await;
        }
    }
    made.expect("a keyspace");
    Some(StoreUrl::Scylla(Scylla::open(&config).await.expect("opens")))
}

/// Runs each case over memory, over a folder and over a CQL server.
macro_rules! suite {
    ($($case:ident)*) => {
        mod over_memory {
            $(#[tokio::test]
            async fn $case() {
                let disk = dialtone_store::MemoryDisk::new();
                super::$case(&dialtone_store::StoreUrl::memory(&disk)).await;
            })*
        }
        mod over_a_folder {
            $(#[tokio::test]
            async fn $case() {
                let folder = tempfile::TempDir::new().expect("a folder for the test");
                super::$case(&dialtone_store::StoreUrl::Folder(folder.path().join("store"))).await;
            })*
        }
        mod over_a_cql_server {
            $(#[tokio::test]
            async fn $case() {
                if let Some(url) = crate::testing::keyspace().await {
                    super::$case(&url).await;
                }
            })*
        }
    };
}
pub(crate) use suite;
