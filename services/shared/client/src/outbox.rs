//! What this device has sent and not heard of: pure, no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use dialtone_proto::edge::v1::Refused;
use dialtone_proto::routing::v1::{Accepted, SendRequest};
use dialtone_vocab::{Reason, UnixMillis};

/// The first pause before unanswered sends are repeated; it doubles to [`REPEAT_MAX`].
const REPEAT_FIRST: Duration = Duration::from_secs(1);
/// The longest pause between repeats.
const REPEAT_MAX: Duration = Duration::from_secs(10);

/// Names a send to the application, from the moment it is asked for; sequence numbers may still shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

#[derive(Debug, Clone, PartialEq)]
struct Pending {
    id: SendId,
    request: SendRequest,
}

/// The sends that are not answered yet, in order. The first has the sequence number `next`.
#[derive(Debug)]
pub(crate) struct Outbox {
    next: u64,
    next_id: u64,
    pending: VecDeque<Pending>,
    sent: usize,
    in_flight: usize,
    repeat: Duration,
    repeat_at: UnixMillis,
}

/// What a refusal came to.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It is sent again by itself.
    Repeat,
    /// It will never be accepted; those behind it moved up.
    Final(SendId, Box<SendRequest>),
    /// It speaks of nothing that waits here.
    Unknown,
}

impl Outbox {
    /// `next`: the sequence number of the first pending send; `pending`: those from the journal, in order.
    pub(crate) fn new(next: u64, pending: Vec<SendRequest>, window: usize) -> Self {
        let mut outbox = Self {
            next,
            next_id: 0,
            pending: VecDeque::new(),
            sent: 0,
            in_flight: window,
            repeat: REPEAT_FIRST,
            repeat_at: UnixMillis(u64::MAX),
        };
        for request in pending {
            outbox.push(request);
        }
        outbox
    }

    /// Queues a send.
    pub(crate) fn push(&mut self, request: SendRequest) -> SendId {
        self.next_id += 1;
        let id = SendId(self.next_id);
        self.pending.push_back(Pending { id, request });
        id
    }

    /// What a journal keeps: the next sequence number and the unanswered sends, in order.
    pub(crate) fn snapshot(&self) -> (u64, Vec<SendRequest>) {
        (self.next, self.pending.iter().map(|pending| pending.request.clone()).collect())
    }

    /// What is to be sent now, numbered.
    pub(crate) fn due(&mut self, now: UnixMillis) -> Vec<SendRequest> {
        if now >= self.repeat_at {
            self.sent = 0;
            self.repeat = (self.repeat * 2).min(REPEAT_MAX);
        }
        let first = self.next;
        let until = self.pending.len().min(self.in_flight);
        let due: Vec<_> = (self.sent..until)
            .map(|place| SendRequest {
                client_seq: first + place as u64,
                ..self.pending[place].request.clone()
            })
            .collect();
        if !due.is_empty() {
            self.sent = until;
            self.repeat_at = now.plus(self.repeat);
        }
        due
    }

    /// A new stream: everything unanswered goes again.
    pub(crate) fn reconnected(&mut self) {
        self.sent = 0;
        self.repeat = REPEAT_FIRST;
        self.repeat_at = UnixMillis(u64::MAX);
    }

    /// The server's last number of this device: a device without a journal goes on behind it.
    pub(crate) fn welcomed(&mut self, last: u64) {
        if self.pending.is_empty() {
            self.next = self.next.max(last + 1);
        }
    }

    /// When to look again though nothing comes.
    pub(crate) fn next_repeat(&self) -> Option<UnixMillis> {
        (self.sent > 0).then_some(self.repeat_at)
    }

    /// An answer; the send it answers, if it is the next one. Later ones are answered again after their repeat:
    /// the outbox accepts in order, so an answer beyond the next one means that an answer was lost.
    pub(crate) fn accepted(&mut self, accepted: &Accepted, now: UnixMillis) -> Option<(SendId, SendRequest)> {
        if accepted.client_seq != self.next {
            if accepted.client_seq > self.next {
                self.repeat_at = self.repeat_at.min(now);
            }
            return None;
        }
        let pending = self.pending.pop_front()?;
        self.next += 1;
        self.sent = self.sent.saturating_sub(1);
        self.repeat = REPEAT_FIRST;
        self.repeat_at = if self.sent > 0 { now.plus(self.repeat) } else { UnixMillis(u64::MAX) };
        Some((pending.id, pending.request))
    }

    /// A refusal. One that may pass later is repeated; a final one uses no number, so those behind it move up.
    pub(crate) fn refused(&mut self, refused: &Refused, now: UnixMillis) -> Verdict {
        let Some(place) = refused.client_seq.checked_sub(self.next).map(|place| place as usize) else {
            return Verdict::Unknown;
        };
        if place >= self.pending.len() {
            return Verdict::Unknown;
        }
        if !is_final(&refused.reason) {
            let wait =
                Duration::from_millis(refused.retry_after_ms).clamp(Duration::from_millis(50), REPEAT_MAX);
            self.repeat_at = now.plus(wait);
            return Verdict::Repeat;
        }
        let Some(gone) = self.pending.remove(place) else { return Verdict::Unknown };
        self.sent = self.sent.min(place);
        Verdict::Final(gone.id, Box::new(gone.request))
    }
}

/// Whether the same request can never pass.
fn is_final(reason: &str) -> bool {
    ![
        Reason::SequenceGap,
        Reason::SendBudget,
        Reason::Busy,
        Reason::Timeout,
        Reason::PeerUnavailable,
        Reason::ShuttingDown,
        Reason::StoreUnavailable,
        Reason::SmsBudget,
        Reason::Internal,
    ]
    .iter()
    .any(|passing| passing.as_str() == reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn outbox(n: usize) -> Outbox {
        Outbox::new(1, vec![SendRequest::default(); n], 256)
    }

    fn seqs(requests: &[SendRequest]) -> Vec<u64> {
        requests.iter().map(|request| request.client_seq).collect()
    }

    fn accepted(client_seq: u64) -> Accepted {
        Accepted { client_seq, ..Default::default() }
    }

    fn refused(client_seq: u64, reason: Reason) -> Refused {
        Refused { client_seq, reason: reason.as_str().into(), ..Default::default() }
    }

    #[test]
    fn sends_once_and_again_after_a_reconnect() {
        let mut outbox = outbox(3);
        assert_eq!(seqs(&outbox.due(NOW)), [1, 2, 3]);
        assert!(outbox.due(NOW).is_empty());
        assert!(outbox.accepted(&accepted(1), NOW).is_some());
        outbox.reconnected();
        assert_eq!(seqs(&outbox.due(NOW)), [2, 3]);
    }

    #[test]
    fn silence_repeats_with_growing_pauses() {
        let mut outbox = outbox(1);
        outbox.due(NOW);
        assert!(outbox.due(UnixMillis(1_999)).is_empty());
        assert_eq!(seqs(&outbox.due(UnixMillis(2_000))), [1]);
        assert!(outbox.due(UnixMillis(3_999)).is_empty());
        assert_eq!(seqs(&outbox.due(UnixMillis(4_000))), [1]);
    }

    #[test]
    fn a_final_refusal_moves_the_others_up() {
        let mut outbox = outbox(3);
        outbox.due(NOW);
        assert!(matches!(outbox.refused(&refused(1, Reason::NoSmsText), NOW), Verdict::Final(SendId(1), _)));
        assert_eq!(seqs(&outbox.due(NOW)), [1, 2]);
    }

    #[test]
    fn a_gap_or_a_busy_server_is_repeated() {
        let mut outbox = outbox(2);
        outbox.due(NOW);
        assert_eq!(outbox.refused(&refused(2, Reason::SequenceGap), NOW), Verdict::Repeat);
        assert_eq!(seqs(&outbox.due(NOW.plus(Duration::from_millis(50)))), [1, 2]);
    }

    proptest! {
        /// Against a server that accepts in order and loses anything: every send is accepted once, in order.
        #[test]
        fn every_send_is_accepted_once_in_order(losses in proptest::collection::vec(any::<(bool, bool)>(), 0..60)) {
            let mut outbox = outbox(10);
            let (mut taken, mut told) = (0u64, Vec::new());
            let mut now = NOW;
            let mut losses = losses.into_iter();
            for _ in 0..500 {
                for request in outbox.due(now) {
                    let (lose_request, lose_answer) = losses.next().unwrap_or_default();
                    if lose_request || request.client_seq > taken + 1 { continue }
                    taken = taken.max(request.client_seq);
                    if lose_answer { continue }
                    told.extend(outbox.accepted(&accepted(request.client_seq), now).map(|(id, _)| id.0));
                }
                now = now.plus(Duration::from_secs(1));
            }
            prop_assert_eq!(told, (1..=10).collect::<Vec<_>>());
            prop_assert_eq!(taken, 10);
        }
    }
}
