//! What every store of contacts does: the same functions over memory and over a folder.

use dialtone_chassis::Chassis;
use dialtone_store::{Batch, Db, MemoryDisk, StoreUrl};
use dialtone_vocab::{NumberHash, UserId};

use super::{SCHEMA, Store, TABLES};
use crate::rows::{BlockHead, BookRow, BudgetRow, ContactRow, PendingRow};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);

fn hash(n: u8) -> NumberHash {
    NumberHash::new([n; 16])
}

fn of(user: UserId) -> ContactRow {
    ContactRow { user: user.to_vec(), epoch: 1, told: false }
}

fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    Store::new(Db::open(url.clone(), "contacts", TABLES, SCHEMA, chassis).expect("opens"))
}

async fn commit(store: &Store, batch: Batch) {
    store.commit(batch).await.expect("committed");
}

async fn friends_come_in_pages_of_their_generation(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let mut batch = Batch::new();
    for n in [0x00, 0x10, 0x20, 0xff] {
        batch = Store::put_contact(batch, ANNA, 1, hash(n), &of(BEN));
    }
    batch = Store::put_contact(batch, ANNA, 1, hash(0x11), &ContactRow::default());
    batch = Store::put_contact(batch, ANNA, 1, hash(0x12), &of(ANNA));
    batch = Store::put_contact(batch, ANNA, 2, hash(0x30), &of(BEN));
    batch = Store::put_contact(batch, BEN, 1, hash(0x40), &of(ANNA));
    commit(&store, batch).await;
    let first = store.friends(ANNA, 1, None, 3).expect("read");
    assert_eq!(first, [(hash(0x00), BEN), (hash(0x10), BEN), (hash(0x20), BEN)]);
    assert_eq!(store.friends(ANNA, 1, Some(hash(0x20)), 3).expect("read"), [(hash(0xff), BEN)]);
    assert_eq!(store.friends(ANNA, 1, Some(hash(0xff)), 3).expect("read"), []);
    assert_eq!(store.numbers(ANNA, 1).expect("read").len(), 6);
    commit(&store, Store::put_contact(Batch::new(), ANNA, 1, hash(0x00), &ContactRow::default())).await;
    assert_eq!(store.friends(ANNA, 1, None, 1).expect("read"), [(hash(0x10), BEN)]);
    commit(&store, Store::drop_contact(Batch::new(), ANNA, 1, hash(0x10))).await;
    assert_eq!(store.contact(ANNA, 1, hash(0x10)).expect("read"), None);
    assert_eq!(store.friends(ANNA, 1, None, 1).expect("read"), [(hash(0x20), BEN)]);
}

async fn holders_are_found_by_number(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let mut batch = Batch::new();
    for (number, user) in [(5, ANNA), (5, BEN), (6, BEN)] {
        batch = Store::note_holder(batch, hash(number), user);
    }
    commit(&store, batch).await;
    assert_eq!(store.holders(hash(5), None, 9).expect("read"), [ANNA, BEN]);
    assert_eq!(store.holders(hash(5), Some(ANNA), 9).expect("read"), [BEN]);
    commit(&store, Store::drop_holder(Batch::new(), hash(5), ANNA)).await;
    assert_eq!(store.holders(hash(5), None, 9).expect("read"), [BEN]);
    assert_eq!(store.holders(hash(7), None, 9).expect("read"), []);
}

async fn heads_pending_chunks_and_budgets_come_back_after_reopening(url: &StoreUrl) {
    let book = BookRow { generation: 3, base: vec![7; 16], dropping: vec![1, 2], ..Default::default() };
    let pending = PendingRow { token: vec![8; 16], more: true, ..Default::default() };
    let budget = BudgetRow { from_ms: 5, used: 2 };
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis);
        assert_eq!(store.book(ANNA).expect("read"), BookRow::default());
        let batch = Store::put_pending(Store::put_book(Batch::new(), ANNA, &book), ANNA, &pending);
        commit(&store, Store::charge(batch, ANNA, [hash(1), hash(2)], &budget)).await;
        drop(store);
        assert!(chassis.tasks.shutdown(std::time::Duration::from_secs(5)).await);
    }
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    assert_eq!(store.book(ANNA).expect("read"), book);
    assert_eq!(store.pending(ANNA).expect("read"), Some(pending));
    assert_eq!(store.budget(ANNA).expect("read"), budget);
    assert!(store.was_asked(ANNA, hash(2)).expect("read") && !store.was_asked(BEN, hash(2)).expect("read"));
    store.forget_asked(ANNA).await.expect("forgotten");
    assert!(!store.was_asked(ANNA, hash(2)).expect("read"));
    commit(&store, Store::drop_pending(Batch::new(), ANNA)).await;
    assert_eq!(store.pending(ANNA).expect("read"), None);
}

async fn a_block_leaves_a_fact_until_that_version_is_taken(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis);
    let head = |version| BlockHead { version, count: 1 };
    commit(&store, Store::put_block(&head(1), ANNA, BEN, true)).await;
    assert!(store.blocks(ANNA, BEN).expect("read") && !store.blocks(BEN, ANNA).expect("read"));
    let old = store.facts().expect("read");
    commit(&store, Store::put_block(&head(2), ANNA, BEN, false)).await;
    assert!(!store.blocks(ANNA, BEN).expect("read"));
    store.drop_fact(&old[0].0, &old[0].1).await.expect("no error");
    let left = store.facts().expect("read");
    assert_eq!((left.len(), left[0].1.on, left[0].1.version), (1, false, 2), "the newer fact stays");
    store.drop_fact(&left[0].0, &left[0].1).await.expect("dropped");
    assert!(store.facts().expect("read").is_empty());
    assert_eq!(store.block_head(ANNA).expect("read"), head(2));
}

macro_rules! suite {
    ($($case:ident)*) => {
        mod over_memory {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                super::$case(&StoreUrl::memory(&MemoryDisk::new())).await;
            })*
        }
        mod over_a_folder {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let folder = tempfile::TempDir::new().expect("a folder for the test");
                super::$case(&StoreUrl::Folder(folder.path().join("store"))).await;
            })*
        }
    };
}

suite! {
    friends_come_in_pages_of_their_generation
    holders_are_found_by_number
    heads_pending_chunks_and_budgets_come_back_after_reopening
    a_block_leaves_a_fact_until_that_version_is_taken
}
