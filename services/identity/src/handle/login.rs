//! Logging in again: by key, by one-time password, by refresh token.

use dialtone_chassis::Error;
use dialtone_chassis::auth::Caller;
use dialtone_proto::identity::v1 as proto;
use dialtone_vocab::{DeviceId, PhoneNumber, Reason, SessionId, UserId};
use ed25519_dalek::{Signature, VerifyingKey};

use super::Handle;
use crate::limits::{ACCESS_LIFE, NONCE_LIFE};
use crate::rows::{DeviceRow, NonceRow, SessionRow, is_past};
use crate::state::{CodeVerdict, Refreshed};
use crate::store::{FlowId, Seen};
use crate::{error, metrics};

/// What is signed at a login, before nonce and device.
const LOGIN_CONTEXT: &[u8] = b"dialtone-login-v1";

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..N).map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()).collect();
    bytes?.try_into().ok()
}

impl Handle {
    /// A nonce, whether the number and device exist or not.
    pub(crate) async fn challenge(&self, number: PhoneNumber, device: u32) -> Result<[u8; 32], Error> {
        let nonce = self.chassis.rng.bytes();
        let row = NonceRow { number: number.as_u64(), device, expires_ms: self.now().plus(NONCE_LIFE).0 };
        if !self.store.add_nonce(&nonce, &row).await.map_err(|error| error::store(&error))? {
            return Err(error::busy());
        }
        Ok(nonce)
    }

    /// Login by the key made at registration.
    pub(crate) async fn with_key(
        &self,
        number: PhoneNumber,
        device: u32,
        nonce: &[u8],
        signature: &[u8],
    ) -> Result<proto::LoggedIn, Error> {
        let outcome = self.prove(number, device, nonce, signature).await;
        metrics::login("key", if outcome.is_ok() { "passed" } else { "refused" });
        self.log_in(outcome?, DeviceId(device), number).await
    }

    async fn prove(
        &self,
        number: PhoneNumber,
        device: u32,
        nonce: &[u8],
        signature: &[u8],
    ) -> Result<UserId, Error> {
        let asked = self.store.take_nonce(nonce).await.map_err(|error| error::store(&error))?;
        let fits = |row: &NonceRow| {
            row.number == number.as_u64() && row.device == device && !is_past(row.expires_ms, self.now())
        };
        if !asked.is_some_and(|row| fits(&row)) {
            return Err(error::login_refused());
        }
        let owner = self.store.owner(number).await.map_err(|error| error::store(&error))?;
        let (user, _) = owner.ok_or_else(error::login_refused)?;
        let seen = self.store.device(user, DeviceId(device)).await.map_err(|error| error::store(&error))?;
        let seen = seen.ok_or_else(error::login_refused)?;
        let key = <[u8; 32]>::try_from(&seen.row.public_key[..])
            .ok()
            .and_then(|key| VerifyingKey::from_bytes(&key).ok());
        let signature = Signature::from_slice(signature).ok();
        let (Some(key), Some(signature)) = (key, signature) else { return Err(error::login_refused()) };
        let message = [LOGIN_CONTEXT, nonce, &device.to_be_bytes()].concat();
        key.verify_strict(&message, &signature).map_err(|_| error::login_refused())?;
        Ok(user)
    }

    /// Renews the device's session if it goes on, else begins one: it has one at most, and two who hold its key do not
    /// end each other.
    async fn log_in(
        &self,
        user: UserId,
        device: DeviceId,
        number: PhoneNumber,
    ) -> Result<proto::LoggedIn, Error> {
        let mut tries = self.tries();
        loop {
            tries.next().await?;
            let holder = self.store.device(user, device).await.map_err(|error| error::store(&error))?;
            let holder = holder.ok_or_else(error::login_refused)?;
            let (fresh, refresh, row) = self.new_session(user, device, &holder.row.name);
            let (session, done) = match self.session_of(&holder.row).await? {
                Some((session, mut seen)) if seen.row.is_live(self.now()) => {
                    seen.row.renew(row);
                    (session, self.store.swap_session(session, &seen).await)
                }
                before => {
                    let before = before.as_ref().map(|(_, seen)| seen);
                    let begun = self.store.begin_session((user, device), &holder, before, (fresh, &row));
                    (fresh, begun.await)
                }
            };
            if done.map_err(|error| error::store(&error))? {
                return Ok(self.logged_in(user, device, number, session, &refresh));
            }
        }
    }

    async fn session_of(&self, holder: &DeviceRow) -> Result<Option<(SessionId, Seen<SessionRow>)>, Error> {
        let Ok(id) = SessionId::from_slice(&holder.session) else { return Ok(None) };
        let seen = self.store.session(id).await.map_err(|error| error::store(&error))?;
        Ok(seen.map(|seen| (id, seen)))
    }

    /// Opens a one-time password for a number. The same answer whether it is registered or not; the SMS only if it is.
    pub(crate) async fn request_code(
        &self,
        number: PhoneNumber,
    ) -> Result<(FlowId, crate::rows::FlowRow), Error> {
        let registered = self.store.owner(number).await.map_err(|error| error::store(&error))?.is_some();
        let (id, _) = self.open_flow(true, Some(number)).await?;
        let row = self.send_code(&id, registered).await?;
        Ok((id, row))
    }

    /// Login by one-time password, as a new device.
    pub(crate) async fn with_code(
        &self,
        id: &FlowId,
        code: &str,
        device: DeviceRow,
    ) -> Result<Result<proto::LoggedIn, u32>, Error> {
        // What is wrong with the request is said before it costs a try.
        super::check_name("device_name", &device.name)?;
        if !self.seen(id).await?.row.login {
            return Err(error::flow_step("this is a registration: use CheckCode"));
        }
        let (verdict, seen) = self.check_code(id, code).await?;
        match verdict {
            CodeVerdict::Passed => {
                metrics::login("code", "passed");
                Ok(Ok(self.enroll(id, &seen, device, "").await?))
            }
            CodeVerdict::NotPassed { left } => {
                metrics::login("code", "refused");
                Ok(Err(left))
            }
        }
    }

    /// New tokens for a refresh token.
    pub(crate) async fn refresh(&self, token: &str) -> Result<proto::Tokens, Error> {
        let refused = || Error::new(Reason::TokenInvalid, "the refresh token is not ours");
        let (session, secret) = token.split_once('.').ok_or_else(refused)?;
        let session = SessionId::new(unhex(session).ok_or_else(refused)?);
        let presented = self.key.mac(b"refresh", &unhex::<32>(secret).ok_or_else(refused)?);
        let mut tries = self.tries();
        loop {
            tries.next().await?;
            let seen = self.store.session(session).await.map_err(|error| error::store(&error))?;
            let mut seen = seen.ok_or_else(refused)?;
            let revoked = seen.row.revoked;
            let next: [u8; 32] = self.chassis.rng.bytes();
            let outcome = seen.row.refresh(presented, self.key.mac(b"refresh", &next), self.now());
            if outcome == Refreshed::Refused {
                metrics::login("refresh", "refused");
                let reason = if revoked { Reason::SessionRevoked } else { Reason::TokenInvalid };
                return Err(Error::new(reason, "this refresh token is no longer good"));
            }
            if !self.store.swap_session(session, &seen).await.map_err(|error| error::store(&error))? {
                continue;
            }
            let user = UserId::from_slice(&seen.row.user).map_err(|_| refused())?;
            if outcome == Refreshed::Stolen {
                metrics::login("refresh", "stolen");
                self.ended.tell(user, session);
                return Err(Error::new(
                    Reason::SessionRevoked,
                    "this refresh token was used before: the session is over",
                ));
            }
            metrics::login("refresh", "passed");
            let number = self.primary(user).await?.ok_or_else(refused)?;
            let expires = self.now().plus(ACCESS_LIFE);
            let device = DeviceId(seen.row.device);
            return Ok(self.tokens(&Caller { user, device, session, number, expires }, &next));
        }
    }
}
