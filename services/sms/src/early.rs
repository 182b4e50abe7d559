//! Receipts that came before the answer to their submit: the operator is asked to report again, for a while.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::limits::{EARLY_RECEIPTS, SUBMIT_WITHIN};

/// When the operator first spoke of an id that is not known yet.
#[derive(Default)]
pub(crate) struct Early(BTreeMap<String, Instant>);

impl Early {
    /// Whether the answer to its submit may still come. After that the id is none of ours, and is forgotten.
    pub(crate) fn may_come(&mut self, id: &str, now: Instant) -> bool {
        let is_new = |since: &Instant| now - *since < SUBMIT_WITHIN;
        if self.0.len() >= EARLY_RECEIPTS && !self.0.contains_key(id) {
            self.0.retain(|_, since| is_new(since));
            if self.0.len() >= EARLY_RECEIPTS {
                return true;
            }
        }
        let may_come = is_new(self.0.entry(id.to_owned()).or_insert(now));
        if !may_come {
            self.0.remove(id);
        }
        may_come
    }

    /// It was matched.
    pub(crate) fn came(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dialtone_chassis::Chassis;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_ids_are_remembered_and_the_old_ones_make_room() {
        let (began, mut early) = (Chassis::for_tests(1).clock.instant(), Early::default());
        let at = |seconds| began + Duration::from_secs(seconds);
        for n in 0..EARLY_RECEIPTS {
            assert!(early.may_come(&n.to_string(), at(0)));
        }
        assert!(early.may_come("one more", at(59)), "later, though nobody remembers it");
        assert_eq!(early.0.len(), EARLY_RECEIPTS);
        assert!(early.may_come("one more", at(60)));
        assert_eq!(early.0.len(), 1, "the others had their time");
        early.came("one more");
        assert!(early.0.is_empty());
    }
}
