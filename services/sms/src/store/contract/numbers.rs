//! Numbers that are given away: service numbers, and the SMS of an hour.

use std::collections::BTreeSet;

use super::*;
use crate::limits::{SPEND_AT_ONCE, SPEND_PORTIONS};

fn pool() -> [String; 2] {
    ["+15550001".to_owned(), "+15550002".to_owned()]
}

async fn assigned(store: &Store, phone: NumberHash, user: UserId, pool: &[String]) -> Option<String> {
    store.assign(phone, user, pool).await.expect("no error")
}

pub(super) async fn a_number_belongs_to_one_user_for_each_phone_and_stays(url: &StoreUrl) {
    let (numbers, users) = (pool(), [ANNA, BEN, CARLA]);
    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    assert_eq!(store.could_assign(PHONE, CARLA, &numbers).await, Ok(true));
    let both = users.iter().flat_map(|user| [(&store, *user), (&other, *user)]);
    let given = join_all(both.map(|(store, user)| assigned(store, PHONE, user, &numbers))).await;
    let different: BTreeSet<_> = given.iter().flatten().collect();
    assert_eq!((different.len(), given.iter().flatten().count()), (2, 4), "two numbers, two of three users");
    for (user, given) in users.into_iter().zip(given.chunks(2)) {
        assert_eq!(given[0], given[1], "whichever process is asked");
        assert_eq!(other.could_assign(PHONE, user, &numbers).await, Ok(given[0].is_some()));
        if let Some(number) = &given[0] {
            assert_eq!(other.route(PHONE, number).await, Ok(Some(user)));
        }
    }
    assert_eq!(assigned(&store, OTHER, CARLA, &numbers).await, Some(numbers[0].clone()));
    drop(other);
    close(store, chassis).await;

    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    let mut turned = pool();
    turned.reverse();
    for (user, given) in users.into_iter().zip(given.chunks(2)) {
        assert_eq!(assigned(&store, PHONE, user, &turned).await, given[0], "whatever the pool's order");
    }
    assert_eq!(store.route(OTHER, "+15550001").await, Ok(Some(CARLA)));
    assert_eq!(store.route(OTHER, "+15550002").await, Ok(None));
}

pub(super) async fn an_hour_has_so_many_sms_also_of_several_at_once_and_over_a_restart(url: &StoreUrl) {
    let now = UnixMillis(5 * HOUR_MS + 600_000);
    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    let spenders = (0..6).map(|n| if n % 2 == 0 { &store } else { &other });
    let spent = join_all(spenders.map(|store| store.spend(4, now))).await;
    let waits: Vec<_> = spent.into_iter().filter_map(|wait| wait.expect("no error")).collect();
    assert_eq!(waits, [HOUR_MS - 600_000; 2], "two of six wait for the hour to end");
    drop(other);
    close(store, chassis).await;

    let chassis = Chassis::for_tests(1);
    let store = open(url, &chassis).await;
    assert_eq!(store.spend(4, UnixMillis(6 * HOUR_MS - 1)).await, Ok(Some(1)));
    assert_eq!(store.spend(5, now).await, Ok(None), "the cap was raised");
    assert_eq!(store.spend(4, UnixMillis(6 * HOUR_MS)).await, Ok(None));
}

pub(super) async fn an_hour_with_many_sms_is_taken_in_portions_and_never_overdrawn(url: &StoreUrl) {
    let chassis = Chassis::for_tests(1);
    let [store, other] = two(url, &chassis).await;
    let cap = SPEND_AT_ONCE * SPEND_PORTIONS;
    // All but one portion and a half.
    let left = SPEND_AT_ONCE * 3 / 2;
    let hour = (NOW.0 / HOUR_MS).to_be_bytes();
    let spent = dialtone_store::Batch::new().expect_absent(super::super::SPEND, hour);
    let spent = spent.put(super::super::SPEND, hour, (cap - left).to_be_bytes());
    assert!(store.db.commit(spent).await.expect("no error").is_applied());
    let (mut given, mut is_full) = (0, [false; 2]);
    while is_full != [true; 2] {
        for (is_full, store) in is_full.iter_mut().zip([&store, &other]) {
            *is_full = store.spend(cap, NOW).await.expect("no error").is_some();
            given += u32::from(!*is_full);
        }
    }
    assert_eq!(given, left);
}
