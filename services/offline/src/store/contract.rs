//! What every store of blocks does: the same functions over memory, over a folder and over a CQL server.

use dialtone_chassis::Chassis;
use dialtone_store::{Db, StoreUrl};
use dialtone_vocab::UserId;

use super::{Blocks, SCHEMA};

const ANNA: UserId = UserId::new([1; 16]);
const BEN: UserId = UserId::new([2; 16]);

async fn open(url: &StoreUrl) -> Blocks {
    Blocks::new(Db::open(url.clone(), SCHEMA, &Chassis::for_tests(1)).await.expect("opens"))
}

async fn nobody_blocks_anybody_at_first(url: &StoreUrl) {
    let blocks = open(url).await;
    assert_eq!(blocks.is_blocked(ANNA, BEN).await, Ok(false));
}

async fn a_block_is_of_one_by_the_other_and_not_the_other_way_round(url: &StoreUrl) {
    let blocks = open(url).await;
    blocks.set(ANNA, BEN, true, 1).await.expect("taken");
    assert_eq!(blocks.is_blocked(ANNA, BEN).await, Ok(true));
    assert_eq!(blocks.is_blocked(BEN, ANNA).await, Ok(false));
    assert_eq!(blocks.is_blocked(ANNA, ANNA).await, Ok(false));
    blocks.set(ANNA, BEN, false, 2).await.expect("taken");
    assert_eq!(blocks.is_blocked(ANNA, BEN).await, Ok(false));
}

async fn what_comes_late_or_twice_changes_nothing(url: &StoreUrl) {
    let blocks = open(url).await;
    blocks.set(ANNA, BEN, false, 5).await.expect("taken");
    for version in [0, 4, 5] {
        blocks.set(ANNA, BEN, true, version).await.expect("heard");
        assert_eq!(blocks.is_blocked(ANNA, BEN).await, Ok(false), "{version}");
    }
    blocks.set(ANNA, BEN, true, 6).await.expect("taken");
    assert_eq!(blocks.is_blocked(ANNA, BEN).await, Ok(true));
}

async fn of_many_at_once_the_latest_stays(url: &StoreUrl) {
    let blocks = open(url).await;
    let set = async |on, version| blocks.set(ANNA, BEN, on, version).await;
    let heard = tokio::join!(set(true, 3), set(false, 1), set(true, 9), set(false, 8), set(false, 2));
    assert_eq!(heard, (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert_eq!(blocks.is_blocked(ANNA, BEN).await, Ok(true));
}

dialtone_testkit::over_every_store! { "blocks over a CQL server", [crate::SCHEMA], {
    nobody_blocks_anybody_at_first
    a_block_is_of_one_by_the_other_and_not_the_other_way_round
    what_comes_late_or_twice_changes_nothing
    of_many_at_once_the_latest_stays
}}
