//! Who is answered at which service number. Both ways of a phone's conversations stand in one partition, so that they
//! change together.

use std::collections::BTreeMap;

use dialtone_store::{Batch, StoreError};
use dialtone_vocab::{NumberHash, UserId};

use super::{ROUTE, Store};
use crate::limits::ASSIGN_TRIES;

fn route_key(phone: NumberHash, service: &str) -> Vec<u8> {
    [phone.as_bytes(), &b"n"[..], service.as_bytes()].concat()
}

fn number_key(phone: NumberHash, user: UserId) -> Vec<u8> {
    [phone.as_bytes(), &b"u"[..], user.as_bytes()].concat()
}

/// The conversations of a phone, as they were read.
struct Conversations(BTreeMap<Vec<u8>, Vec<u8>>);

impl Conversations {
    fn number_of(&self, phone: NumberHash, user: UserId) -> Option<String> {
        let number = self.0.get(&number_key(phone, user))?;
        String::from_utf8(number.clone()).ok()
    }

    /// The first number of the pool that nobody has.
    fn free<'p>(&self, phone: NumberHash, pool: &'p [String]) -> Option<&'p String> {
        pool.iter().find(|number| !self.0.contains_key(&route_key(phone, number)))
    }
}

impl Store {
    /// The user whom an SMS from this number to this service number answers.
    pub(crate) async fn route(&self, phone: NumberHash, service: &str) -> Result<Option<UserId>, StoreError> {
        let user = self.db.get(ROUTE, &route_key(phone, service)).await?;
        Ok(user.and_then(|user| UserId::from_slice(&user).ok()))
    }

    async fn conversations(&self, phone: NumberHash) -> Result<Conversations, StoreError> {
        let rows = self.db.scan_prefix(ROUTE, phone.as_bytes(), usize::MAX).await?;
        Ok(Conversations(rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()))
    }

    /// Gives a user a service number for a receiver that nobody else writes to it from; `None` when all are taken.
    pub(crate) async fn assign(
        &self,
        phone: NumberHash,
        user: UserId,
        pool: &[String],
    ) -> Result<Option<String>, StoreError> {
        for _ in 0..ASSIGN_TRIES {
            let known = self.conversations(phone).await?;
            if let Some(number) = known.number_of(phone, user) {
                return Ok(Some(number));
            }
            let Some(number) = known.free(phone, pool) else { return Ok(None) };
            let batch = Batch::new()
                .expect_absent(ROUTE, route_key(phone, number))
                .expect_absent(ROUTE, number_key(phone, user))
                .put(ROUTE, route_key(phone, number), user.to_vec())
                .put(ROUTE, number_key(phone, user), number.as_bytes());
            if self.db.commit(batch).await?.is_applied() {
                return Ok(Some(number.clone()));
            }
            // Somebody was faster, for this user or another: what is there now is read.
        }
        Err(StoreError::Unknown { why: "too many at once".to_owned() })
    }

    /// Whether a service number would be free for this user and receiver.
    pub(crate) async fn could_assign(
        &self,
        phone: NumberHash,
        user: UserId,
        pool: &[String],
    ) -> Result<bool, StoreError> {
        let known = self.conversations(phone).await?;
        Ok(known.number_of(phone, user).is_some() || known.free(phone, pool).is_some())
    }
}
