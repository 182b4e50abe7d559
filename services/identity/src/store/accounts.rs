//! Numbers' owners, users, devices, sessions.

use bytes::Bytes;
use dialtone_store::{Batch, StoreError};
use dialtone_vocab::{DeviceId, PhoneNumber, SessionId, UnixMillis, UserId};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message;

use super::{Seen, Store};
use crate::limits::{ACCOUNT_ROWS, READS_AT_ONCE, SESSIONS_LISTED};
use crate::rows::{DeviceRow, NumberRow, SessionRow, UserRow};

/// What follows the user in a key of `account`: the user themselves …
const USER: u8 = 0;
/// … or, with its number, a device.
const DEVICE: u8 = 1;

pub(super) fn number_key(number: PhoneNumber) -> [u8; 8] {
    number.as_u64().to_be_bytes()
}

pub(super) fn user_key(user: UserId) -> Vec<u8> {
    [&user.as_bytes()[..], &[USER]].concat()
}

pub(super) fn device_key(user: UserId, device: DeviceId) -> Vec<u8> {
    [&user.as_bytes()[..], &[DEVICE], &device.0.to_be_bytes()].concat()
}

/// The user of whose own row this is the key.
pub(super) fn user_of(key: &[u8]) -> Option<UserId> {
    let (user, [USER]) = key.split_at_checked(16)? else { return None };
    UserId::from_slice(user).ok()
}

impl Store {
    pub(crate) async fn owner(&self, number: PhoneNumber) -> Result<Option<(UserId, u64)>, StoreError> {
        let seen: Seen<NumberRow> = self.see("number_owner", &number_key(number)).await?;
        Ok(seen.row.owner())
    }

    pub(crate) async fn user(&self, user: UserId) -> Result<Option<UserRow>, StoreError> {
        let seen: Seen<UserRow> = self.see("account", &user_key(user)).await?;
        Ok(seen.there().map(|seen| seen.row))
    }

    pub(crate) async fn set_nickname(&self, user: UserId, nickname: &str) -> Result<bool, StoreError> {
        let mut seen: Seen<UserRow> = self.see("account", &user_key(user)).await?;
        nickname.clone_into(&mut seen.row.nickname);
        self.swap("account", user_key(user), &seen).await
    }

    pub(crate) async fn device(
        &self,
        user: UserId,
        device: DeviceId,
    ) -> Result<Option<Seen<DeviceRow>>, StoreError> {
        Ok(self.see("account", &device_key(user, device)).await?.there())
    }

    /// All devices of a user.
    pub(super) async fn devices(&self, user: UserId) -> Result<Vec<(DeviceId, Seen<DeviceRow>)>, StoreError> {
        let prefix = [&user.as_bytes()[..], &[DEVICE]].concat();
        let end = [&user.as_bytes()[..], &[DEVICE + 1]].concat();
        let rows = self.db.scan("account", prefix..end, ACCOUNT_ROWS).await?;
        let device = |(key, value): (Bytes, Bytes)| {
            let id = key.get(17..)?.try_into().ok()?;
            Some((DeviceId(u32::from_be_bytes(id)), Seen::of(Some(value))))
        };
        Ok(rows.into_iter().filter_map(device).collect())
    }

    pub(crate) async fn session(&self, id: SessionId) -> Result<Option<Seen<SessionRow>>, StoreError> {
        Ok(self.see("session", id.as_bytes()).await?.there())
    }

    pub(crate) async fn swap_session(
        &self,
        id: SessionId,
        seen: &Seen<SessionRow>,
    ) -> Result<bool, StoreError> {
        self.swap("session", id.to_vec(), seen).await
    }

    /// Begins a session of a device, unless it began another one meanwhile. `before` is the one that it has, which does
    /// not go on.
    ///
    /// 1. What has run out goes: by another process's clock it might still go on, and be renewed.
    /// 2. The session is written. Nobody knows its tokens yet: it is nothing that anybody could use.
    /// 3. The device has it, if the device is as it was.
    ///
    /// If the process dies after 1, the device has no session that goes on, as before; after 2, a session that nobody
    /// can use is swept when its time is over.
    pub(crate) async fn begin_session(
        &self,
        (user, device): (UserId, DeviceId),
        holder: &Seen<DeviceRow>,
        before: Option<&Seen<SessionRow>>,
        (id, row): (SessionId, &SessionRow),
    ) -> Result<bool, StoreError> {
        if let Some(Seen { row: SessionRow { revoked: false, .. }, bytes: Some(bytes) }) = before
            && !self.drop_as("session", holder.row.session.clone(), bytes).await?
        {
            return Ok(false);
        }
        if !self.add("session", id.to_vec(), row).await? {
            return Ok(false);
        }
        let has = self.have_session((user, device), holder, id).await?;
        if !has {
            let _swept_later = self.drop_as("session", id.to_vec(), &row.encode_to_vec()).await;
        }
        Ok(has)
    }

    /// Says that a device has a session, if it is as it was.
    pub(super) async fn have_session(
        &self,
        (user, device): (UserId, DeviceId),
        holder: &Seen<DeviceRow>,
        id: SessionId,
    ) -> Result<bool, StoreError> {
        let mut holder = holder.clone();
        holder.row.session = id.to_vec();
        self.swap("account", device_key(user, device), &holder).await
    }

    /// The sessions of a user that go on, `own` before the others. A device has one at most.
    pub(crate) async fn sessions(
        &self,
        user: UserId,
        own: SessionId,
        now: UnixMillis,
    ) -> Result<Vec<(SessionId, SessionRow)>, StoreError> {
        let devices = self.devices(user).await?;
        let ids = devices.iter().filter_map(|(_, seen)| SessionId::from_slice(&seen.row.session).ok());
        let ids: Vec<_> = std::iter::once(own).chain(ids.filter(|id| *id != own)).collect();
        let sessions = stream::iter(ids).map(async |id| Ok((id, self.session(id).await?)));
        let sessions: Vec<_> = sessions.buffered(READS_AT_ONCE).try_collect().await?;
        let live = sessions.into_iter().filter_map(|(id, seen)| Some((id, seen?.row)));
        let live = live.filter(|(_, row)| row.user == user.as_bytes() && row.is_live(now));
        Ok(live.take(SESSIONS_LISTED).collect())
    }

    /// Forgets a user who never came to own their number, with all their rows, if they still are as they were seen.
    pub(super) async fn drop_user(&self, user: UserId, seen: &Seen<UserRow>) -> Result<bool, StoreError> {
        let rows = self.db.scan_prefix("account", user.as_bytes(), ACCOUNT_ROWS).await?;
        let batch = Self::expecting(Batch::new(), "account", user_key(user), seen);
        let batch = rows.iter().fold(batch, |batch, (key, _)| batch.delete("account", key.to_vec()));
        Ok(self.db.commit(batch).await?.is_applied())
    }
}
