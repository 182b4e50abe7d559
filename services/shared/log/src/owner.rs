//! Who may write which logs: by the lock of an embedded database, or by leases.

use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_shards::Leases;
use dialtone_shards::lease::{Holding, ShardKey};
use dialtone_store::Db;
use dialtone_vocab::{Epoch, ShardId, shard_of};

use crate::LogError;

/// By what a process owns logs.
#[derive(Clone)]
pub(crate) enum Owner {
    /// Whoever has the database open, under the epoch of the opening, and since when.
    Lock(Epoch, Duration),
    /// Whoever has the lease of the owner's shard.
    Lease(Leases),
}

impl Owner {
    pub(crate) fn new(db: &Db, leases: Option<Leases>, chassis: &Chassis) -> Self {
        match (db.epoch(), leases) {
            (Some(epoch), _) => Self::Lock(epoch, chassis.clock.boot()),
            (None, Some(leases)) => Self::Lease(leases),
            (None, None) => panic!("a database that processes share needs leases"),
        }
    }

    /// Under which epoch this process may write the log of `owner` now.
    pub(crate) fn epoch_of(&self, db: &Db, owner: &[u8; 16]) -> Option<Epoch> {
        match self {
            Self::Lock(epoch, _) => db.check().is_ok().then_some(*epoch),
            Self::Lease(leases) => leases.held(key(db, owner)),
        }
    }

    pub(crate) fn owned_for(&self, db: &Db, owner: &[u8; 16], chassis: &Chassis) -> Duration {
        match self {
            Self::Lock(_, since) => chassis.clock.boot().saturating_sub(*since),
            Self::Lease(leases) => leases.held_for(key(db, owner)),
        }
    }

    pub(crate) fn is_first(&self, db: &Db) -> bool {
        match self {
            Self::Lock(..) => true,
            Self::Lease(leases) => {
                leases.held(ShardKey { service: db.service(), shard: ShardId(0) }).is_some()
            }
        }
    }

    /// After the answer of a write: whether it is settled.
    pub(crate) async fn check(&self, db: &Db, owner: &[u8; 16], epoch: Epoch) -> Result<(), LogError> {
        match self {
            Self::Lock(..) => Ok(db.check()?),
            Self::Lease(leases) => {
                let settled = leases.check(Holding { key: key(db, owner), epoch }).await;
                if settled { Ok(()) } else { Err(LogError::NotOwner) }
            }
        }
    }
}

fn key(db: &Db, owner: &[u8; 16]) -> ShardKey {
    ShardKey { service: db.service(), shard: shard_of(owner) }
}
