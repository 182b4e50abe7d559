//! What only a folder can do wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dialtone_chassis::Chassis;
use dialtone_store::{Batch, Commit, Db, Schema, StoreError, StoreUrl};
use dialtone_vocab::{Epoch, NodeId};
use futures::future::join_all;
use tempfile::TempDir;

use crate::contract::{ALPHA, TABLES, open, put, try_open, value};

fn place() -> (TempDir, StoreUrl) {
    let folder = TempDir::new().expect("a folder for the test");
    let url = StoreUrl::Folder(folder.path().join("store"));
    (folder, url)
}

async fn refusal(url: &StoreUrl) -> StoreError {
    match try_open(url, "alpha", TABLES, 1).await {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

fn home(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join("store/alpha")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes a folder");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copies");
        }
    }
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_left_alone() {
    let (folder, url) = place();
    let path = folder.path().join("store");
    fs::create_dir(&path).expect("makes a folder");
    fs::write(path.join("thesis.txt"), "mine").expect("writes");
    assert_eq!(refusal(&url).await, StoreError::NotOurs { path: path.clone() });
    let names: Vec<_> =
        fs::read_dir(&path).expect("lists").map(|entry| entry.expect("lists").file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[tokio::test]
async fn a_file_is_no_folder() {
    let (folder, url) = place();
    let path = folder.path().join("store");
    fs::write(&path, "a file").expect("writes");
    assert_eq!(refusal(&url).await, StoreError::NotOurs { path });
}

#[tokio::test]
async fn an_empty_folder_becomes_ours() {
    let (folder, url) = place();
    fs::create_dir(folder.path().join("store")).expect("makes a folder");
    open(&url).await.close().await;
    assert!(folder.path().join("store/dialtone-store").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_may_begin_in_a_new_folder_at_once() {
    const SERVICES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let runtime = tokio::runtime::Handle::current();
    for _ in 0..50 {
        let (_folder, url) = place();
        let start = std::sync::Barrier::new(SERVICES.len());
        let open = |service| {
            start.wait();
            let schema = Schema { service, tables: TABLES, version: 1 };
            runtime.block_on(Db::open(url.clone(), schema, &Chassis::real(NodeId::new(service)))).map(drop)
        };
        std::thread::scope(|scope| {
            let openings = SERVICES.map(|service| {
                let open = &open;
                scope.spawn(move || open(service))
            });
            for opening in openings {
                assert_eq!(opening.join().expect("no panic"), Ok(()));
            }
        });
    }
}

#[tokio::test]
async fn a_second_opening_is_told_that_it_is_locked() {
    let (folder, url) = place();
    let first = open(&url).await;
    assert_eq!(refusal(&url).await, StoreError::Locked { path: home(&folder) });
    put(&first.db, b"key", b"x").await;
    first.close().await;
    assert_eq!(value(&open(&url).await.db, b"key").await, Some(b"x".to_vec()));
}

#[tokio::test]
async fn data_that_is_gone_is_missed() {
    let (folder, url) = place();
    open(&url).await.close().await;
    fs::remove_dir_all(home(&folder).join("data")).expect("removes");
    assert_eq!(refusal(&url).await, StoreError::Missing { path: home(&folder).join("data") });
    fs::create_dir(home(&folder).join("data")).expect("makes a folder");
    assert_eq!(refusal(&url).await, StoreError::Missing { path: home(&folder).join("data") });
}

#[tokio::test]
async fn any_engine_file_that_is_gone_is_noticed() {
    let (folder, url) = place();
    let it = open(&url).await;
    put(&it.db, b"key", b"x").await;
    it.close().await;
    let data = home(&folder).join("data");
    let kept = folder.path().join("kept");
    copy(&data, &kept);
    for entry in fs::read_dir(&kept).expect("lists").map(|entry| entry.expect("lists")) {
        if entry.file_name() == "lock" {
            continue; // holds nothing
        }
        let gone = data.join(entry.file_name());
        if gone.is_dir() {
            fs::remove_dir_all(&gone).expect("removes");
        } else {
            fs::remove_file(&gone).expect("removes");
        }
        let error = refusal(&url).await;
        assert!(
            !matches!(error, StoreError::NotOurs { .. } | StoreError::Locked { .. }),
            "{gone:?}: {error}"
        );
        fs::remove_dir_all(&data).expect("removes");
        copy(&kept, &data);
    }
    assert_eq!(value(&open(&url).await.db, b"key").await, Some(b"x".to_vec()));
}

#[tokio::test]
async fn data_put_back_from_a_copy_is_noticed() {
    let (folder, url) = place();
    open(&url).await.close().await;
    let data = home(&folder).join("data");
    copy(&data, &folder.path().join("kept"));
    let it = open(&url).await;
    put(&it.db, b"key", b"x").await;
    it.close().await;
    fs::remove_dir_all(&data).expect("removes");
    copy(&folder.path().join("kept"), &data);
    assert_eq!(refusal(&url).await, StoreError::WentBack { path: home(&folder), seen: 2, found: 1 });
}

#[tokio::test]
async fn a_store_that_was_never_finished_is_made_again() {
    let (folder, url) = place();
    open(&url).await.close().await;
    let home = home(&folder);
    fs::remove_file(home.join("manifest")).expect("removes");
    fs::remove_dir_all(home.join("data")).expect("removes");
    fs::create_dir_all(home.join("data/keyspaces")).expect("makes a folder");
    let it = open(&url).await;
    assert_eq!(it.db.epoch(), Some(Epoch(1)));
    put(&it.db, b"key", b"x").await;
}

#[tokio::test]
async fn a_damaged_manifest_is_named() {
    let (folder, url) = place();
    open(&url).await.close().await;
    let manifest = home(&folder).join("manifest");
    fs::write(&manifest, "schema").expect("writes");
    assert_eq!(refusal(&url).await, StoreError::Damaged { path: manifest, why: "not a manifest".to_owned() });
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let (folder, url) = place();
    open(&url).await.close().await;
    let manifest = home(&folder).join("manifest");
    let text = fs::read_to_string(&manifest).expect("reads");
    fs::write(&manifest, text.replace("shards 1024", "shards 512")).expect("writes");
    assert_eq!(refusal(&url).await, StoreError::WrongShards { found: 512, wanted: 1024 });
}

#[tokio::test]
async fn a_damaged_value_is_named_by_its_table() {
    let (folder, url) = place();
    let it = open(&url).await;
    put(&it.db, b"good", b"x").await;
    it.close().await;
    {
        let engine = fjall::Database::builder(home(&folder).join("data")).open().expect("opens");
        let one = engine.keyspace("one", fjall::KeyspaceCreateOptions::default).expect("opens");
        let stored = one.get(b"good").expect("reads").expect("is there").to_vec();
        one.insert(b"moved", stored.clone()).expect("writes");
        let mut flipped = stored;
        flipped[0] ^= 1;
        one.insert(b"flipped", flipped).expect("writes");
        one.insert(b"short", b"abc").expect("writes");
        engine.persist(fjall::PersistMode::SyncAll).expect("persists");
    }
    let it = open(&url).await;
    let corrupt = || StoreError::Corrupt { table: "one".to_owned() };
    for key in ["moved", "flipped", "short"] {
        assert_eq!(it.db.get("one", key.as_bytes()).await, Err(corrupt()), "{key}");
        let outcome = it.db.commit(Batch::new().max("one", key, 1)).await;
        assert_eq!(outcome, Err(corrupt()), "{key}");
    }
    assert_eq!(it.db.scan("one", .., 10).await, Err(corrupt()));
    assert_eq!(
        it.db.get("one", b"good").await,
        Ok(Some(Bytes::from_static(b"x"))),
        "the rest is still served"
    );
    put(&it.db, b"flipped", b"repaired").await;
    assert_eq!(value(&it.db, b"flipped").await, Some(b"repaired".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_real_process_commits_gather_behind_the_fsync() {
    let (_folder, url) = place();
    let chassis = Chassis::real(NodeId::new("real"));
    let db = Db::open(url, ALPHA, &chassis).await.expect("opens");
    let writers = (0..64_u64).map(|writer| {
        let db = db.clone();
        async move {
            for n in 0..20_u64 {
                let key = [writer.to_be_bytes(), n.to_be_bytes()].concat();
                assert_eq!(db.commit(Batch::new().put("one", key, b"x")).await, Ok(Commit::Applied));
            }
        }
    });
    join_all(writers).await;
    let stats = db.stats();
    assert_eq!((stats.batches, db.scan("one", .., 10_000).await.map(|rows| rows.len())), (1_280, Ok(1_280)));
    assert!(stats.groups * 4 < stats.batches, "{stats:?}");
    drop(db);
    assert!(chassis.tasks.shutdown(Duration::from_secs(10)).await);
}
