//! Stores for tests: every case runs over each of them.

use dialtone_chassis::Chassis;
use dialtone_store::{Db, StoreUrl};

use crate::store::{SCHEMA, Store};

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
                let rooms = [crate::SCHEMA];
                let store = dialtone_testkit::CqlStore::fresh("contacts over a CQL server", &rooms).await;
                if let Some(store) = store {
                    super::$case(&store.open().await).await;
                    store.remove().await;
                }
            })*
        }
    };
}
pub(crate) use suite;
