//! What presence refuses.

use dialtone_chassis::Error;
use dialtone_store::StoreError;
use dialtone_vocab::Reason;

pub(crate) fn store(error: &StoreError) -> Error {
    tracing::error!(%error, "the store of presence");
    Error::new(Reason::StoreUnavailable, "the store can't be used now")
}

pub(crate) fn busy() -> Error {
    Error::new(Reason::Busy, "too much is waiting, try again")
}

pub(crate) fn field(name: &'static str, why: &'static str) -> Error {
    Error::new(Reason::FieldInvalid, why).with("field", name)
}
