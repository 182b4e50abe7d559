//! Why something was refused: one word per cause, each with a section in `docs/errors.md`.

/// The gRPC codes that our handlers return; everything finer is a [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcCode {
    /// The caller must change the request.
    InvalidArgument,
    /// The caller must log in (again).
    Unauthenticated,
    /// A budget, rate or size is used up; `RetryInfo` says when to come back.
    ResourceExhausted,
    /// The state the caller assumed is not the state there is; details say which it is.
    Aborted,
    /// Not now; the same request may pass later.
    Unavailable,
    /// A defect of ours.
    Internal,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident, $text:literal, $code:ident;)*) => {
        /// The cause of an error, as `google.rpc.ErrorInfo.reason` carries it (domain `dialtone`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason there is, in the order of `docs/errors.md`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason as it goes over the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The gRPC code it goes with.
            pub const fn code(self) -> GrpcCode {
                match self { $(Self::$variant => GrpcCode::$code,)* }
            }
        }
    };
}

reasons! {
    /// A number could not be read as a phone number.
    NumberMalformed, "NUMBER_MALFORMED", InvalidArgument;
    /// A local number came without a region to read it in.
    NumberNeedsCountry, "NUMBER_NEEDS_COUNTRY", InvalidArgument;
    /// A field is missing or has a value it may not have; details name the field.
    FieldInvalid, "FIELD_INVALID", InvalidArgument;
    /// A body without content.
    BodyEmpty, "BODY_EMPTY", InvalidArgument;
    /// A body over 64 KiB.
    BodyTooLarge, "BODY_TOO_LARGE", InvalidArgument;
    /// A message, frame or list over its limit.
    TooLarge, "TOO_LARGE", InvalidArgument;
    /// The first frame of a stream was not `Hello`.
    HelloExpected, "HELLO_EXPECTED", InvalidArgument;
    /// The receiver named is not known or may not be named by the caller.
    RecipientUnknown, "RECIPIENT_UNKNOWN", InvalidArgument;
    /// The message can't go as SMS: it has no text form.
    NoSmsText, "NO_SMS_TEXT", InvalidArgument;
    /// Another content under a `client_seq` that was already used.
    SequenceReused, "SEQUENCE_REUSED", InvalidArgument;
    /// No token where one is needed.
    TokenMissing, "TOKEN_MISSING", Unauthenticated;
    /// The token was not made by this system or is damaged.
    TokenInvalid, "TOKEN_INVALID", Unauthenticated;
    /// The token has run out; refresh it.
    TokenExpired, "TOKEN_EXPIRED", Unauthenticated;
    /// Number, device, key or nonce do not fit together; which of them is not told.
    LoginRefused, "LOGIN_REFUSED", Unauthenticated;
    /// The session was ended (logout, revocation).
    SessionRevoked, "SESSION_REVOKED", Unauthenticated;
    /// A registration or login session that is unknown, used up or expired.
    FlowExpired, "FLOW_EXPIRED", Aborted;
    /// A step was called before the one it needs.
    FlowStep, "FLOW_STEP", Aborted;
    /// `client_seq` skipped a number; details carry `expected_client_seq`.
    SequenceGap, "SEQUENCE_GAP", Aborted;
    /// The base token of a sync is not the one the server has; send the whole book.
    SyncBaseUnknown, "SYNC_BASE_UNKNOWN", Aborted;
    /// A newer stream of the same device took over.
    Replaced, "REPLACED", Aborted;
    /// Too many SMS asked for; `RetryInfo` says when the next may be.
    SmsBudget, "SMS_BUDGET", ResourceExhausted;
    /// Too many new numbers asked for; `RetryInfo` says when more may be.
    ContactBudget, "CONTACT_BUDGET", ResourceExhausted;
    /// Too many messages unanswered or too fast.
    SendBudget, "SEND_BUDGET", ResourceExhausted;
    /// A bounded queue on the way is full.
    Busy, "BUSY", Unavailable;
    /// A service on the way did not answer in time; the outcome is unknown, retry the same request.
    Timeout, "TIMEOUT", Unavailable;
    /// A service on the way is not there.
    PeerUnavailable, "PEER_UNAVAILABLE", Unavailable;
    /// The server is shutting down; connect again.
    ShuttingDown, "SHUTTING_DOWN", Unavailable;
    /// The store could not read or write.
    StoreUnavailable, "STORE_UNAVAILABLE", Unavailable;
    /// A defect of ours; the trace id in the details finds it.
    Internal, "INTERNAL", Internal;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn texts_are_distinct_and_shouted() {
        let texts: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(texts.len(), Reason::ALL.len());
        assert!(texts.iter().all(|text| text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')));
    }
}
