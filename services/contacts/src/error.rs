//! What contacts refuses.

use dialtone_chassis::Error;
use dialtone_vocab::Reason;

pub(crate) fn busy() -> Error {
    Error::new(Reason::Busy, "too much is waiting, try again")
}

pub(crate) fn field(name: &'static str, why: &'static str) -> Error {
    Error::new(Reason::FieldInvalid, why).with("field", name)
}

pub(crate) fn base_unknown() -> Error {
    Error::new(Reason::SyncBaseUnknown, "this is not the token the server has; send the whole book")
}

pub(crate) fn too_large(what: &'static str, limit: u64) -> Error {
    Error::new(Reason::TooLarge, what).with("limit", limit)
}
