//! What every store of contacts does: the same functions over memory, over a folder and over a CQL server.

use std::sync::atomic::Ordering;

use dialtone_chassis::{Chassis, SimWall};
use dialtone_store::StoreUrl;
use dialtone_vocab::{NodeId, NumberHash, UserId};

use super::{Chunk, Held, Holder, Store};
use crate::limits::HOLDER_BUCKETS;
use crate::rows::{BlockHead, BookRow, BudgetRow, ChunkRow, OwedRow, PendingEntry, PendingRow};
use crate::testing::{open, two};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);
const CARLA: UserId = UserId::new([3; 16]);
const NOBODY: UserId = UserId::new([0; 16]);

fn hash(n: u8) -> NumberHash {
    NumberHash::new([n; 16])
}

/// A number of a user since an epoch; of nobody if that is [`NOBODY`].
fn of(n: u8, user: UserId, epoch: u64) -> (NumberHash, PendingEntry) {
    let user = if user == NOBODY { Vec::new() } else { user.to_vec() };
    (hash(n), PendingEntry { user, epoch, ..Default::default() })
}

fn book_of(user: UserId, generation: u64) -> Holder {
    Holder { user, generation }
}

async fn put(
    store: &Store,
    generation: u64,
    chunk: u64,
    added: &[(NumberHash, PendingEntry)],
    removed: &[u8],
) {
    let removed: Vec<_> = removed.iter().map(|n| hash(*n)).collect();
    store.put_chunk(ANNA, generation, chunk, added, &removed).await.expect("written");
}

async fn friends(store: &Store, generation: u64, last: Option<u8>, limit: usize) -> Vec<(u8, UserId)> {
    let found = store.friends(ANNA, generation, last.map(hash), limit).await.expect("read");
    found.into_iter().map(|(hash, user)| (hash.as_bytes()[0], user)).collect()
}

async fn held(store: &Store, n: u8) -> Held {
    store.held(ANNA, 1, hash(n)).await.expect("read")
}

async fn friends_come_in_pages_of_their_generation(url: &StoreUrl) {
    let store = open(url, &Chassis::for_tests(1)).await;
    let numbers = [of(0, BEN, 1), of(0x10, BEN, 1), of(0x11, NOBODY, 0), of(0x12, ANNA, 1), of(0x20, BEN, 9)];
    put(&store, 1, 1, &numbers, &[]).await;
    put(&store, 1, 1, &[of(0x21, NOBODY, 3), of(0xff, CARLA, u64::MAX / 2)], &[]).await;
    put(&store, 2, 1, &[of(0x30, BEN, 1)], &[]).await;
    assert_eq!(friends(&store, 1, None, 3).await, [(0, BEN), (0x10, BEN), (0x20, BEN)]);
    assert_eq!(friends(&store, 1, Some(0x10), 1).await, [(0x20, BEN)]);
    assert_eq!(friends(&store, 1, Some(0x20), 3).await, [(0xff, CARLA)]);
    assert_eq!(friends(&store, 1, Some(0xff), 3).await, []);
    put(&store, 1, 2, &[], &[0x10]).await;
    assert_eq!(friends(&store, 1, None, 2).await, [(0, BEN), (0x20, BEN)]);
    assert_eq!(friends(&store, 3, None, 2).await, []);
}

async fn a_large_book_is_read_through(url: &StoreUrl) {
    let store = open(url, &Chassis::for_tests(1)).await;
    let number = |n: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        let user = if n.is_multiple_of(500) { BEN.to_vec() } else { Vec::new() };
        (NumberHash::new(bytes), PendingEntry { user, epoch: u64::from(n % 3), ..Default::default() })
    };
    let numbers: Vec<_> = (1..=1_500).map(number).collect();
    store.put_chunk(ANNA, 1, 1, &numbers, &[]).await.expect("written");
    assert_eq!(
        store.friends(ANNA, 1, None, 9).await.expect("read").len(),
        2,
        "of 500, 1,000 and 1,500 two had an epoch"
    );
    store.drop_generation(ANNA, 1).await.expect("dropped");
    assert_eq!(store.friends(ANNA, 1, None, 9).await.expect("read"), []);
    let known = store.all_held(ANNA, 1, numbers.iter().map(|(hash, _)| *hash)).await.expect("read");
    assert!(known.iter().all(|held| *held == Held::default()));
}

async fn the_last_chunk_says_whether_a_number_is_in_the_book_however_late_others_are(url: &StoreUrl) {
    let [one, other] = two(url, &Chassis::for_tests(1)).await;
    put(&one, 1, 5, &[of(1, BEN, 1)], &[]).await;
    put(&other, 1, 6, &[], &[1]).await;
    put(&one, 1, 5, &[of(1, BEN, 1)], &[]).await;
    assert!(!held(&other, 1).await.is_in, "written again after it was removed");
    put(&other, 1, 7, &[of(1, BEN, 1)], &[]).await;
    put(&one, 1, 6, &[], &[1]).await;
    assert!(held(&other, 1).await.is_in, "removed again after it was added");
    one.note(book_of(ANNA, 1), [hash(1), hash(2)]).await.expect("noted");
    assert!(held(&other, 1).await.is_in, "noted again");
    let noted = held(&other, 2).await;
    assert!(noted.is_noted && !noted.is_in, "what is noted is not in the book");
    put(&one, 1, 1, &[of(2, BEN, 1)], &[]).await;
    assert!(held(&other, 2).await.is_in, "the first chunk of all");
}

async fn the_latest_owner_counts_however_late_others_are(url: &StoreUrl) {
    let [one, other] = two(url, &Chassis::for_tests(1)).await;
    one.note(book_of(ANNA, 1), [hash(1)]).await.expect("noted");
    let known = held(&one, 1).await;
    one.put_owner(book_of(ANNA, 1), hash(1), &known, 3, Some(CARLA), false).await.expect("written");
    // The chunk that asked before has an older answer, which its own client was told.
    put(&other, 1, 1, &[of(1, BEN, 2)], &[]).await;
    let now = held(&other, 1).await;
    assert_eq!((now.friend(), now.epoch, now.told), (Some(CARLA), 3, false));
    other.put_told(ANNA, 1, hash(1), 3).await.expect("written");
    assert!(held(&one, 1).await.told);
    let known = held(&one, 1).await;
    one.put_owner(book_of(ANNA, 1), hash(1), &known, 4, None, false).await.expect("written");
    let now = held(&other, 1).await;
    assert_eq!((now.friend(), now.epoch, now.told), (None, 4, false));
    assert_eq!(friends(&other, 1, None, 9).await, []);
}

async fn holders_are_found_by_number(url: &StoreUrl) {
    let store = open(url, &Chassis::for_tests(1)).await;
    // Both of them are in one bucket.
    let near = UserId::new([1 + HOLDER_BUCKETS; 16]);
    for (number, user, generation) in [(5, near, 1), (5, ANNA, 2), (5, ANNA, 1), (6, BEN, 1), (5, BEN, 1)] {
        store.note(book_of(user, generation), [hash(number)]).await.expect("noted");
    }
    let first = store.holders(hash(5), 1, None, 2).await.expect("read");
    assert_eq!(first, [book_of(ANNA, 1), book_of(ANNA, 2)]);
    let second = store.holders(hash(5), 1, first.last().copied(), 2).await.expect("read");
    assert_eq!(second, [book_of(near, 1)]);
    assert_eq!(store.holders(hash(5), 2, None, 9).await.expect("read"), [book_of(BEN, 1)]);
    store.drop_notes(book_of(ANNA, 1), [hash(5)]).await.expect("dropped");
    let left = store.holders(hash(5), 1, None, 9).await.expect("read");
    assert_eq!(left, [book_of(ANNA, 2), book_of(near, 1)]);
    assert_eq!(store.holders(hash(7), 1, None, 9).await.expect("read"), []);
}

async fn a_generation_goes_with_what_is_noted_of_it(url: &StoreUrl) {
    let store = open(url, &Chassis::for_tests(1)).await;
    for generation in [1, 2] {
        store.note(book_of(ANNA, generation), [hash(5), hash(6)]).await.expect("noted");
        put(&store, generation, 1, &[of(5, BEN, 1)], &[]).await;
    }
    store.drop_generation(ANNA, 1).await.expect("dropped");
    store.drop_generation(ANNA, 1).await.expect("and again");
    for n in [5, 6] {
        assert_eq!(held(&store, n).await, Held::default());
        assert_eq!(store.holders(hash(n), 1, None, 9).await.expect("read"), [book_of(ANNA, 2)]);
    }
    assert_eq!(friends(&store, 2, None, 9).await, [(5, BEN)]);
}

async fn a_head_is_replaced_by_who_has_seen_it_and_comes_back_after_reopening(url: &StoreUrl) {
    let chunk = ChunkRow { over: 3, token: vec![8; 16] };
    let row = BookRow {
        generation: 3,
        base: vec![7; 16],
        dropping: vec![1, 2],
        pending: Some(PendingRow { chunk: chunk.clone(), more: true, ..Default::default() }),
        owed: Some(OwedRow { chunk: Some(chunk), generation: 3, number: 4 }),
        budget: Some(BudgetRow { from_ms: 5, used: 2 }),
        ..Default::default()
    };
    {
        let chassis = Chassis::for_tests(1);
        let [one, other] = two(url, &chassis).await;
        assert_eq!(one.book(ANNA).await.expect("read"), BookRow::default());
        let (seen, same) =
            (one.book_to_change(ANNA).await.expect("read"), other.book_to_change(ANNA).await.expect("read"));
        let next = one.replace_book(ANNA, &seen, row.clone()).await.expect("written").expect("the first one");
        assert_eq!(next.row.version, 1);
        assert_eq!(
            other.replace_book(ANNA, &same, row.clone()).await.expect("no error"),
            None,
            "nothing was there"
        );
        assert_eq!(other.book_to_change(ANNA).await.expect("read"), next);
        other.replace_book(ANNA, &next, row.clone()).await.expect("written").expect("it is what was seen");
        assert_eq!(one.replace_book(ANNA, &next, BookRow::default()).await.expect("no error"), None);
        drop((one, other));
        assert!(chassis.tasks.shutdown(std::time::Duration::from_secs(5)).await);
    }
    let store = open(url, &Chassis::for_tests(1)).await;
    assert_eq!(store.book(ANNA).await.expect("read"), BookRow { version: 2, ..row });
    assert_eq!(store.book(BEN).await.expect("read"), BookRow::default());
}

async fn chunks_stand_apart_until_they_are_swept(url: &StoreUrl) {
    let store = open(url, &Chassis::for_tests(1)).await;
    let at = |over, token| ChunkRow { over, token: vec![token; 16] };
    let chunk = |n| Chunk { added: vec![of(n, BEN, 1), of(n + 1, NOBODY, 0)], removed: vec![hash(n)] };
    for (over, token) in [(1, 1), (1, 2), (2, 3), (0, 0xff)] {
        store.put_pending(ANNA, &at(over, token), &chunk(token - 1)).await.expect("written");
    }
    assert_eq!(store.pending(ANNA, &at(1, 1)).await.expect("read"), chunk(0));
    assert_eq!(store.pending(ANNA, &at(1, 2)).await.expect("read"), chunk(1));
    store.drop_pending(ANNA, &at(1, 1)).await.expect("dropped");
    assert_eq!(store.pending(ANNA, &at(1, 1)).await.expect("read"), Chunk::default());
    assert_eq!(store.pending(ANNA, &at(1, 2)).await.expect("read"), chunk(1));
    for over in [0, 1] {
        store.drop_all_pending(ANNA, over).await.expect("swept");
    }
    assert_eq!(store.pending(ANNA, &at(1, 2)).await.expect("read"), Chunk::default());
    assert_eq!(store.pending(ANNA, &at(0, 0xff)).await.expect("read"), Chunk::default());
    assert_eq!(store.pending(ANNA, &at(2, 3)).await.expect("read"), chunk(2));
}

async fn what_was_asked_is_forgotten_with_its_time_only(url: &StoreUrl) {
    let store = open(url, &Chassis::for_tests(1)).await;
    store.put_asked(ANNA, 0, [hash(0), hash(2), hash(0xff)]).await.expect("noted");
    store.put_asked(ANNA, 1, [hash(2)]).await.expect("noted");
    let asked = async |user, era| {
        let all = [hash(0), hash(1), hash(2), hash(0xff)];
        store.were_asked(user, era, all).await.expect("read")
    };
    assert_eq!(asked(ANNA, 0).await, [hash(0), hash(2), hash(0xff)]);
    assert_eq!(asked(BEN, 0).await, []);
    store.forget_asked(ANNA, 0).await.expect("forgotten");
    assert_eq!(asked(ANNA, 0).await, []);
    assert_eq!(asked(ANNA, 1).await, [hash(2)]);
}

async fn block(store: &Store, user: UserId, on: bool) -> u64 {
    let seen = store.block_head(ANNA).await.expect("read");
    let head = BlockHead { version: seen.row.version + 1, count: 1 };
    store.note_fact(ANNA, user, head.version).await.expect("noted");
    assert!(store.put_block(&seen, &head, ANNA, user, on).await.expect("written"));
    head.version
}

async fn a_block_leaves_a_fact_until_that_version_is_taken(url: &StoreUrl) {
    let store = open(url, &Chassis::for_tests(1)).await;
    assert!(store.facts().await.expect("read").is_empty());
    block(&store, BEN, true).await;
    assert!(store.blocks(ANNA, BEN).await.expect("read") && !store.blocks(BEN, ANNA).await.expect("read"));
    let old = store.facts().await.expect("read");
    assert!(old.len() == 1 && old[0].1.on);
    let version = block(&store, BEN, false).await;
    assert!(!store.blocks(ANNA, BEN).await.expect("read"));
    store.drop_fact(&old[0].0).await.expect("dropped");
    let left = store.facts().await.expect("read");
    assert_eq!((left.len(), left[0].1.on, left[0].1.version), (1, false, version), "the newer fact stays");
    store.drop_fact(&left[0].0).await.expect("dropped");
    assert!(store.facts().await.expect("read").is_empty());
}

async fn a_block_is_decided_by_who_has_seen_the_head(url: &StoreUrl) {
    let [one, other] = two(url, &Chassis::for_tests(1)).await;
    let seen = one.block_head(ANNA).await.expect("read");
    let version = block(&other, BEN, true).await;
    one.note_fact(ANNA, BEN, 1).await.expect("noted");
    let head = BlockHead { version: 1, count: 0 };
    assert!(
        !one.put_block(&seen, &head, ANNA, BEN, false).await.expect("no error"),
        "it was decided meanwhile"
    );
    assert!(one.blocks(ANNA, BEN).await.expect("read"));
    // The note of what was refused tells what is.
    let facts = other.facts().await.expect("read");
    assert!(!facts.is_empty() && facts.iter().all(|(_, fact)| fact.on && fact.version == version));
}

async fn a_version_that_was_noted_and_never_decided_is_taken_for_nothing_after_hours(url: &StoreUrl) {
    let wall = SimWall::new(3_600_000_000.into());
    let chassis = Chassis::simulated(NodeId::new("test"), 1, wall.clone());
    let [one, other] = two(url, &chassis).await;
    let seen = one.block_head(ANNA).await.expect("read");
    one.note_fact(ANNA, BEN, 1).await.expect("noted");
    wall.fetch_add(2 * 3_600_000, Ordering::Relaxed);
    assert!(other.facts().await.expect("read").is_empty(), "it may still be decided");
    assert_eq!(one.block_head(ANNA).await.expect("read"), seen);
    wall.fetch_add(2 * 3_600_000, Ordering::Relaxed);
    assert!(other.facts().await.expect("read").is_empty(), "it is taken now");
    let head = BlockHead { version: 1, count: 1 };
    assert!(!one.put_block(&seen, &head, ANNA, BEN, true).await.expect("no error"), "too late");
    let told = other.facts().await.expect("read");
    assert!(told.len() == 1 && !told[0].1.on && told[0].1.version == 1);
    other.drop_fact(&told[0].0).await.expect("dropped");
    assert!(other.facts().await.expect("read").is_empty());
    // Hours that are done with are not looked at again; later ones are.
    block(&one, CARLA, true).await;
    wall.fetch_add(99 * 3_600_000, Ordering::Relaxed);
    assert_eq!(other.facts().await.expect("read").len(), 1);
}

dialtone_testkit::over_every_store! { "contacts over a CQL server", [crate::SCHEMA], {
    friends_come_in_pages_of_their_generation
    a_large_book_is_read_through
    the_last_chunk_says_whether_a_number_is_in_the_book_however_late_others_are
    the_latest_owner_counts_however_late_others_are
    holders_are_found_by_number
    a_generation_goes_with_what_is_noted_of_it
    a_head_is_replaced_by_who_has_seen_it_and_comes_back_after_reopening
    chunks_stand_apart_until_they_are_swept
    what_was_asked_is_forgotten_with_its_time_only
    a_block_leaves_a_fact_until_that_version_is_taken
    a_block_is_decided_by_who_has_seen_the_head
    a_version_that_was_noted_and_never_decided_is_taken_for_nothing_after_hours
} }
