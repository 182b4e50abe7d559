//! The one error of our handlers: a cause with a page.

use std::time::Duration;

use dialtone_vocab::{GrpcCode, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `google.rpc.ErrorInfo.domain` of everything we return.
pub const DOMAIN: &str = "dialtone";

/// A refusal: what a handler returns and a client gets. The message is for people and holds no user data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", reason.as_str())]
pub struct Error {
    /// The cause, with a section in `docs/errors.md`.
    pub reason: Reason,
    /// What happened, in a sentence.
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// Facts that a program may need, such as an expected number.
    pub details: Vec<(String, String)>,
}

impl Error {
    /// A refusal for this reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None, details: Vec::new() }
    }

    /// Says when trying again may help.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl std::fmt::Display) -> Self {
        self.details.push((key.into(), value.to_string()));
        self
    }

    /// The error behind a status of ours; a status that is not ours gets the nearest reason.
    pub fn from_status(status: &Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        let named =
            info.as_ref().and_then(|info| Reason::ALL.iter().find(|reason| reason.as_str() == info.reason));
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let mut details: Vec<_> = info.iter().flat_map(|info| info.metadata.clone()).collect();
        details.sort();
        let reason = named.copied().unwrap_or_else(|| nearest(status.code()));
        Self { reason, message: status.message().to_owned(), retry_after, details }
    }
}

fn nearest(code: Code) -> Reason {
    match code {
        Code::InvalidArgument => Reason::FieldInvalid,
        Code::OutOfRange | Code::ResourceExhausted => Reason::TooLarge,
        Code::Unauthenticated => Reason::TokenInvalid,
        Code::DeadlineExceeded | Code::Cancelled => Reason::Timeout,
        Code::Unavailable | Code::Unknown => Reason::PeerUnavailable,
        _ => Reason::Internal,
    }
}

fn code(reason: Reason) -> Code {
    match reason.code() {
        GrpcCode::InvalidArgument => Code::InvalidArgument,
        GrpcCode::Unauthenticated => Code::Unauthenticated,
        GrpcCode::ResourceExhausted => Code::ResourceExhausted,
        GrpcCode::Aborted => Code::Aborted,
        GrpcCode::Unavailable => Code::Unavailable,
        GrpcCode::Internal => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        let metadata: std::collections::HashMap<_, _> = error.details.into_iter().collect();
        details.set_error_info(error.reason.as_str(), DOMAIN, metadata);
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        Self::with_error_details(code(error.reason), error.message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_wire() {
        let error = Error::new(Reason::SequenceGap, "a number is missing")
            .with("expected_client_seq", 4)
            .retry_after(Duration::from_secs(2));
        let status = Status::from(error.clone());
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(Error::from_status(&status), error);
    }

    #[test]
    fn every_reason_comes_back_as_itself() {
        for reason in Reason::ALL {
            assert_eq!(Error::from_status(&Error::new(*reason, "x").into()).reason, *reason);
        }
    }

    #[test]
    fn a_foreign_status_gets_the_nearest_reason() {
        assert_eq!(Error::from_status(&Status::deadline_exceeded("")).reason, Reason::Timeout);
        assert_eq!(Error::from_status(&Status::out_of_range("")).reason, Reason::TooLarge);
    }
}
