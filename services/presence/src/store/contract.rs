//! What every store of presence does: the same functions over memory and over a folder.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::{Db, MemoryDisk, StoreUrl};
use dialtone_vocab::UserId;

use super::{SCHEMA, StatusRow, Store, TABLES};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);

fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    Store::new(Db::open(url.clone(), "presence", TABLES, SCHEMA, chassis).expect("opens"))
}

async fn a_status_replaces_the_last_one_and_survives_reopening(url: &StoreUrl) {
    let row = |text: &str| StatusRow { text: text.into(), invisible: true, seen_ms: 9 };
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        assert_eq!(store.status(ANNA).expect("read"), StatusRow::default());
        store.put_status(ANNA, &row("at work")).await.expect("written");
        store.put_status(ANNA, &row("at home")).await.expect("written");
        drop(store);
        assert!(chassis.tasks.shutdown(Duration::from_secs(5)).await);
    }
    let store = open(url, &Chassis::for_tests(1));
    assert_eq!(store.status(ANNA).expect("read"), row("at home"));
    assert_eq!(store.status(BEN).expect("read"), StatusRow::default());
}

#[tokio::test]
async fn over_memory() {
    a_status_replaces_the_last_one_and_survives_reopening(&StoreUrl::memory(&MemoryDisk::new())).await;
}

#[tokio::test]
async fn over_a_folder() {
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let url = StoreUrl::Folder(folder.path().join("store"));
    a_status_replaces_the_last_one_and_survives_reopening(&url).await;
}
