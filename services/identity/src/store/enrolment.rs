//! How a proven number becomes a user with a device.

use dialtone_store::{Batch, StoreError};
use dialtone_vocab::{DeviceId, PhoneNumber, SessionId, UnixMillis, UserId};
use prost::Message;

use super::accounts::{device_key, number_key, user_key};
use super::{FlowId, Seen, Store};
use crate::limits::DEVICES;
use crate::rows::{DeviceRow, FlowRow, NumberRow, SessionRow, UserRow};

/// What a proven number needs to become a user with a device. All of it is a function of the flow and of what the
/// caller asks: who comes again asks for the same.
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
    /// Somebody was quicker: the number or the user is not as it was. To be tried again.
    Changed,
    /// The flow has a device already, which was made with another key or has gone its own way since.
    Over,
    /// The user has as many devices as one may have.
    Full,
}

/// A device of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enrolled {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
}

/// A step's outcome, or why there is no next one.
pub(super) type Step<T> = Result<Result<T, Enroll>, StoreError>;

impl Store {
    /// A user for a proven number, or a further device of the one it has.
    ///
    /// 1. The user gets a device, which says which flow it is of: a flow has one device, however often it comes. A
    ///    user whom no number has yet is nobody: no one can reach or name them.
    /// 2. If the number has no owner: it is to be told that the user owns it ([`Store::add_fact`]).
    /// 3. If the number has no owner: the user owns it. **This decides**; of several flows one is first, and the
    ///    others begin again with its user.
    /// 4. The session is written, then the device has it, if it never had one.
    /// 5. The flow ends. It has done its part, so that this fails is no failure.
    ///
    /// Whoever dies on the way leaves the flow, and who comes again with it finds the device of step 1 and goes on from
    /// there, to the same answer. If nobody comes again: after 1 or 2 there is a user who owns nothing and whom the
    /// sweep forgets, and a fact that is not told because it did not come to pass; after 3 or 4 a user is registered
    /// whose phone does not know it, as if only the answer had been lost.
    pub(crate) async fn enroll(&self, enrolment: &Enrolment<'_>) -> Result<Enroll, StoreError> {
        let number: Seen<NumberRow> = self.see_serial("number_owner", &number_key(enrolment.number)).await?;
        let user = number.row.owner().map_or(enrolment.fresh, |(owner, _)| owner);
        let (device, holder) = match self.add_device(user, enrolment).await? {
            Ok(added) => added,
            Err(outcome) => return Ok(outcome),
        };
        if number.row.owner().is_none() && !self.own(user, number, enrolment).await? {
            return Ok(Enroll::Changed);
        }
        if let Err(outcome) = self.first_session((user, device), &holder, &enrolment.session).await? {
            return Ok(outcome);
        }
        let (id, flow) = enrolment.flow;
        if let Err(error) = self.drop_flow(id, flow).await {
            tracing::debug!(%error, "a flow that has done its part stays until its time is over");
        }
        Ok(Enroll::Done(Enrolled { user, device }))
    }

    /// The device of a flow: the one it has, or a new one.
    pub(super) async fn add_device(
        &self,
        user: UserId,
        enrolment: &Enrolment<'_>,
    ) -> Step<(DeviceId, Seen<DeviceRow>)> {
        let Enrolment { device, flow: (flow, _), .. } = enrolment;
        let mut person: Seen<UserRow> = self.see_serial("account", &user_key(user)).await?;
        let devices = self.devices(user).await?;
        if let Some((id, holder)) = devices.into_iter().find(|(_, seen)| seen.row.flow == *flow) {
            let same = holder.row.public_key == device.public_key;
            return Ok(if same { Ok((id, holder)) } else { Err(Enroll::Over) });
        }
        if person.row.last_device >= DEVICES {
            return Ok(Err(Enroll::Full));
        }
        let batch = Self::expecting(Batch::new(), "account", user_key(user), &person);
        if !person.is_there() {
            person.row.numbers = vec![enrolment.number.as_u64()];
            person.row.registered_ms = enrolment.now.0;
        }
        if !enrolment.nickname.is_empty() {
            enrolment.nickname.clone_into(&mut person.row.nickname);
        }
        person.row.last_device += 1;
        let id = DeviceId(person.row.last_device);
        let holder = DeviceRow { session: Vec::new(), flow: flow.to_vec(), ..(*device).clone() };
        let batch = batch
            .expect_absent("account", device_key(user, id))
            .put("account", user_key(user), person.row.encode_to_vec())
            .put("account", device_key(user, id), holder.encode_to_vec());
        let added = self.db.commit(batch).await?.is_applied();
        Ok(if added { Ok((id, Seen { row: holder, bytes: None }.written())) } else { Err(Enroll::Changed) })
    }

    /// Makes a user the owner of a number that had none; whether they are.
    pub(super) async fn own(
        &self,
        user: UserId,
        mut number: Seen<NumberRow>,
        enrolment: &Enrolment<'_>,
    ) -> Result<bool, StoreError> {
        number.row = NumberRow { user: user.to_vec(), epoch: number.row.epoch + 1 };
        self.add_fact(enrolment.number, &number.row, enrolment.now).await?;
        let key = number_key(enrolment.number);
        let owns = self.swap("number_owner", key, &number).await?;
        self.pending.note(enrolment.number);
        if owns {
            return Ok(true);
        }
        let number: Seen<NumberRow> = self.see_serial("number_owner", &key).await?;
        let owner = number.row.owner().map(|(owner, _)| owner);
        if owner.is_some_and(|owner| owner != user) {
            let person = self.see("account", &user_key(user)).await?;
            let _swept_later = self.drop_user(user, &person).await;
        }
        Ok(owner == Some(user))
    }

    /// The session that a flow's device begins with.
    pub(super) async fn first_session(
        &self,
        (user, device): (UserId, DeviceId),
        holder: &Seen<DeviceRow>,
        (id, row): &(SessionId, SessionRow),
    ) -> Step<()> {
        let has = holder.row.session == id.as_bytes();
        if !has && !holder.row.session.is_empty() {
            // Its key was used to log in meanwhile.
            let _swept_later = self.drop_unused(*id, row).await;
            return Ok(Err(Enroll::Over));
        }
        let row = SessionRow { user: user.to_vec(), device: device.0, ..row.clone() };
        let seen: Seen<SessionRow> = self.see_serial("session", id.as_bytes()).await?;
        if !seen.is_there() {
            // The device has it and it is not there: it was swept.
            let outcome = if has { Enroll::Over } else { Enroll::Changed };
            if has || !self.add("session", id.to_vec(), &row).await? {
                return Ok(Err(outcome));
            }
        } else if seen.row.revoked || seen.row.refresh != row.refresh {
            return Ok(Err(Enroll::Over));
        }
        if !has && !self.have_session((user, device), holder, *id).await? {
            return Ok(Err(Enroll::Changed));
        }
        Ok(Ok(()))
    }

    /// Forgets a session that no device came to have, if it is as it began.
    async fn drop_unused(&self, id: SessionId, row: &SessionRow) -> Result<bool, StoreError> {
        match self.session(id).await? {
            Some(Seen { row: found, bytes: Some(bytes) }) if found.refresh == row.refresh => {
                self.drop_as("session", id.to_vec(), &bytes).await
            }
            _ => Ok(false),
        }
    }
}
