//! What offline asks identity: which epoch a user's number has now.

use dialtone_chassis::{Channel, Chassis};
use dialtone_proto::identity::internal::v1::NumbersRequest;
use dialtone_proto::identity::internal::v1::directory_client::DirectoryClient;
use dialtone_vocab::{UnixMillis, UserId};

use crate::limits::{EPOCH_LIFE, EPOCH_WITHIN};

/// An answer of identity.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberEpoch {
    pub(crate) epoch: u64,
    asked: UnixMillis,
}

impl NumberEpoch {
    /// Whether it is still believed.
    pub(crate) fn is_fresh(self, now: UnixMillis) -> bool {
        now.since(self.asked) < EPOCH_LIFE
    }
}

/// Asks identity. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Epochs {
    chassis: Chassis,
    identity: DirectoryClient<Channel>,
}

impl Epochs {
    pub(crate) fn new(chassis: &Chassis, identity: Channel) -> Self {
        Self { chassis: chassis.clone(), identity: DirectoryClient::new(identity) }
    }

    /// The epoch now; `None` when identity can't be asked: then nothing is decided.
    pub(crate) async fn of(&self, user: UserId, now: UnixMillis) -> Option<NumberEpoch> {
        let mut identity = self.identity.clone();
        let asking = identity.numbers(NumbersRequest { users: vec![user.to_vec()] });
        let answer = self.chassis.clock.timeout(EPOCH_WITHIN, asking).await.ok()?;
        let answer =
            answer.inspect_err(|status| tracing::warn!(code = ?status.code(), "identity can't be asked"));
        let epoch = answer.ok()?.into_inner().answers.first()?.epoch;
        Some(NumberEpoch { epoch, asked: now })
    }
}
