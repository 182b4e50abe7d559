//! What a client sent that could not be read: tonic says so by codes of its own, and they become our reasons.

use dialtone_chassis::{DOMAIN, Error};
use dialtone_vocab::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Our words, if this status is tonic's for a request or a frame that is too large or garbled.
pub(crate) fn in_our_words(status: &Status) -> Option<Error> {
    match status.code() {
        Code::OutOfRange => Some(Error::new(Reason::TooLarge, "what was sent is too large")),
        Code::Internal if !is_ours(status) => {
            Some(Error::new(Reason::FieldInvalid, "what was sent could not be decoded"))
        }
        _ => None,
    }
}

/// A defect of a service is `INTERNAL` too.
fn is_ours(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tonics_words_become_ours_and_everything_else_stays() {
        let reason = |status: Status| in_our_words(&status).map(|error| error.reason);
        assert_eq!(reason(Status::out_of_range("4194305 bytes")), Some(Reason::TooLarge));
        assert_eq!(reason(Status::internal("failed to decode")), Some(Reason::FieldInvalid));
        assert_eq!(reason(Error::new(Reason::Internal, "a defect").into()), None);
        assert_eq!(reason(Status::cancelled("cut")), None);
    }
}
