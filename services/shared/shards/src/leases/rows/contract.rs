//! What every store does with lease rows: the same functions over memory, over a folder and over a CQL server.

use dialtone_chassis::Chassis;
use dialtone_store::{Db, StoreUrl};
use dialtone_vocab::{Epoch, ShardId};

use super::{LEASES, ask};
use crate::lease::{Answer, Holding, Incarnation, NodeRow, Request, ShardKey, ShardRow};

const ANNA: Incarnation = Incarnation(1);
const BEN: Incarnation = Incarnation(u64::MAX);
const KEY: ShardKey = ShardKey { service: "alpha", shard: ShardId(7) };

async fn open(url: &StoreUrl) -> Db {
    Db::open(url.clone(), LEASES, &Chassis::for_tests(1)).await.expect("opens")
}

fn shard(epoch: u64, owner: Option<Incarnation>) -> Answer {
    Answer::Shard(ShardRow { epoch: Epoch(epoch), owner })
}

async fn a_row_that_was_never_made_is_read_as_such(url: &StoreUrl) {
    let db = open(url).await;
    assert_eq!(ask(&db, Request::ReadNode(ANNA)).await, Answer::Node(None));
    assert_eq!(ask(&db, Request::ReadShard(KEY)).await, shard(0, None));
    assert_eq!(ask(&db, Request::Renew { incarnation: ANNA, seen: 1 }).await, Answer::Refused);
    assert_eq!(ask(&db, Request::Close { incarnation: ANNA, seen: 1 }).await, Answer::Refused);
    assert_eq!(ask(&db, Request::ReadNode(ANNA)).await, Answer::Node(None));
}

async fn a_renewal_counts_one_up_and_its_copy_is_refused(url: &StoreUrl) {
    let db = open(url).await;
    for seen in 0..3 {
        let renew = Request::Renew { incarnation: ANNA, seen };
        assert_eq!(ask(&db, renew).await, Answer::Applied, "{seen}");
        assert_eq!(ask(&db, renew).await, Answer::Refused, "{seen}");
        let row = NodeRow { counter: seen + 1, open: true };
        assert_eq!(ask(&db, Request::ReadNode(ANNA)).await, Answer::Node(Some(row)));
    }
    assert_eq!(ask(&db, Request::ReadNode(BEN)).await, Answer::Node(None), "another's is another row");
}

async fn a_row_that_was_closed_stays_closed(url: &StoreUrl) {
    let db = open(url).await;
    assert_eq!(ask(&db, Request::Renew { incarnation: BEN, seen: 0 }).await, Answer::Applied);
    assert_eq!(ask(&db, Request::Close { incarnation: BEN, seen: 2 }).await, Answer::Refused);
    assert_eq!(ask(&db, Request::Close { incarnation: BEN, seen: 1 }).await, Answer::Applied);
    for seen in 0..3 {
        assert_eq!(ask(&db, Request::Renew { incarnation: BEN, seen }).await, Answer::Refused, "{seen}");
    }
    let row = NodeRow { counter: 1, open: false };
    assert_eq!(ask(&db, Request::ReadNode(BEN)).await, Answer::Node(Some(row)));
}

async fn of_two_who_take_a_shard_one_has_it(url: &StoreUrl) {
    let db = open(url).await;
    let take = |seen, by| Request::Take { key: KEY, seen, by };
    let nobody = ShardRow::default();
    let both = tokio::join!(ask(&db, take(nobody, ANNA)), ask(&db, take(nobody, BEN)));
    let (owner, loser) = match both {
        (Answer::Applied, Answer::Refused) => (ANNA, BEN),
        (Answer::Refused, Answer::Applied) => (BEN, ANNA),
        both => panic!("{both:?}"),
    };
    assert_eq!(ask(&db, Request::ReadShard(KEY)).await, shard(1, Some(owner)));
    assert_eq!(ask(&db, take(nobody, loser)).await, Answer::Refused, "of what it saw nothing is left");
    let seen = ShardRow { epoch: Epoch(1), owner: Some(owner) };
    assert_eq!(ask(&db, take(seen, loser)).await, Answer::Applied);
    assert_eq!(ask(&db, Request::ReadShard(KEY)).await, shard(2, Some(loser)));
    let other = ShardKey { shard: ShardId(8), ..KEY };
    assert_eq!(ask(&db, Request::ReadShard(other)).await, shard(0, None));
    let other = ShardKey { service: "beta", ..KEY };
    assert_eq!(ask(&db, Request::ReadShard(other)).await, shard(0, None));
}

async fn a_shard_that_is_given_back_keeps_its_epoch(url: &StoreUrl) {
    let db = open(url).await;
    let take = |seen, by| Request::Take { key: KEY, seen, by };
    assert_eq!(ask(&db, take(ShardRow::default(), ANNA)).await, Answer::Applied);
    let held = Holding { key: KEY, epoch: Epoch(1) };
    assert_eq!(ask(&db, Request::GiveBack { held, by: BEN }).await, Answer::Refused, "not Ben's");
    let later = Holding { epoch: Epoch(2), ..held };
    assert_eq!(ask(&db, Request::GiveBack { held: later, by: ANNA }).await, Answer::Refused);
    assert_eq!(ask(&db, Request::GiveBack { held, by: ANNA }).await, Answer::Applied);
    assert_eq!(ask(&db, Request::GiveBack { held, by: ANNA }).await, Answer::Refused, "once");
    assert_eq!(ask(&db, Request::ReadShard(KEY)).await, shard(1, None));
    assert_eq!(ask(&db, take(ShardRow { epoch: Epoch(1), owner: None }, BEN)).await, Answer::Applied);
    assert_eq!(ask(&db, Request::ReadShard(KEY)).await, shard(2, Some(BEN)));
}

dialtone_testkit::over_every_store! { "leases over a CQL server", [super::LEASES], {
    a_row_that_was_never_made_is_read_as_such
    a_renewal_counts_one_up_and_its_copy_is_refused
    a_row_that_was_closed_stays_closed
    of_two_who_take_a_shard_one_has_it
    a_shard_that_is_given_back_keeps_its_epoch
}}
