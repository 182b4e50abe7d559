//! Lease rows in a database.

use dialtone_store::{Batch, Commit, Db, Schema, StoreError, Table};
use dialtone_vocab::Epoch;

use crate::lease::{Answer, Incarnation, NodeRow, Request, ShardKey, ShardRow};

#[cfg(test)]
mod contract;

const NODE: &str = "node_lease";
const SHARD: &str = "shard_lease";

/// The tables of the leases.
pub const LEASES: Schema = Schema {
    service: "cluster",
    tables: &[Table::of_rows(NODE).conditional(), Table::of_rows(SHARD).conditional()],
    version: 1,
};

/// Asks, once.
pub(super) async fn ask(db: &Db, request: Request) -> Answer {
    let answered = match request {
        Request::Renew { incarnation, seen: 0 } => {
            let row = NodeRow { counter: 1, open: true };
            let batch = Batch::new().expect_absent(NODE, node_key(incarnation));
            commit(db, batch.put(NODE, node_key(incarnation), node_value(row))).await
        }
        Request::Renew { incarnation, seen } => {
            let to = NodeRow { counter: seen + 1, open: true };
            change_node(db, incarnation, seen, to).await
        }
        Request::Close { incarnation, seen } => {
            change_node(db, incarnation, seen, NodeRow { counter: seen, open: false }).await
        }
        Request::Take { key, seen, by } => {
            let to = ShardRow { epoch: Epoch(seen.epoch.0 + 1), owner: Some(by) };
            change_shard(db, key, seen, to).await
        }
        Request::GiveBack { held, by } => {
            let seen = ShardRow { epoch: held.epoch, owner: Some(by) };
            change_shard(db, held.key, seen, ShardRow { owner: None, ..seen }).await
        }
        Request::ReadNode(incarnation) => read_node(db, incarnation).await,
        Request::ReadShard(key) => read_shard(db, key).await,
    };
    answered.unwrap_or_else(|error| {
        tracing::debug!(%error, "a lease request has no answer");
        Answer::Unknown
    })
}

/// A row never is again what it was: a copy that comes late is refused. Who is refused looks.
async fn commit(db: &Db, batch: Batch) -> Result<Answer, StoreError> {
    Ok(match db.commit(batch.hedged()).await? {
        Commit::Applied => Answer::Applied,
        Commit::Refused => Answer::Refused,
    })
}

async fn change_node(
    db: &Db,
    incarnation: Incarnation,
    seen: u64,
    to: NodeRow,
) -> Result<Answer, StoreError> {
    let key = node_key(incarnation);
    let seen = node_value(NodeRow { counter: seen, open: true });
    commit(db, Batch::new().expect_value(NODE, key.clone(), seen).put(NODE, key, node_value(to))).await
}

async fn change_shard(db: &Db, key: ShardKey, seen: ShardRow, to: ShardRow) -> Result<Answer, StoreError> {
    let key = shard_key(key);
    let batch = match seen.epoch {
        Epoch(0) => Batch::new().expect_absent(SHARD, key.clone()),
        _ => Batch::new().expect_value(SHARD, key.clone(), shard_value(seen)),
    };
    commit(db, batch.put(SHARD, key, shard_value(to))).await
}

async fn read_node(db: &Db, incarnation: Incarnation) -> Result<Answer, StoreError> {
    let Some(value) = db.get_serial(NODE, &node_key(incarnation)).await? else {
        return Ok(Answer::Node(None));
    };
    let row = || Some(NodeRow { counter: number_at(&value, 0)?, open: *value.get(8)? == 1 });
    row().map(|row| Answer::Node(Some(row))).ok_or(StoreError::Corrupt { table: NODE.to_owned() })
}

async fn read_shard(db: &Db, key: ShardKey) -> Result<Answer, StoreError> {
    let Some(value) = db.get_serial(SHARD, &shard_key(key)).await? else {
        return Ok(Answer::Shard(ShardRow::default()));
    };
    let row = || {
        let owner = number_at(&value, 8).map(Incarnation);
        Some(ShardRow { epoch: Epoch(number_at(&value, 0)?), owner })
    };
    row().map(Answer::Shard).ok_or(StoreError::Corrupt { table: SHARD.to_owned() })
}

fn number_at(value: &[u8], at: usize) -> Option<u64> {
    value.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}

fn node_key(incarnation: Incarnation) -> Vec<u8> {
    incarnation.0.to_be_bytes().to_vec()
}

fn node_value(row: NodeRow) -> Vec<u8> {
    [&row.counter.to_be_bytes()[..], &[u8::from(row.open)]].concat()
}

fn shard_key(key: ShardKey) -> Vec<u8> {
    [key.service.as_bytes(), &[0], &key.shard.0.to_be_bytes()].concat()
}

/// The epoch, and the owner if there is one.
fn shard_value(row: ShardRow) -> Vec<u8> {
    let owner = row.owner.map(|owner| owner.0.to_be_bytes()).into_iter().flatten();
    row.epoch.0.to_be_bytes().into_iter().chain(owner).collect()
}
