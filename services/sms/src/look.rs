//! What this process has in hand, and its looks around for what nobody has: left by processes that are gone, or not
//! written when the store could not be reached.
#![expect(
    clippy::disallowed_types,
    reason = "the door, tasks of single SMS and the looker share it, for a look each"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dialtone_proto::bus::v1::SmsResult;
use dialtone_store::StoreError;
use dialtone_vocab::NodeId;
use tokio::time::Instant;

use crate::bridge::Bridge;
use crate::limits::{GONE_AFTER, LOOK_AROUND, REPEAT_EVERY, RESULTS, TELLING};
use crate::store::{Lane, Told, id_of};

/// SMS and results that this process sees to. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hands(Arc<Mutex<InHand>>);

#[derive(Debug, Default)]
struct InHand {
    sms: BTreeSet<Vec<u8>>,
    /// By message id and kind: of one SMS in the order of its fates.
    results: BTreeMap<(Vec<u8>, i32), Told>,
    gone: Gone,
}

impl Hands {
    fn lock(&self) -> MutexGuard<'_, InHand> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an SMS in hand; false if it is.
    pub(crate) fn take(&self, id: &[u8]) -> bool {
        self.lock().sms.insert(id.to_vec())
    }

    fn has(&self, id: &[u8]) -> bool {
        self.lock().sms.contains(id)
    }

    pub(crate) fn drop(&self, id: &[u8]) {
        self.lock().sms.remove(id);
    }

    /// A result is to be told. One for which there is no room is found at a later look around.
    pub(crate) fn tell(&self, told: Told) {
        let mut hands = self.lock();
        let name = (told.result.message_id.clone(), told.result.kind);
        if hands.results.len() < TELLING || hands.results.contains_key(&name) {
            hands.results.insert(name, told);
        }
    }

    /// What to tell in one round.
    pub(crate) fn telling(&self) -> Vec<SmsResult> {
        self.lock().results.values().take(RESULTS).map(|told| told.result.clone()).collect()
    }

    /// It was taken: no longer in hand.
    pub(crate) fn taken(&self, id: &[u8], kind: i32) -> Option<Told> {
        self.lock().results.remove(&(id.to_vec(), kind))
    }
}

/// Processes that are not heard of, and since when.
#[derive(Debug, Default)]
struct Gone(BTreeMap<String, Instant>);

impl Gone {
    /// Whether what a process has left is anybody's: not while it is heard of, nor for a while after.
    fn is_gone(&mut self, node: &str, alive: &[NodeId], now: Instant) -> bool {
        if alive.iter().any(|alive| alive.as_str() == node) {
            self.0.remove(node);
            return false;
        }
        now - *self.0.entry(node.to_owned()).or_insert(now) >= GONE_AFTER
    }
}

impl Bridge {
    /// Looks around until the process is to stop. The first look is the one after a start: what a process of this name
    /// had is this one's.
    pub(crate) async fn keep_looking(self) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            let pause = match self.look_around().await {
                Ok(()) => LOOK_AROUND,
                Err(error) => {
                    tracing::warn!(%error, "what is to be done could not be read");
                    REPEAT_EVERY
                }
            };
            if stop.run_until_cancelled(self.chassis.clock.sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn look_around(&self) -> Result<(), StoreError> {
        for hour in self.store.hours().await? {
            let mut is_empty = true;
            for lane in Lane::of(hour) {
                is_empty &= self.look_for_sms(lane).await?;
                is_empty &= self.look_for_results(lane).await?;
            }
            if is_empty {
                self.store.close(hour, self.chassis.clock.now()).await?;
            }
        }
        Ok(())
    }

    /// Whether this process is to see to what another had, or a former one of its own name.
    pub(crate) fn is_to_see_to(&self, node: &str) -> bool {
        let (alive, now) = (self.shards.nodes("sms"), self.chassis.clock.instant());
        node == self.chassis.node.as_str() || self.hands.lock().gone.is_gone(node, &alive, now)
    }

    /// Takes those in hand that nobody has; true if there are none at all.
    async fn look_for_sms(&self, lane: Lane) -> Result<bool, StoreError> {
        let mut after = Vec::new();
        loop {
            let found = self.store.queued(lane, &after).await?;
            let Some((last, _)) = found.last() else { return Ok(after.is_empty()) };
            after.clone_from(last);
            for (key, node) in found {
                if !self.hands.has(id_of(&key)) && self.is_to_see_to(&node) {
                    self.queue(key).await;
                }
            }
        }
    }

    async fn look_for_results(&self, lane: Lane) -> Result<bool, StoreError> {
        let mut after = Vec::new();
        loop {
            let found = self.store.results(lane, &after).await?;
            let Some(last) = found.last() else { return Ok(after.is_empty()) };
            after = last.key().to_vec();
            for told in found {
                if self.is_to_see_to(&told.result.reply_node) {
                    self.hands.tell(told);
                    self.news.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dialtone_chassis::Chassis;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_is_gone_when_it_was_not_heard_of_for_a_minute_on_end() {
        let (began, mut gone) = (Chassis::for_tests(1).clock.instant(), Gone::default());
        let at = |seconds| began + Duration::from_secs(seconds);
        let (both, one) = ([NodeId::new("a"), NodeId::new("b")], [NodeId::new("a")]);
        assert!(!gone.is_gone("b", &one, at(0)));
        assert!(!gone.is_gone("b", &one, at(59)));
        assert!(!gone.is_gone("b", &both, at(60)), "it is back");
        assert!(!gone.is_gone("b", &one, at(61)));
        assert!(!gone.is_gone("b", &one, at(120)) && gone.is_gone("b", &one, at(121)));
        assert!(!gone.is_gone("a", &one, at(1_000)));
    }

    #[test]
    fn hands_hold_so_many_results_and_each_once() {
        let hands = Hands::default();
        let told = |n: usize| {
            let message_id = u32::try_from(n).expect("few").to_be_bytes().to_vec();
            Told::new(&SmsResult { message_id, ..SmsResult::default() }, dialtone_vocab::UnixMillis(0))
        };
        (0..TELLING).for_each(|n| hands.tell(told(n)));
        (0..TELLING + 1).for_each(|n| hands.tell(told(n)));
        assert_eq!(hands.lock().results.len(), TELLING);
        assert_eq!(hands.telling().len(), RESULTS, "a round has a limit");
        assert_eq!(hands.taken(&[0; 4], 0), Some(told(0)));
        assert_eq!(hands.taken(&[0; 4], 0), None);
        hands.tell(told(TELLING));
        assert!(hands.taken(&told(TELLING).result.message_id, 0).is_some(), "there is room again");
    }
}
