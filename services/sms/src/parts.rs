//! Texts in parts, put together again: those that phones send, and those that simulated handsets get.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::PART_REPEATS;
use crate::pdu::Short;
use crate::segment::{Place, text};

/// Whose parts belong together: from, to, reference and how many there are.
type Key = (String, String, u16, u8);

/// Texts that wait for parts; with each part, who waits for an answer to it.
pub(crate) struct Parts<T> {
    texts: BTreeMap<Key, Text<T>>,
    /// Texts that may wait, of all senders and of one.
    most: (usize, usize),
    within: Duration,
}

struct Text<T> {
    parts: BTreeMap<u8, (Vec<u8>, Vec<T>)>,
    /// When the last one came that was not there yet.
    heard: Instant,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put<T> {
    /// It waits for the others.
    Waits,
    /// It was the last: the text, and who waits for its parts.
    Whole(String, Vec<T>),
    /// Too much waits.
    Full(T),
}

impl<T> Parts<T> {
    /// At most so many wait, of all senders and of one, each for so long after the last part that was new.
    pub(crate) fn new(most: usize, of_one: usize, within: Duration) -> Self {
        Self { texts: BTreeMap::new(), most: (most, of_one), within }
    }

    /// Takes a part. One that comes again is the same part: what becomes of the text is said to both.
    pub(crate) fn put(&mut self, short: Short, place: Place, waiter: T, now: Instant) -> Put<T> {
        let (reference, total, place) = place;
        let key = (short.from, short.to, reference, total);
        if !self.texts.contains_key(&key) && self.is_full(&key.0) {
            return Put::Full(waiter);
        }
        let waiting =
            self.texts.entry(key.clone()).or_insert_with(|| Text { parts: BTreeMap::new(), heard: now });
        if !waiting.parts.contains_key(&place) {
            waiting.heard = now;
        }
        let (octets, waiters) = waiting.parts.entry(place).or_default();
        if waiters.len() > PART_REPEATS {
            return Put::Full(waiter);
        }
        *octets = short.octets;
        waiters.push(waiter);
        if waiting.parts.len() < usize::from(total) {
            return Put::Waits;
        }
        let parts = self.texts.remove(&key).map(|waiting| waiting.parts).unwrap_or_default();
        let (octets, waiters): (Vec<_>, Vec<_>) = parts.into_values().unzip();
        // Put together before it is read: phones cut within characters.
        Put::Whole(text(short.encoding, &octets.concat()), waiters.into_iter().flatten().collect())
    }

    fn is_full(&self, from: &str) -> bool {
        let (most, of_one) = self.most;
        let first = (from.to_owned(), String::new(), 0, 0);
        self.texts.len() >= most
            || self.texts.range(first..).take_while(|(key, _)| key.0 == from).count() >= of_one
    }

    /// Gives up on texts whose other parts don't come: who waits for them, text by text.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Vec<T>> {
        let late = |waiting: &Text<T>| now - waiting.heard >= self.within;
        let late = self.texts.extract_if(.., |_, waiting| late(waiting));
        late.map(|(_, text)| text.parts.into_values().flat_map(|(_, waiters)| waiters).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use dialtone_chassis::Chassis;

    use super::*;
    use crate::segment::Encoding;

    const MINUTE: Duration = Duration::from_secs(60);

    fn part(from: &str, octets: &[u8]) -> Short {
        let (from, to) = (from.to_owned(), "to".to_owned());
        Short { from, to, encoding: Encoding::Gsm7, part: None, octets: octets.to_vec() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_waits_a_minute_after_its_last_new_part_and_not_after_repetitions() {
        let (now, mut parts) = (Chassis::for_tests(1).clock.instant(), Parts::new(9, 9, MINUTE));
        let at = |seconds| now + Duration::from_secs(seconds);
        for (seconds, place) in [(0, 1), (50, 2), (100, 1)] {
            assert_eq!(parts.put(part("a", b"x"), (7, 3, place), seconds, at(seconds)), Put::Waits);
        }
        assert!(parts.expire(at(109)).is_empty());
        assert_eq!(parts.expire(at(110)), [[0, 100, 50]], "all who wait are told");
        assert!(parts.expire(at(999)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_sender_has_not_all_places_and_a_part_not_all_repetitions() {
        let (now, mut parts) = (Chassis::for_tests(1).clock.instant(), Parts::new(3, 2, MINUTE));
        let mut put = |from, reference, place| parts.put(part(from, b"x"), (reference, 2, place), (), now);
        assert_eq!([put("b", 1, 1), put("b", 2, 1), put("b", 3, 1)], [Put::Waits, Put::Waits, Put::Full(())]);
        assert_eq!([put("a", 1, 1), put("c", 1, 1)], [Put::Waits, Put::Full(())]);
        for _ in 0..PART_REPEATS {
            assert_eq!(put("a", 1, 1), Put::Waits);
        }
        assert_eq!(put("a", 1, 1), Put::Full(()));
        assert_eq!(put("b", 1, 2), Put::Whole("xx".into(), vec![(); 2]));
        assert_eq!(put("c", 1, 1), Put::Waits, "there is room again");
    }
}
