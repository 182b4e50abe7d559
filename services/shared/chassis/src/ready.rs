//! What must be there before a process takes work, and why it is not.
#![expect(
    clippy::disallowed_types,
    reason = "a list of a dozen entries, written when a dependency comes or goes"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What this process waits for. Cheap to clone. With nothing registered it is ready.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

/// One thing that is waited for.
#[derive(Clone)]
pub struct ReadyHandle {
    all: Readiness,
    name: &'static str,
}

impl Readiness {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<&'static str, Result<(), String>>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds something to wait for; it is not there yet.
    pub fn register(&self, name: &'static str) -> ReadyHandle {
        self.with(|parts| parts.insert(name, Err("starting".into())));
        ReadyHandle { all: self.clone(), name }
    }

    /// Whether everything is there.
    pub fn is_ready(&self) -> bool {
        self.with(|parts| parts.values().all(Result::is_ok))
    }

    /// Everything that is waited for; `None` if it is there, else why not.
    pub fn report(&self) -> Vec<(&'static str, Option<String>)> {
        self.with(|parts| parts.iter().map(|(name, state)| (*name, state.clone().err())).collect())
    }
}

impl ReadyHandle {
    /// It is there.
    pub fn set_ready(&self) {
        self.all.with(|parts| parts.insert(self.name, Ok(())));
    }

    /// It is not, and why; no user data in it.
    pub fn set_missing(&self, why: impl Into<String>) {
        self.all.with(|parts| parts.insert(self.name, Err(why.into())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_parts_are() {
        let ready = Readiness::default();
        let (bus, store) = (ready.register("bus"), ready.register("store"));
        bus.set_ready();
        assert!(!ready.is_ready());
        store.set_ready();
        assert!(ready.is_ready());
        bus.set_missing("connection lost");
        assert_eq!(ready.report(), [("bus", Some("connection lost".into())), ("store", None)]);
    }
}
