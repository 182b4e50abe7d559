//! What was sent, accepted, delivered and receipted: pure but for the clock it is given.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use dialtone_proto::edge::v1::ServerFrame;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::offline::v1::Message;

use crate::latency::Latencies;

/// Bytes that a body begins with.
pub(crate) const MARK_BYTES: usize = 24;

/// What a body begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Tells this run's messages from older ones.
    pub(crate) run: u64,
    /// Which message of its pair, from 1.
    pub(crate) number: u64,
    /// When it was due, since the run began.
    pub(crate) due: Duration,
}

impl Mark {
    /// A body of `bytes` with the mark in front.
    pub(crate) fn body(self, bytes: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(bytes.max(MARK_BYTES));
        body.extend_from_slice(&self.run.to_be_bytes());
        body.extend_from_slice(&self.number.to_be_bytes());
        let due = u64::try_from(self.due.as_nanos()).unwrap_or(u64::MAX);
        body.extend_from_slice(&due.to_be_bytes());
        body.resize(bytes.max(MARK_BYTES), b'.');
        body
    }

    /// The mark of a body.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let field = |at: usize| Some(u64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
        Some(Self { run: field(0)?, number: field(8)?, due: Duration::from_nanos(field(16)?) })
    }
}

/// One pair.
#[derive(Default)]
struct Pair {
    sent: u64,
    /// When the messages without an answer were due, in order.
    unanswered: VecDeque<Duration>,
    last_sent_idx: u64,
    receipted_sent_idx: u64,
    /// The highest number received.
    received: u64,
    /// Lower numbers that were passed over.
    missing: BTreeSet<u64>,
}

/// Everything counted in a run. Latencies and rates are of the window only; what is lost or twice, of all.
pub(crate) struct Tally {
    began: Instant,
    run: u64,
    window: Range<Duration>,
    pairs: Vec<Pair>,
    /// From when it was due to when its receiver had it.
    pub(crate) delivery: Latencies,
    /// From when it was due to `Accepted`.
    pub(crate) acceptance: Latencies,
    /// From when it was due to when the transport took it.
    pub(crate) late: Latencies,
    /// `Accepted` within the window.
    pub(crate) accepted: u64,
    /// Messages received within the window.
    pub(crate) delivered: u64,
    /// Messages received again.
    pub(crate) duplicated: u64,
    /// Messages received after a later one.
    pub(crate) misordered: u64,
    /// Sends refused.
    pub(crate) refused: u64,
    /// The first thing that went wrong.
    pub(crate) trouble: Option<String>,
}

impl Tally {
    pub(crate) fn new(began: Instant, run: u64, window: Range<Duration>, pairs: usize) -> Self {
        Self {
            began,
            run,
            window,
            pairs: (0..pairs).map(|_| Pair::default()).collect(),
            delivery: Latencies::new(),
            acceptance: Latencies::new(),
            late: Latencies::new(),
            accepted: 0,
            delivered: 0,
            duplicated: 0,
            misordered: 0,
            refused: 0,
            trouble: None,
        }
    }

    /// When the load begins, once all streams are open.
    pub(crate) fn begin(&mut self, began: Instant) {
        self.began = began;
    }

    /// A message of a pair falls due; the run and its number.
    pub(crate) fn sends(&mut self, pair: usize, due: Duration) -> (u64, u64) {
        let pair = &mut self.pairs[pair];
        pair.sent += 1;
        pair.unanswered.push_back(due);
        (self.run, pair.sent)
    }

    /// The transport takes a message.
    pub(crate) fn taken(&mut self, due: Duration) {
        if self.window.contains(&due) {
            self.late.record(self.began.elapsed().saturating_sub(due));
        }
    }

    /// A frame comes back to a sender.
    pub(crate) fn answer(&mut self, pair: usize, frame: ServerFrame) {
        let now = self.began.elapsed();
        match frame.frame {
            Some(Down::Accepted(accepted)) => {
                self.accepted += u64::from(self.window.contains(&now));
                let pair = &mut self.pairs[pair];
                pair.last_sent_idx = accepted.sent_idx;
                if let Some(due) = pair.unanswered.pop_front()
                    && self.window.contains(&due)
                {
                    self.acceptance.record(now.saturating_sub(due));
                }
            }
            Some(Down::Receipt(receipt)) => {
                let known = &mut self.pairs[pair].receipted_sent_idx;
                *known = receipt.delivered_sent_idx.max(*known);
            }
            Some(Down::Refused(refused)) => {
                self.refused += 1;
                self.broken(&format!("a send was refused: {} {}", refused.reason, refused.message));
            }
            Some(Down::GoAway(go_away)) => self.broken(&format!("told to go away: {}", go_away.reason)),
            _ => {}
        }
    }

    /// A message reaches a receiver.
    pub(crate) fn message(&mut self, pair: usize, message: &Message) {
        let Some(mark) = message.body.as_ref().and_then(|body| Mark::of(&body.content)) else { return };
        if mark.run != self.run {
            return;
        }
        let now = self.began.elapsed();
        let pair = &mut self.pairs[pair];
        if mark.number > pair.received {
            pair.missing.extend(pair.received + 1..mark.number);
            pair.received = mark.number;
        } else if pair.missing.remove(&mark.number) {
            self.misordered += 1;
        } else {
            self.duplicated += 1;
            return;
        }
        self.delivered += u64::from(self.window.contains(&now));
        if self.window.contains(&mark.due) {
            self.delivery.record(now.saturating_sub(mark.due));
        }
    }

    /// Something went wrong; the first is kept.
    pub(crate) fn broken(&mut self, why: &str) {
        self.trouble.get_or_insert_with(|| why.to_owned());
    }

    /// Messages sent and never received.
    pub(crate) fn lost(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.sent - pair.received + pair.missing.len() as u64).sum()
    }

    /// Pairs whose last receipt has not come back.
    pub(crate) fn without_receipt(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.receipted_sent_idx < pair.last_sent_idx).count()
    }

    /// Whether everything has come and was answered.
    pub(crate) fn is_level(&self) -> bool {
        self.lost() == 0
            && self.without_receipt() == 0
            && self.pairs.iter().all(|pair| pair.unanswered.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use dialtone_proto::edge::v1::Receipt;
    use dialtone_proto::routing::v1::Accepted;
    use dialtone_proto::types::v1::Body;

    use super::*;

    const RUN: u64 = 9;

    fn tally(sent: u64) -> Tally {
        let began = dialtone_chassis::Chassis::for_tests(1).clock.instant().into_std();
        let mut tally = Tally::new(began, RUN, Duration::ZERO..Duration::from_secs(60), 1);
        for number in 1..=sent {
            assert_eq!(tally.sends(0, Duration::ZERO), (RUN, number));
        }
        tally
    }

    fn message(run: u64, number: u64) -> Message {
        let content = Mark { run, number, due: Duration::ZERO }.body(100).into();
        Message { body: Some(Body { content, ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn a_mark_comes_back_from_its_body() {
        let mark = Mark { run: 1, number: 2, due: Duration::from_nanos(3) };
        assert_eq!((Mark::of(&mark.body(100)), mark.body(100).len()), (Some(mark), 100));
        assert_eq!(Mark::of(b"short"), None);
    }

    #[test]
    fn loss_repeats_and_disorder_are_told_apart() {
        let mut tally = tally(5);
        for number in [1, 2, 2, 4, 3] {
            tally.message(0, &message(RUN, number));
        }
        assert_eq!((tally.lost(), tally.duplicated, tally.misordered, tally.delivered), (1, 1, 1, 4));
        tally.message(0, &message(RUN + 1, 5));
        assert_eq!(tally.lost(), 1, "of an older run");
        tally.message(0, &message(RUN, 5));
        assert_eq!(tally.lost(), 0);
    }

    #[test]
    fn level_is_accepted_received_and_receipted() {
        let mut tally = tally(1);
        let answer = |frame| ServerFrame { frame: Some(frame) };
        tally.message(0, &message(RUN, 1));
        assert!(!tally.is_level(), "not answered");
        tally.answer(0, answer(Down::Accepted(Accepted { sent_idx: 7, ..Default::default() })));
        assert_eq!(tally.without_receipt(), 1);
        tally.answer(0, answer(Down::Receipt(Receipt { delivered_sent_idx: 7, ..Default::default() })));
        assert!(tally.is_level());
    }
}
