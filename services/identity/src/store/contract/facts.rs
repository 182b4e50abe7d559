//! What is told of numbers.

use dialtone_proto::bus::v1::NumberFact;
use futures::FutureExt as _;

use super::super::accounts::number_key;
use super::*;
use crate::limits::{FACT_BATCH, FACT_LOTS, FACT_PATIENCE};
use crate::rows::NumberRow;

/// What is to be told of a number.
pub(super) async fn told(store: &Store, number: PhoneNumber, now: UnixMillis) -> Vec<NumberFact> {
    let facts = all(store, now).await.into_iter().map(|(_, fact)| fact);
    facts.filter(|fact| fact.number == number.to_string()).collect()
}

async fn all(store: &Store, now: UnixMillis) -> Vec<(bytes::Bytes, NumberFact)> {
    let mut all = Vec::new();
    for lot in 0..FACT_LOTS {
        for (key, value) in store.facts(lot, None).await.expect("read") {
            let fact = store.fact(&key, &value, now).await.expect("read");
            all.extend(fact.map(|fact| (key, fact)));
        }
    }
    all
}

async fn rows(store: &Store) -> usize {
    store.db.walk("fact", &[], 9).await.expect("read").len()
}

fn owned(user: UserId, epoch: u64) -> NumberRow {
    NumberRow { user: user.to_vec(), epoch }
}

async fn own(store: &Store, n: u64, row: NumberRow) {
    let seen: Seen<NumberRow> = store.see("number_owner", &number_key(number(n))).await.expect("read");
    assert!(store.swap("number_owner", number_key(number(n)), &seen.with(row)).await.expect("no error"));
}

pub(super) async fn a_fact_is_there_before_it_is_so_and_told_when_it_is(url: &StoreUrl) {
    let it = Process::start(url).await;
    it.store.add_fact(number(1), &owned(ANNA, 1), NOW).await.expect("put down");
    assert!(all(&it.store, NOW).await.is_empty(), "it is not so yet");
    own(&it.store, 1, owned(ANNA, 1)).await;
    assert!(it.store.set_nickname(ANNA, "Anna").await.expect("no error"));
    let it = it.restart(url).await;
    let facts = all(&it.store, NOW).await;
    let expected =
        NumberFact { number: number(1).to_string(), user: ANNA.to_vec(), epoch: 1, nickname: "Anna".into() };
    assert_eq!(facts.iter().map(|(_, fact)| fact).collect::<Vec<_>>(), [&expected]);
    let late = NOW.plus(2 * FACT_PATIENCE);
    assert_eq!(all(&it.store, late).await, facts, "until it is taken, however long that takes");
    it.store.drop_fact(&facts[0].0).await.expect("dropped");
    assert!(all(&it.store, NOW).await.is_empty());
    assert_eq!(rows(&it.store).await, 0);
}

pub(super) async fn a_fact_that_never_came_to_pass_is_not_told(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    store.add_fact(number(1), &owned(ANNA, 1), NOW).await.expect("put down");
    store.add_fact(number(2), &owned(ANNA, 1), NOW).await.expect("put down");
    store.add_fact(number(2), &owned(BEN, 1), NOW).await.expect("put down");
    own(&store, 2, owned(BEN, 1)).await;
    let facts = all(&store, NOW).await;
    assert_eq!(facts.iter().map(|(_, fact)| &fact.user[..]).collect::<Vec<_>>(), [BEN.as_bytes()]);
    assert_eq!(rows(&store).await, 2, "of the number that has an owner the others are none");
    let end = NOW.plus(FACT_PATIENCE);
    assert_eq!(all(&store, UnixMillis(end.0 - 1)).await, facts);
    assert_eq!(rows(&store).await, 2);
    assert_eq!(all(&store, end).await, facts);
    assert_eq!(rows(&store).await, 1, "nobody has it, and nobody will by that");
    // A number that went on to somebody else before it was told of the one before.
    own(&store, 2, owned(ANNA, 2)).await;
    assert!(all(&store, NOW).await.is_empty());
    assert_eq!(rows(&store).await, 0);
    // And came back: the second time is another fact than the first.
    store.add_fact(number(2), &owned(BEN, 1), NOW).await.expect("put down");
    store.add_fact(number(2), &owned(BEN, 3), NOW).await.expect("put down");
    own(&store, 2, owned(BEN, 3)).await;
    let facts = all(&store, NOW).await;
    assert_eq!(facts.iter().map(|(_, fact)| fact.epoch).collect::<Vec<_>>(), [3]);
}

pub(super) async fn a_lot_is_read_part_by_part_and_woken_alone(url: &StoreUrl) {
    let Process { store, .. } = Process::start(url).await;
    let lots = u64::from(FACT_LOTS);
    let beside = number(1);
    let mine: Vec<_> = (1..=FACT_BATCH as u64 + 1).map(|n| number(n * lots)).collect();
    for number in mine.iter().chain([&beside]) {
        store.add_fact(*number, &owned(ANNA, 1), NOW).await.expect("put down");
    }
    let lot = u8::try_from(mine[0].as_u64() % lots).expect("a lot");
    let part = store.facts(lot, None).await.expect("read");
    let rest = store.facts(lot, part.last().map(|(key, _)| &key[..])).await.expect("read");
    assert_eq!((part.len(), rest.len()), (FACT_BATCH, 1));
    assert!(rest[0].0 > part[FACT_BATCH - 1].0);

    let flow = verified(&store, FLOW, 2).await;
    assert_eq!(enroll(&store, 2, ANNA, (&FLOW, &flow)).await, done(ANNA, 1));
    let woken = (0..FACT_LOTS).filter(|lot| store.pending().noted(*lot).now_or_never().is_some());
    assert_eq!(woken.map(u64::from).collect::<Vec<_>>(), [number(2).as_u64() % lots]);
}
