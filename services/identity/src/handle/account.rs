//! One's own account, and what other services ask.

use dialtone_chassis::Error;
use dialtone_chassis::auth::Caller;
use dialtone_proto::identity::internal::v1 as internal;
use dialtone_vocab::{PhoneNumber, Reason, SessionId, UserId};

use super::Handle;
use crate::error;
use crate::rows::{SessionRow, UserRow};

impl Handle {
    /// Lets a caller at an account if their session goes on: a token outlives it by minutes, and who was thrown out
    /// must not throw out others meanwhile.
    pub(crate) async fn admit(&self, caller: Caller) -> Result<Caller, Error> {
        let seen = self.store.session(caller.session).await.map_err(|error| error::store(&error))?;
        match seen.filter(|seen| seen.row.user == caller.user.as_bytes()) {
            Some(seen) if seen.row.revoked => {
                Err(Error::new(Reason::SessionRevoked, "this session was ended"))
            }
            Some(_) => Ok(caller),
            None => Err(Error::new(Reason::TokenInvalid, "no such session")),
        }
    }

    pub(crate) async fn user_row(&self, user: UserId) -> Result<UserRow, Error> {
        let row = self.store.user(user).await.map_err(|error| error::store(&error))?;
        row.ok_or_else(|| Error::new(Reason::TokenInvalid, "no such user"))
    }

    pub(super) async fn primary(&self, user: UserId) -> Result<Option<PhoneNumber>, Error> {
        Ok(self.store.user(user).await.map_err(|error| error::store(&error))?.and_then(|row| row.primary()))
    }

    pub(crate) async fn rename(&self, user: UserId, nickname: &str) -> Result<(), Error> {
        super::check_name("nickname", nickname)?;
        let mut tries = self.tries();
        loop {
            tries.next().await?;
            if self.store.set_nickname(user, nickname).await.map_err(|error| error::store(&error))? {
                return Ok(());
            }
        }
    }

    pub(crate) async fn sessions(&self, caller: &Caller) -> Result<Vec<(SessionId, SessionRow)>, Error> {
        let sessions = self.store.sessions(caller.user, caller.session, self.now()).await;
        sessions.map_err(|error| error::store(&error))
    }

    /// Ends a session of the user's own; one that is not theirs is not told apart from one that does not exist.
    pub(crate) async fn revoke(&self, user: UserId, session: SessionId) -> Result<(), Error> {
        let mut tries = self.tries();
        loop {
            tries.next().await?;
            let seen = self.store.session(session).await.map_err(|error| error::store(&error))?;
            let Some(mut seen) = seen.filter(|seen| seen.row.user == user.as_bytes()) else { return Ok(()) };
            seen.row.revoked = true;
            if self.store.swap_session(session, &seen).await.map_err(|error| error::store(&error))? {
                self.ended.tell(user, session);
                return Ok(());
            }
        }
    }

    /// Whose this number is.
    pub(crate) async fn resolve(&self, number: &str) -> Result<internal::Resolved, Error> {
        let Ok(number) = PhoneNumber::parse_e164(number) else { return Ok(internal::Resolved::default()) };
        let owner = self.store.owner(number).await.map_err(|error| error::store(&error))?;
        let Some((user, epoch)) = owner else { return Ok(internal::Resolved::default()) };
        let nickname =
            self.store.user(user).await.map_err(|error| error::store(&error))?.unwrap_or_default().nickname;
        Ok(internal::Resolved { user: user.to_vec(), epoch, nickname })
    }

    /// The numbers of a user.
    pub(crate) async fn numbers(&self, user: &[u8]) -> Result<internal::UserNumbers, Error> {
        let Ok(user) = UserId::from_slice(user) else { return Ok(internal::UserNumbers::default()) };
        let Some(row) = self.store.user(user).await.map_err(|error| error::store(&error))? else {
            return Ok(internal::UserNumbers::default());
        };
        let Some(primary) = row.primary() else { return Ok(internal::UserNumbers::default()) };
        let owner = self.store.owner(primary).await.map_err(|error| error::store(&error))?;
        let epoch = owner.map_or(0, |(_, epoch)| epoch);
        Ok(internal::UserNumbers { primary: primary.to_string(), epoch, nickname: row.nickname })
    }
}
