//! Sessions that have ended: their access tokens go on for minutes, and open nothing here any more.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use dialtone_chassis::Error;
use dialtone_chassis::auth::Caller;
use dialtone_vocab::{Reason, SessionId, UnixMillis};

use crate::limits::{ENDED_KEPT, ENDED_SESSIONS};

/// What this process has heard of ended sessions. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Ended(Arc<RwLock<Book>>);

#[derive(Default)]
struct Book {
    known: BTreeSet<SessionId>,
    by_time: VecDeque<(UnixMillis, SessionId)>,
}

impl Ended {
    /// A session has ended.
    pub(crate) fn note(&self, session: SessionId, now: UnixMillis) {
        let mut book = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if book.known.insert(session) {
            book.by_time.push_back((now, session));
        }
        let is_over = |(at, _): &(UnixMillis, SessionId)| now.since(*at) >= ENDED_KEPT;
        while book.by_time.len() > ENDED_SESSIONS || book.by_time.front().is_some_and(is_over) {
            let Some((_, oldest)) = book.by_time.pop_front() else { return };
            book.known.remove(&oldest);
        }
    }

    /// Lets a caller through whose session has not ended.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), Error> {
        let book = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match book.known.contains(&caller.session) {
            true => Err(Error::new(Reason::SessionRevoked, "this session was ended")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use dialtone_vocab::{DeviceId, PhoneNumber, UserId};

    use super::*;

    fn refused(ended: &Ended, n: u64) -> bool {
        let caller = Caller {
            user: UserId::new([1; 16]),
            device: DeviceId(1),
            session: session(n),
            number: PhoneNumber::parse_e164("+14155550101").expect("valid"),
            expires: UnixMillis(u64::MAX),
        };
        ended.check(&caller).is_err()
    }

    fn session(n: u64) -> SessionId {
        SessionId::new(u128::from(n).to_be_bytes())
    }

    #[test]
    fn a_session_is_remembered_as_long_as_its_tokens_live() {
        let (ended, now) = (Ended::default(), UnixMillis(1_000));
        ended.note(session(1), now);
        ended.note(session(2), now.plus(ENDED_KEPT / 2));
        assert!(refused(&ended, 1) && refused(&ended, 2) && !refused(&ended, 3));
        ended.note(session(3), now.plus(ENDED_KEPT));
        assert!(!refused(&ended, 1) && refused(&ended, 2) && refused(&ended, 3));
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let (ended, now) = (Ended::default(), UnixMillis(1_000));
        for n in 0..=ENDED_SESSIONS as u64 {
            ended.note(session(n), now);
            ended.note(session(n), now);
        }
        assert!(!refused(&ended, 0) && refused(&ended, 1) && refused(&ended, ENDED_SESSIONS as u64));
    }
}
