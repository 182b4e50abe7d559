//! A CQL server for the contract, and what only such a server does.

use std::sync::atomic::{AtomicUsize, Ordering};

use dialtone_chassis::Chassis;
use dialtone_store::scylla::Scylla;
use dialtone_store::{Db, Schema, StoreError, StoreUrl};

use dialtone_testkit::CqlStore;

use crate::contract::{ALPHA, MORE_TABLES};

#[tokio::test]
async fn a_schema_is_made_once_and_an_older_program_is_refused() {
    let Some(store) = CqlStore::name("the schema of a CQL server") else { return };
    let (config, chassis) = (&store.config, Chassis::for_tests(1));
    let missing = Scylla::open(config).await.map(drop);
    assert_eq!(missing, Err(StoreError::NoKeyspace { keyspace: config.keyspace.clone() }));
    let (other, rooms) = (Chassis::for_tests(2), [ALPHA]);
    assert_eq!(Scylla::migrate(config, &rooms, 1, &chassis, || false).await, Ok(true));
    // It is new until what belongs to it is there, which one of two makes.
    let completed = AtomicUsize::new(0);
    let complete = || completed.fetch_add(1, Ordering::Relaxed) == 0;
    let (one, two) = tokio::join!(
        Scylla::migrate(config, &rooms, 1, &chassis, complete),
        Scylla::migrate(config, &rooms, 1, &other, complete)
    );
    let made = [one.expect("migrates"), two.expect("migrates")];
    assert_eq!((made.iter().filter(|new| **new).count(), completed.load(Ordering::Relaxed)), (1, 1));
    let url = StoreUrl::Scylla(Scylla::open(config).await.expect("opens"));
    let more = Schema { tables: MORE_TABLES, ..ALPHA };
    let opened = Db::open(url.clone(), more, &chassis).await;
    assert!(matches!(opened, Err(StoreError::Read { .. })), "a table is missing");
    assert_eq!(Scylla::migrate(config, &[more], 1, &chassis, || true).await, Ok(false));
    let db = Db::open(url.clone(), more, &chassis).await.expect("opens");
    assert_eq!(db.get("three", b"key").await, Ok(None));
    // Neither a later program nor an earlier one takes the rows for its own.
    let [later, earlier] = [2, 1].map(|version| Schema { version, ..ALPHA });
    let wrong = |found, wanted| Err(StoreError::WrongSchema { service: "alpha".to_owned(), found, wanted });
    assert_eq!(Scylla::migrate(config, &[later], 1, &chassis, || true).await, wrong(1, 2).map(|()| false));
    assert_eq!(Db::open(url, later, &chassis).await.map(drop), wrong(1, 2));
    store.remove().await;
    let Some(store) = CqlStore::fresh("a store of a later program", &[later]).await else { return };
    let migrated = Scylla::migrate(&store.config, &[earlier], 1, &chassis, || true).await;
    assert_eq!(migrated, wrong(2, 1).map(|()| false));
    assert_eq!(Db::open(store.open().await, earlier, &chassis).await.map(drop), wrong(2, 1));
    store.remove().await;
}
