//! What identity refuses.

use dialtone_chassis::Error;
use dialtone_store::StoreError;
use dialtone_vocab::Reason;

pub(crate) fn store(error: &StoreError) -> Error {
    tracing::error!(%error, "identity's store");
    Error::new(Reason::StoreUnavailable, "the store can't be used now")
}

pub(crate) fn busy() -> Error {
    Error::new(Reason::Busy, "somebody else changes the same, try again")
}

pub(crate) fn field(name: &'static str, why: &'static str) -> Error {
    Error::new(Reason::FieldInvalid, why).with("field", name)
}

pub(crate) fn flow_expired() -> Error {
    Error::new(Reason::FlowExpired, "this registration or code is used up or expired, begin again")
}

pub(crate) fn flow_step(why: &'static str) -> Error {
    Error::new(Reason::FlowStep, why)
}

pub(crate) fn login_refused() -> Error {
    Error::new(Reason::LoginRefused, "number, device, key or nonce do not fit together")
}
