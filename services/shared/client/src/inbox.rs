//! What this device has received: pure, no I/O. Takes the entries of the inbox in order, each once, and never shows
//! data whose time is over.

use std::collections::VecDeque;

use dialtone_proto::offline::v1::{Gone, Message};
use dialtone_vocab::UnixMillis;

/// Entries held back while the head waits for its stub; the server's window is 256.
const HELD_MAX: usize = 512;
/// How long the head may wait for its stub before the stream is opened again from the cursor.
const STUB_WITHIN_MS: u64 = 10_000;

/// Something for the application, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Taken {
    /// Show it.
    Show(Message),
    /// `of` is withdrawn: mark it, if it was shown.
    Gone { of: u64 },
}

#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Message(Message),
    Gone(Gone),
}

impl Entry {
    fn idx(&self) -> u64 {
        match self {
            Self::Message(message) => message.idx,
            Self::Gone(gone) => gone.idx,
        }
    }
}

/// The receiving side of a device.
#[derive(Debug)]
pub(crate) struct Inbox {
    cursor: u64,
    held: VecDeque<Entry>,
    held_since: Option<UnixMillis>,
    /// Acknowledged and durable at the server: what this covers can't be withdrawn any more.
    confirmed: u64,
    /// Acknowledged ahead of the cursor.
    promised: u64,
}

impl Inbox {
    /// `cursor`: the last index the device has stored.
    pub(crate) fn new(cursor: u64) -> Self {
        Self { cursor, held: VecDeque::new(), held_since: None, confirmed: 0, promised: 0 }
    }

    /// The last index taken.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// A new stream begins after the cursor: what was held comes again.
    pub(crate) fn reconnected(&mut self) {
        self.held.clear();
        self.held_since = None;
        self.promised = 0;
    }

    /// The server says that the ack up to `idx` is durable.
    pub(crate) fn acked(&mut self, idx: u64, server_now: UnixMillis) -> Vec<Taken> {
        self.confirmed = self.confirmed.max(idx);
        self.release(server_now)
    }

    /// An ack to send ahead of the cursor: for messages that may be shown only when that is durable, as far as their
    /// time is not over. One for all that are held: else each would wait for a write of its own.
    pub(crate) fn promise(&mut self, server_now: UnixMillis) -> Option<u64> {
        let in_time =
            |entry: &&Entry| !matches!(entry, Entry::Message(message) if is_over(message, server_now));
        let last = self.held.iter().take_while(in_time).last()?.idx();
        (last > self.promised).then(|| {
            self.promised = last;
            last
        })
    }

    /// The server says that the log begins or stands elsewhere.
    pub(crate) fn resync(&mut self, cursor: u64) {
        self.cursor = cursor;
        self.reconnected();
    }

    pub(crate) fn message(&mut self, message: Message, server_now: UnixMillis) -> Vec<Taken> {
        self.entry(Entry::Message(message), server_now)
    }

    pub(crate) fn gone(&mut self, gone: Gone, server_now: UnixMillis) -> Vec<Taken> {
        self.entry(Entry::Gone(gone), server_now)
    }

    /// Whether the head has waited too long for its stub: then open the stream again from the cursor.
    pub(crate) fn is_stuck(&self, server_now: UnixMillis) -> bool {
        self.held.len() >= HELD_MAX
            || self.held_since.is_some_and(|since| server_now.0.saturating_sub(since.0) >= STUB_WITHIN_MS)
    }

    fn entry(&mut self, entry: Entry, server_now: UnixMillis) -> Vec<Taken> {
        let next = self.held.back().map_or(self.cursor, Entry::idx) + 1;
        if entry.idx() != next || self.held.len() >= HELD_MAX {
            return Vec::new();
        }
        if let Entry::Gone(gone) = &entry {
            self.drop_held(gone.of);
        }
        self.held.push_back(entry);
        self.release(server_now)
    }

    /// A stub for a message that is still held takes its place.
    fn drop_held(&mut self, of: u64) {
        if let Some(entry) = self.held.iter_mut().find(|entry| entry.idx() == of) {
            *entry = Entry::Gone(Gone { idx: of, of });
            // An ack that met the withdrawal reached no further: those behind need another one.
            self.promised = self.confirmed;
        }
    }

    fn release(&mut self, server_now: UnixMillis) -> Vec<Taken> {
        let mut taken = Vec::new();
        while let Some(head) = self.held.front() {
            let waits = matches!(head, Entry::Message(message)
                if message.show_until_ms != 0 && message.idx > self.confirmed);
            if waits {
                self.held_since.get_or_insert(server_now);
                return taken;
            }
            self.held_since = None;
            let Some(head) = self.held.pop_front() else { break };
            self.cursor = head.idx();
            match head {
                Entry::Message(message) => taken.push(Taken::Show(message)),
                Entry::Gone(gone) if gone.of != 0 && gone.of != gone.idx => {
                    taken.push(Taken::Gone { of: gone.of });
                }
                Entry::Gone(_) => {}
            }
        }
        taken
    }
}

/// Whether a message may not be shown any more: it may be on its way as an SMS.
fn is_over(message: &Message, server_now: UnixMillis) -> bool {
    message.show_until_ms != 0 && server_now.0 >= message.show_until_ms
}

#[cfg(test)]
mod tests {
    use dialtone_testkit::assert_caught;
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseResult;

    use super::*;

    fn message(idx: u64, show_until_ms: u64) -> Message {
        Message { idx, show_until_ms, ..Default::default() }
    }

    #[test]
    fn takes_each_index_once_and_in_order() {
        let mut inbox = Inbox::new(4);
        assert!(inbox.message(message(6, 0), UnixMillis(0)).is_empty());
        assert_eq!(inbox.message(message(5, 0), UnixMillis(0)), [Taken::Show(message(5, 0))]);
        assert!(inbox.message(message(5, 0), UnixMillis(0)).is_empty());
        assert_eq!(inbox.cursor(), 5);
    }

    #[test]
    fn data_whose_time_is_over_waits_for_its_stub() {
        let mut inbox = Inbox::new(0);
        assert!(inbox.message(message(1, 100), UnixMillis(100)).is_empty());
        assert!(inbox.message(message(2, 0), UnixMillis(100)).is_empty());
        assert_eq!(inbox.cursor(), 0);
        assert!(!inbox.is_stuck(UnixMillis(10_099)));
        assert!(inbox.is_stuck(UnixMillis(10_100)));
        assert_eq!(
            inbox.gone(Gone { idx: 3, of: 1 }, UnixMillis(200)),
            [Taken::Show(message(2, 0)), Taken::Gone { of: 1 }]
        );
        assert_eq!(inbox.cursor(), 3);
    }

    #[test]
    fn a_message_with_a_limit_is_shown_when_its_ack_is_durable() {
        let mut inbox = Inbox::new(0);
        assert!(inbox.message(message(1, 100), UnixMillis(50)).is_empty());
        assert_eq!(inbox.promise(UnixMillis(50)), Some(1));
        assert_eq!(inbox.promise(UnixMillis(50)), None, "once");
        assert_eq!(inbox.cursor(), 0, "not taken yet");
        assert_eq!(
            inbox.acked(1, UnixMillis(500)),
            [Taken::Show(message(1, 100))],
            "late, but it can't go as SMS"
        );
        let mut late = Inbox::new(0);
        assert!(late.message(message(1, 100), UnixMillis(100)).is_empty());
        assert_eq!(late.promise(UnixMillis(100)), None, "its time is over: it waits for its stub");
    }

    #[test]
    fn one_ack_is_for_all_that_are_held_and_in_time() {
        let mut inbox = Inbox::new(0);
        for (idx, until) in [(1, 100), (2, 0), (3, 100), (4, 40), (5, 100)] {
            inbox.message(message(idx, until), UnixMillis(10));
        }
        assert_eq!(inbox.promise(UnixMillis(50)), Some(3), "the fourth waits for its stub");
        assert_eq!(inbox.acked(3, UnixMillis(60)).len(), 3);
        assert!(inbox.gone(Gone { idx: 6, of: 4 }, UnixMillis(60)).is_empty());
        assert_eq!(inbox.promise(UnixMillis(60)), Some(6));
    }

    #[test]
    fn an_ack_that_met_a_withdrawal_is_repeated_behind_its_stub() {
        let mut inbox = Inbox::new(0);
        (1..=3).for_each(|idx| assert!(inbox.message(message(idx, 100), UnixMillis(10)).is_empty()));
        assert_eq!(inbox.promise(UnixMillis(10)), Some(3));
        assert_eq!(inbox.acked(1, UnixMillis(20)), [Taken::Show(message(1, 100))], "the second is withdrawn");
        assert!(inbox.gone(Gone { idx: 4, of: 2 }, UnixMillis(20)).is_empty());
        assert_eq!(inbox.promise(UnixMillis(20)), Some(4));
        assert_eq!(inbox.acked(4, UnixMillis(30)), [Taken::Show(message(3, 100)), Taken::Gone { of: 2 }]);
    }

    #[test]
    fn a_shown_message_is_marked() {
        let mut inbox = Inbox::new(0);
        assert!(inbox.message(message(1, 100), UnixMillis(99)).is_empty());
        assert_eq!(inbox.acked(1, UnixMillis(99)).len(), 1);
        assert_eq!(inbox.gone(Gone { idx: 2, of: 1 }, UnixMillis(300)), [Taken::Gone { of: 1 }]);
    }

    /// A rule that the device breaks.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Broken {
        /// It takes what comes, wherever that is.
        Skips,
        /// It shows what has a limit without an ack.
        ShowsLate,
    }

    /// Whatever comes in whatever order with repeats: what is shown is each index once, without a gap, and nothing after
    /// its time that is not acknowledged.
    fn play(order: Vec<(u64, u64)>, broken: Option<Broken>) -> TestCaseResult {
        let mut inbox = Inbox::new(0);
        let mut last = 0;
        for (idx, until) in order {
            if broken == Some(Broken::Skips) && idx > inbox.cursor() {
                inbox.resync(idx - 1);
            }
            let mut all = inbox.message(message(idx, until), UnixMillis(1));
            let acked = match broken {
                Some(Broken::ShowsLate) => Some(idx),
                _ => inbox.promise(UnixMillis(1)),
            };
            if let Some(acked) = acked {
                all.extend(inbox.acked(acked, UnixMillis(1)));
            }
            for taken in all {
                if let Taken::Show(shown) = taken {
                    prop_assert_eq!(shown.idx, last + 1);
                    prop_assert!(shown.show_until_ms != 1, "its time was over");
                    last = shown.idx;
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_shown_has_no_gap(order in orders()) {
            play(order, None)?;
        }
    }

    fn orders() -> impl Strategy<Value = Vec<(u64, u64)>> {
        proptest::collection::vec((1..30_u64, 0..3_u64), 0..200)
    }

    #[test]
    fn a_device_that_skips_an_index_is_caught() {
        assert_caught(&orders(), |order| play(order, Some(Broken::Skips)));
    }

    #[test]
    fn data_shown_after_its_time_is_caught() {
        assert_caught(&orders(), |order| play(order, Some(Broken::ShowsLate)));
    }
}
