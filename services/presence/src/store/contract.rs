//! What every store of presence does: the same functions over memory, over a folder and over a CQL server.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::{Db, StoreUrl};
use dialtone_vocab::{UnixMillis, UserId};

use super::{SCHEMA, Status, Store};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);

async fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    Store::new(Db::open(url.clone(), SCHEMA, chassis).await.expect("opens"))
}

/// Two processes, where a store can be shared; else one twice.
async fn two(url: &StoreUrl, chassis: &Chassis) -> [Store; 2] {
    let one = open(url, chassis).await;
    let other = if matches!(url, StoreUrl::Scylla(_)) { open(url, chassis).await } else { one.clone() };
    [one, other]
}

fn status(text: &str, invisible: bool, seen: u64) -> Status {
    Status { text: text.into(), invisible, seen: UnixMillis(seen) }
}

async fn a_status_replaces_the_last_one_and_survives_reopening(url: &StoreUrl) {
    {
        let chassis = Chassis::for_tests(1);
        let store = open(url, &chassis).await;
        assert_eq!(store.status(ANNA).await.expect("read"), Status::default());
        store.put_status(ANNA, &status("at work", false, 0)).await.expect("written");
        assert_eq!(store.status(ANNA).await.expect("read"), status("at work", false, 0));
        store.put_status(ANNA, &status("at home", true, 9)).await.expect("written");
        drop(store);
        assert!(chassis.tasks.shutdown(Duration::from_secs(5)).await);
    }
    let store = open(url, &Chassis::for_tests(1)).await;
    assert_eq!(store.status(ANNA).await.expect("read"), status("at home", true, 9));
    assert_eq!(store.status(BEN).await.expect("read"), Status::default());
}

async fn who_notes_that_a_user_was_there_changes_nothing_that_it_set(url: &StoreUrl) {
    let [old, new] = two(url, &Chassis::for_tests(1)).await;
    old.put_status(ANNA, &status("at work", false, 5)).await.expect("written");
    new.put_status(ANNA, &status("at home", true, 6)).await.expect("written");
    old.note_seen(ANNA, UnixMillis(7)).await.expect("noted");
    assert_eq!(new.status(ANNA).await.expect("read"), status("at home", true, 7));
    old.note_seen(BEN, UnixMillis(8)).await.expect("noted, of one who never set anything");
    assert_eq!(new.status(BEN).await.expect("read"), status("", false, 8));
}

async fn of_two_times_the_later_one_stays(url: &StoreUrl) {
    let [one, other] = two(url, &Chassis::for_tests(1)).await;
    one.note_seen(ANNA, UnixMillis(20)).await.expect("noted");
    other.note_seen(ANNA, UnixMillis(10)).await.expect("late, and no harm");
    other.put_status(ANNA, &status("at sea", true, 11)).await.expect("written");
    assert_eq!(one.status(ANNA).await.expect("read"), status("at sea", true, 20));
}

async fn a_status_that_is_set_again_is_as_it_was(url: &StoreUrl) {
    let [one, other] = two(url, &Chassis::for_tests(1)).await;
    for store in [&one, &other, &one] {
        store.put_status(ANNA, &status("at sea", true, 3)).await.expect("written");
        assert_eq!(other.status(ANNA).await.expect("read"), status("at sea", true, 3));
    }
}

dialtone_testkit::over_every_store! { "presence over a CQL server", [crate::SCHEMA], {
    a_status_replaces_the_last_one_and_survives_reopening
    who_notes_that_a_user_was_there_changes_nothing_that_it_set
    of_two_times_the_later_one_stays
    a_status_that_is_set_again_is_as_it_was
} }
