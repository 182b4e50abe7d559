//! The driver's errors in our words. What the server says beside its code stays out: it may quote values.

use std::fmt::Display;

use ::scylla::errors::{ExecutionError, RequestAttemptError};

use crate::StoreError;

/// A write that nobody knows the outcome of.
pub(super) fn lost(error: &ExecutionError) -> StoreError {
    StoreError::Unknown { why: words(error) }
}

/// A read that came to nothing.
pub(super) fn unread(error: &ExecutionError) -> StoreError {
    StoreError::Read { why: words(error) }
}

fn words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(code, _)) => code.to_string(),
        ExecutionError::RequestTimeout(_) => "no answer in time".to_owned(),
        other => other.to_string(),
    }
}

/// No session.
pub(super) fn unreached(error: &impl Display) -> StoreError {
    StoreError::Unreachable { why: error.to_string() }
}
