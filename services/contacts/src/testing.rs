//! Stores for tests: every case runs over each of them.

use dialtone_chassis::Chassis;
use dialtone_store::{Db, StoreUrl};

use crate::store::{SCHEMA, Store};

pub(crate) async fn open(url: &StoreUrl, chassis: &Chassis) -> Store {
    let db = Db::open(url.clone(), SCHEMA, chassis).await.expect("opens");
    Store::new(db, chassis.clock.clone())
}

/// Two processes, where a store can be shared; else one twice.
pub(crate) async fn two(url: &StoreUrl, chassis: &Chassis) -> [Store; 2] {
    let one = open(url, chassis).await;
    let other = if matches!(url, StoreUrl::Scylla(_)) { open(url, chassis).await } else { one.clone() };
    [one, other]
}
