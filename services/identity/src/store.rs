//! Identity's tables, in domain words. Everything that two callers could want at once is compare-and-set.

#[cfg(test)]
mod contract;

use std::ops::Bound;

use bytes::Bytes;
use dialtone_proto::bus::v1::NumberFact;
use dialtone_store::{Batch, Commit, Db, StoreError};
use dialtone_vocab::{DeviceId, NumberHash, PhoneNumber, SessionId, UnixMillis, UserId};
use prost::Message;

use crate::limits::{DEVICES, FACT_BATCH, SESSION_ROWS, SESSIONS_LISTED, SWEEP_ROWS};
use crate::rows::{BudgetRow, DeviceRow, FlowRow, NonceRow, NumberRow, SessionRow, UserRow, is_past};

/// Every table.
pub(crate) const TABLES: &[&str] = &[
    "number_owner",
    "user",
    "device",
    "session",
    "session_of",
    "flow",
    "flow_mo",
    "sms_budget",
    "nonce",
    "fact",
];
/// The meaning of the tables.
pub(crate) const SCHEMA: u32 = 1;

/// A registration or one-time password: 16 random bytes, which are its secret.
pub(crate) type FlowId = [u8; 16];

/// A row as it was read, to be compared when it is written.
#[derive(Debug, Clone)]
pub(crate) struct Seen<T> {
    pub(crate) row: T,
    bytes: Option<Bytes>,
}

impl<T: Message> Seen<T> {
    /// As it stands after it was written, whatever others have written since.
    pub(crate) fn written(self) -> Self {
        let bytes = Some(self.row.encode_to_vec().into());
        Self { bytes, ..self }
    }
}

/// Identity's store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    db: Db,
}

fn device_key(user: UserId, device: DeviceId) -> Vec<u8> {
    [&user.as_bytes()[..], &device.0.to_be_bytes()].concat()
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    fn read<T: Message + Default>(&self, table: &'static str, key: &[u8]) -> Result<Option<T>, StoreError> {
        let seen = self.see(table, key)?;
        Ok(seen.bytes.is_some().then_some(seen.row))
    }

    fn see<T: Message + Default>(&self, table: &'static str, key: &[u8]) -> Result<Seen<T>, StoreError> {
        let bytes = self.db.get(table, key)?;
        // Our own rows behind a checksum: one that does not decode is of a later version.
        let row =
            bytes.as_ref().map(|bytes| T::decode(&bytes[..])).transpose().ok().flatten().unwrap_or_default();
        Ok(Seen { row, bytes })
    }

    fn expecting<T>(batch: Batch, table: &'static str, key: Vec<u8>, seen: &Seen<T>) -> Batch {
        match &seen.bytes {
            Some(bytes) => batch.expect_value(table, key, bytes.to_vec()),
            None => batch.expect_absent(table, key),
        }
    }

    /// Writes a row if it still is as it was seen.
    async fn swap<T: Message>(
        &self,
        table: &'static str,
        key: Vec<u8>,
        seen: &Seen<T>,
    ) -> Result<bool, StoreError> {
        let batch =
            Self::expecting(Batch::new(), table, key.clone(), seen).put(table, key, seen.row.encode_to_vec());
        Ok(self.db.commit(batch).await?.is_applied())
    }

    pub(crate) fn flow(&self, id: &FlowId) -> Result<Option<Seen<FlowRow>>, StoreError> {
        let seen: Seen<FlowRow> = self.see("flow", id)?;
        Ok(seen.bytes.is_some().then_some(seen))
    }

    pub(crate) async fn add_flow(&self, id: &FlowId, row: &FlowRow) -> Result<(), StoreError> {
        let batch = Batch::new().put("flow", *id, row.encode_to_vec());
        let _always_applied: Commit = self.db.commit(batch).await?;
        Ok(())
    }

    pub(crate) async fn swap_flow(&self, id: &FlowId, seen: &Seen<FlowRow>) -> Result<bool, StoreError> {
        self.swap("flow", id.to_vec(), seen).await
    }

    /// Remembers under which text a phone will claim a flow.
    pub(crate) async fn add_mo(&self, id: &FlowId, seen: &Seen<FlowRow>) -> Result<bool, StoreError> {
        let batch = Self::expecting(Batch::new(), "flow", id.to_vec(), seen)
            .put("flow", *id, seen.row.encode_to_vec())
            .put("flow_mo", seen.row.mo_token.as_bytes(), *id);
        Ok(self.db.commit(batch).await?.is_applied())
    }

    pub(crate) fn flow_of_mo(&self, token: &str) -> Result<Option<FlowId>, StoreError> {
        Ok(self.db.get("flow_mo", token.as_bytes())?.and_then(|id| FlowId::try_from(&id[..]).ok()))
    }

    pub(crate) fn budget(&self, key: &[u8]) -> Result<Seen<BudgetRow>, StoreError> {
        self.see("sms_budget", key)
    }

    /// Writes the budgets that one SMS is charged to if all of them still are as they were seen.
    pub(crate) async fn swap_budgets(
        &self,
        budgets: [(&[u8], &Seen<BudgetRow>); 2],
    ) -> Result<bool, StoreError> {
        let mut batch = Batch::new();
        for (key, seen) in budgets {
            batch = Self::expecting(batch, "sms_budget", key.to_vec(), seen).put(
                "sms_budget",
                key,
                seen.row.encode_to_vec(),
            );
        }
        Ok(self.db.commit(batch).await?.is_applied())
    }

    pub(crate) fn owner(&self, number: PhoneNumber) -> Result<Option<(UserId, u64)>, StoreError> {
        let row: Option<NumberRow> = self.read("number_owner", &number.as_u64().to_be_bytes())?;
        Ok(row.and_then(|row| Some((UserId::from_slice(&row.user).ok()?, row.epoch))))
    }

    pub(crate) fn user(&self, user: UserId) -> Result<Option<UserRow>, StoreError> {
        self.read("user", user.as_bytes())
    }

    pub(crate) fn device(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> Result<Option<Seen<DeviceRow>>, StoreError> {
        let seen: Seen<DeviceRow> = self.see("device", &device_key(user, device))?;
        Ok(seen.bytes.is_some().then_some(seen))
    }

    pub(crate) async fn set_nickname(&self, user: UserId, nickname: &str) -> Result<bool, StoreError> {
        let mut seen: Seen<UserRow> = self.see("user", user.as_bytes())?;
        nickname.clone_into(&mut seen.row.nickname);
        self.swap("user", user.to_vec(), &seen).await
    }

    /// A user for a proven number, or a further device of the one it has.
    pub(crate) async fn enroll(&self, enrolment: Enrolment<'_>) -> Result<Enroll, StoreError> {
        let Enrolment { number, fresh, nickname, device, session, flow, now } = enrolment;
        let number_key = number.as_u64().to_be_bytes().to_vec();
        let mut owner: Seen<NumberRow> = self.see("number_owner", &number_key)?;
        let known = owner.bytes.is_some();
        let user = if known { UserId::from_slice(&owner.row.user).unwrap_or(fresh) } else { fresh };
        let mut person: Seen<UserRow> = self.see("user", user.as_bytes())?;
        if person.row.last_device >= DEVICES {
            return Ok(Enroll::Full);
        }
        let mut batch = Self::expecting(Batch::new(), "number_owner", number_key.clone(), &owner);
        batch = Self::expecting(batch, "user", user.to_vec(), &person);
        if !known {
            owner.row = NumberRow { user: user.to_vec(), epoch: owner.row.epoch + 1 };
            person.row = UserRow { numbers: vec![number.as_u64()], registered_ms: now.0, ..person.row };
            let fact = NumberFact {
                number: number.to_string(),
                user: user.to_vec(),
                epoch: owner.row.epoch,
                nickname: nickname.to_owned(),
            };
            batch = batch.put("number_owner", number_key, owner.row.encode_to_vec());
            batch = batch.put("fact", number.as_u64().to_be_bytes(), fact.encode_to_vec());
        }
        if !nickname.is_empty() {
            nickname.clone_into(&mut person.row.nickname);
        }
        person.row.last_device += 1;
        let id = DeviceId(person.row.last_device);
        let (session_id, mut session) = session;
        (session.user, session.device) = (user.to_vec(), id.0);
        batch = Self::expecting(batch, "flow", flow.0.to_vec(), flow.1).delete("flow", flow.0.to_vec());
        batch = batch.put("user", user.to_vec(), person.row.encode_to_vec());
        let batch = Self::beginning(batch, (user, id), device, (session_id, &session));
        Ok(match self.db.commit(batch).await?.is_applied() {
            true => Enroll::Done(Enrolled { user, device: id }),
            false => Enroll::Changed,
        })
    }

    pub(crate) fn session(&self, id: SessionId) -> Result<Option<Seen<SessionRow>>, StoreError> {
        let seen: Seen<SessionRow> = self.see("session", id.as_bytes())?;
        Ok(seen.bytes.is_some().then_some(seen))
    }

    /// Begins a session of a device, unless it began another one meanwhile.
    pub(crate) async fn begin_session(
        &self,
        (user, device): (UserId, DeviceId),
        seen: &Seen<DeviceRow>,
        (id, row): (SessionId, &SessionRow),
    ) -> Result<bool, StoreError> {
        let batch = Self::expecting(Batch::new(), "device", device_key(user, device), seen);
        let batch = Self::beginning(batch, (user, device), &seen.row, (id, row));
        Ok(self.db.commit(batch).await?.is_applied())
    }

    fn beginning(
        batch: Batch,
        (user, device): (UserId, DeviceId),
        holder: &DeviceRow,
        (id, row): (SessionId, &SessionRow),
    ) -> Batch {
        let holder = DeviceRow { session: id.to_vec(), ..holder.clone() };
        batch
            .put("device", device_key(user, device), holder.encode_to_vec())
            .put("session", id.to_vec(), row.encode_to_vec())
            .put("session_of", [&user.as_bytes()[..], id.as_bytes()].concat(), Vec::new())
    }

    /// One that is revoked leaves its user's list: that has a row for each device at most, and few whose time has run
    /// out and that the sweep has not reached yet.
    pub(crate) async fn swap_session(
        &self,
        id: SessionId,
        seen: &Seen<SessionRow>,
    ) -> Result<bool, StoreError> {
        let mut batch = Self::expecting(Batch::new(), "session", id.to_vec(), seen).put(
            "session",
            id.to_vec(),
            seen.row.encode_to_vec(),
        );
        if seen.row.revoked {
            batch = batch.delete("session_of", [&seen.row.user[..], id.as_bytes()].concat());
        }
        Ok(self.db.commit(batch).await?.is_applied())
    }

    /// The sessions of a user that go on, `own` before the others.
    pub(crate) fn sessions(
        &self,
        user: UserId,
        own: SessionId,
        now: UnixMillis,
    ) -> Result<Vec<(SessionId, SessionRow)>, StoreError> {
        let rows = self.db.scan_prefix("session_of", user.as_bytes(), SESSION_ROWS)?;
        let ids = rows.iter().filter_map(|(key, _)| SessionId::from_slice(key.get(16..)?).ok());
        let mut sessions = Vec::new();
        for id in std::iter::once(own).chain(ids.filter(|id| *id != own)) {
            if sessions.len() == SESSIONS_LISTED {
                break;
            }
            if let Some(seen) = self.session(id)?.filter(|seen| seen.row.is_live(now)) {
                sessions.push((id, seen.row));
            }
        }
        Ok(sessions)
    }

    pub(crate) async fn add_nonce(&self, nonce: &[u8; 32], row: &NonceRow) -> Result<(), StoreError> {
        let _always_applied: Commit =
            self.db.commit(Batch::new().put("nonce", *nonce, row.encode_to_vec())).await?;
        Ok(())
    }

    /// Takes a nonce: it is good for one try, whoever tries.
    pub(crate) async fn take_nonce(&self, nonce: &[u8]) -> Result<Option<NonceRow>, StoreError> {
        if nonce.len() != 32 {
            return Ok(None);
        }
        let seen: Seen<NonceRow> = self.see("nonce", nonce)?;
        let Some(bytes) = &seen.bytes else { return Ok(None) };
        let batch = Batch::new().expect_value("nonce", nonce, bytes.to_vec()).delete("nonce", nonce);
        Ok(self.db.commit(batch).await?.is_applied().then_some(seen.row))
    }

    /// Facts that were not told yet, in key order.
    pub(crate) fn facts(&self) -> Result<Vec<(Bytes, NumberFact)>, StoreError> {
        let rows = self.db.scan("fact", .., FACT_BATCH)?;
        Ok(rows.into_iter().filter_map(|(key, value)| Some((key, NumberFact::decode(value).ok()?))).collect())
    }

    pub(crate) async fn drop_fact(&self, key: &[u8], fact: &NumberFact) -> Result<(), StoreError> {
        let batch = Batch::new().expect_value("fact", key, fact.encode_to_vec()).delete("fact", key);
        let _replaced_meanwhile: Commit = self.db.commit(batch).await?;
        Ok(())
    }

    /// Drops flows and nonces whose time is over; how many.
    pub(crate) async fn sweep(&self, now: UnixMillis) -> Result<usize, StoreError> {
        let mut batch = Batch::new();
        let mut swept = 0;
        for (key, value) in self.db.scan("flow", .., SWEEP_ROWS)? {
            let Ok(row) = FlowRow::decode(value) else { continue };
            if is_past(row.expires_ms, now) {
                swept += 1;
                batch = batch.delete("flow", key.to_vec());
                if !row.mo_token.is_empty() {
                    batch = batch.delete("flow_mo", row.mo_token.into_bytes());
                }
            }
        }
        for (key, value) in self.db.scan("nonce", .., SWEEP_ROWS)? {
            if NonceRow::decode(value).is_ok_and(|row| is_past(row.expires_ms, now)) {
                swept += 1;
                batch = batch.delete("nonce", key.to_vec());
            }
        }
        if swept > 0 {
            let _always_applied: Commit = self.db.commit(batch).await?;
        }
        Ok(swept)
    }

    /// Drops sessions whose refresh token has run out, among the next rows behind `after`, and moves that on; how many.
    /// They live for months: those that go on must not hide what stands behind them.
    pub(crate) async fn sweep_sessions(
        &self,
        after: &mut Vec<u8>,
        now: UnixMillis,
    ) -> Result<usize, StoreError> {
        let rows = self.db.scan("session", (Bound::Excluded(after.clone()), Bound::Unbounded), SWEEP_ROWS)?;
        let mut batch = Batch::new();
        let mut swept = 0;
        for (key, value) in &rows {
            let Ok(row) = SessionRow::decode(value.clone()) else { continue };
            if is_past(row.refresh_expires_ms, now) {
                swept += 1;
                batch = batch
                    // A login may just be renewing it.
                    .expect_value("session", key.to_vec(), value.to_vec())
                    .delete("session", key.to_vec())
                    .delete("session_of", [&row.user[..], key].concat());
            }
        }
        if swept > 0 && !self.db.commit(batch).await?.is_applied() {
            return Ok(0);
        }
        let end = rows.len() < SWEEP_ROWS;
        *after = rows.last().filter(|_| !end).map(|(key, _)| key.to_vec()).unwrap_or_default();
        Ok(swept)
    }
}

/// What a proven number needs to become a user with a device.
pub(crate) struct Enrolment<'a> {
    pub(crate) number: PhoneNumber,
    /// The user id if the number has none yet.
    pub(crate) fresh: UserId,
    pub(crate) nickname: &'a str,
    pub(crate) device: &'a DeviceRow,
    pub(crate) session: (SessionId, SessionRow),
    /// The flow that proved it; it ends with this.
    pub(crate) flow: (&'a FlowId, &'a Seen<FlowRow>),
    pub(crate) now: UnixMillis,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enroll {
    /// It is done.
    Done(Enrolled),
    /// Somebody was quicker: the flow, the number or the user is not as it was.
    Changed,
    /// The user has as many devices as one may have.
    Full,
}

/// A device of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enrolled {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
}

/// The key of a number's SMS budget.
pub(crate) fn number_budget(hash: NumberHash) -> Vec<u8> {
    [b"number", &hash.as_bytes()[..]].concat()
}

/// The key of a prefix's SMS budget.
pub(crate) fn prefix_budget(number: PhoneNumber) -> Vec<u8> {
    let digits = number.as_u64().to_string();
    format!("prefix{}", digits.get(..4).unwrap_or(&digits)).into_bytes()
}
