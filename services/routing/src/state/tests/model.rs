//! An outbox as its actor drives it, with witnesses and with all that was ever pushed beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use dialtone_log::{Back, mark_name};
use dialtone_proto::log::v1::SmsRoute;
use dialtone_vocab::NodeId;

use super::super::*;
use super::event::{Broken, Event};
use super::{DEVICE, data, entry, user};
use crate::ledger::{Count, Ledger};

const FALLBACK: Duration = Duration::from_secs(5);

/// An inbox, as a witness: what it took, and what a device acknowledged.
#[derive(Default)]
pub(super) struct Witness {
    answers: BTreeMap<u64, Answer>,
    acked: u64,
}

/// An outbox as its actor drives it, with all that was ever pushed beside it.
pub(super) struct Model {
    broken: Option<Broken>,
    pub(super) outbox: Outbox,
    now: UnixMillis,
    entries: Vec<OutboxEntry>,
    settled: usize,
    flight: Option<(usize, BTreeMap<Vec<u8>, u64>)>,
    /// As they are to be written, and as they are on disk.
    marks: BTreeMap<Vec<u8>, u64>,
    on_disk: BTreeMap<Vec<u8>, u64>,
    /// The first entry that the marks on disk may not know.
    beyond_marks: u64,
    witnesses: BTreeMap<UserId, Witness>,
    answers: Vec<(UserId, u64, Answer)>,
    /// Whether a device is attached, and the inbox is full; whose number is another's now.
    found: (bool, bool),
    moved: BTreeSet<UserId>,
    handed_over: BTreeSet<u64>,
    sms_waiting: Vec<u64>,
    sent: u64,
}

impl Model {
    pub(super) fn new(broken: Option<Broken>) -> Self {
        Self {
            broken,
            outbox: Outbox::default(),
            now: UnixMillis(1_000_000),
            entries: Vec::new(),
            settled: 0,
            flight: None,
            marks: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            beyond_marks: 1,
            witnesses: BTreeMap::new(),
            answers: Vec::new(),
            found: (true, false),
            moved: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            sms_waiting: Vec::new(),
            sent: 0,
        }
    }

    pub(super) fn happens(&mut self, event: Event) {
        match event {
            Event::Send { to, sms_if_offline } => self.send(to, sms_if_offline),
            Event::Revoke { nth } => {
                let messages: Vec<_> = self.messages().map(|(idx, _)| idx).collect();
                if let Some(of) = messages.iter().rev().nth(nth).filter(|of| **of <= self.settled as u64) {
                    self.recall(*of);
                    self.withdraw(*of, withdraw::Why::Revoke);
                }
            }
            Event::Write { marks } if self.flight.is_none() => {
                let marks = if marks { std::mem::take(&mut self.marks) } else { BTreeMap::new() };
                self.flight = Some((self.entries.len(), marks));
            }
            Event::Write { .. } => {}
            Event::Settle => self.settle(),
            Event::Offer => self.offer(),
            Event::Answer { nth, again } => self.answer(nth, again),
            Event::LoseAnswer { nth } => {
                if nth < self.answers.len() {
                    self.answers.remove(nth);
                }
            }
            Event::Ack { to } => {
                let witness = self.witnesses.entry(user(to)).or_default();
                witness.acked = witness.answers.keys().next_back().copied().unwrap_or(0);
            }
            Event::Watermark { to } => self.watermark(user(to)),
            Event::SmsTaken { nth } => {
                if nth < self.sms_waiting.len() {
                    let idx = self.sms_waiting.remove(nth);
                    if let Some(sent) = self.outbox.sent.get_mut(&idx) {
                        sent.sms_taken = true;
                    }
                }
            }
            Event::Pass { ms } => {
                self.now.0 += ms;
                for idx in self.outbox.fallbacks(self.now) {
                    let message = self.message(idx);
                    assert!(self.now >= UnixMillis(message.show_until_ms).plus(FALLBACK_MARGIN), "too early");
                    self.withdraw(idx, withdraw::Why::Fallback);
                }
            }
            Event::Find { attached, full } => self.found = (attached, full),
            Event::Move { to } => drop(self.moved.insert(user(to))),
            Event::Restart { written, memory } => self.restart(written, memory),
        }
        let floor = self.outbox.floor();
        if floor > 0 {
            self.mark(b"floor".to_vec(), floor);
        }
        assert_eq!(self.outbox.last_seq(DEVICE), self.sent, "what is under way has its number");
    }

    fn mark(&mut self, name: Vec<u8>, value: u64) {
        let mark = self.marks.entry(name).or_default();
        *mark = value.max(*mark);
    }

    fn messages(&self) -> impl Iterator<Item = (u64, &OutboxMessage)> {
        self.entries.iter().zip(1..).filter_map(|(entry, idx)| match &entry.entry {
            Some(Kind::Message(message)) => Some((idx, message)),
            _ => None,
        })
    }

    fn message(&self, of: u64) -> &OutboxMessage {
        self.messages().find(|(idx, _)| *idx == of).expect("a message").1
    }

    fn decisions(&self, of: u64, upto: usize) -> Vec<decision::Kind> {
        let decisions = self.entries[..upto].iter().filter_map(|entry| match &entry.entry {
            Some(Kind::Decision(decision)) if decision.of == of => Some(decision.kind()),
            _ => None,
        });
        decisions.collect()
    }

    fn append(&mut self, kind: Kind) -> u64 {
        let entry = entry(kind);
        self.entries.push(entry.clone());
        let idx = self.entries.len() as u64;
        self.outbox.pushed(idx, &entry);
        idx
    }

    fn send(&mut self, to: u8, sms_if_offline: bool) {
        self.sent += 1;
        let mut message = data(self.sent, user(to));
        if to == 3 {
            message.route = Some(Route::Sms(SmsRoute::default()));
        } else if sms_if_offline {
            message.sms_if_offline = true;
            message.show_until_ms = self.now.plus(FALLBACK).0;
        }
        self.append(Kind::Message(message));
    }

    fn withdraw(&mut self, of: u64, why: withdraw::Why) {
        let may = |sent: &&Sent| sent.withdraw.is_none() || self.broken == Some(Broken::WithdrawnAgain);
        let Some(sent) = self.outbox.sent.get(&of).filter(may) else { return };
        let (Some(receiver), None, false) = (sent.receiver(), &sent.decision, self.outbox.is_delivered(of))
        else {
            return;
        };
        let withdrawn = |entry: &OutboxEntry| matches!(&entry.entry, Some(Kind::Withdraw(it)) if it.of == of);
        assert!(!self.entries.iter().any(withdrawn), "a message has at most one withdraw");
        self.append(Kind::Withdraw(Withdraw { of, why: why.into(), receiver: receiver.to_vec() }));
    }

    /// Reads a message back that is no longer in memory.
    fn recall(&mut self, of: u64) {
        if self.outbox.sent.contains_key(&of) {
            return;
        }
        for (entry, idx) in self.entries[..self.settled].iter().zip(1..) {
            let about = match &entry.entry {
                Some(Kind::Message(_)) => idx,
                Some(Kind::Withdraw(withdraw)) => withdraw.of,
                Some(Kind::Decision(decision)) => decision.of,
                _ => 0,
            };
            if about == of {
                self.outbox.recall(idx, entry);
            }
        }
        self.outbox.restored();
    }

    fn settle(&mut self) {
        let Some((upto, marks)) = self.flight.take() else { return };
        if !marks.is_empty() {
            self.beyond_marks = self.settled as u64 + 1;
        }
        for (name, value) in marks {
            if let Some(receiver) = name.strip_prefix(b"settled/") {
                let receiver = UserId::from_slice(receiver).expect("16 bytes");
                self.outbox.sources.get_mut(&receiver).expect("known").mark_written(value);
            }
            let known = self.on_disk.entry(name).or_default();
            *known = value.max(*known);
        }
        let from = std::mem::replace(&mut self.settled, upto);
        for at in from..upto {
            let entry = self.entries[at].clone();
            let next = self.outbox.settle(at as u64 + 1, &entry);
            next.into_iter().for_each(|next| self.follow(&next));
        }
    }

    fn follow(&mut self, next: &Next) {
        match *next {
            Next::Accepted(idx) => {
                assert!(idx <= self.settled as u64);
                let seq = self.message(idx).client_seq;
                self.mark(mark_name("seq/", &DEVICE.0.to_be_bytes()), seq);
            }
            Next::Submit(of) => self.hand_over(of),
            Next::Fate { of, .. } => {
                assert_eq!(self.decisions(of, self.settled).len(), 1, "told when settled");
            }
            Next::Settled { receiver, upto } => {
                self.check_settled(receiver, upto);
                self.mark(mark_name("settled/", receiver.as_bytes()), upto);
            }
            Next::Revocation(_) => {}
        }
    }

    /// Sent as SMS: its claim is settled, and no device will ever show it.
    fn hand_over(&mut self, of: u64) {
        let sent = &self.outbox.sent[&of];
        if !sent.is_sms() && self.broken != Some(Broken::SmsBeforeClaim) || sent.sms_taken {
            return;
        }
        if let Some(receiver) = sent.receiver() {
            assert_eq!(
                self.decisions(of, self.settled),
                [decision::Kind::SmsClaimed],
                "the claim is settled"
            );
            let witness = &self.witnesses[&receiver];
            let withdrawn = self.withdraw_of(of).and_then(|withdraw| witness.answers.get(&withdraw));
            let never_shown =
                witness.answers[&of] == Answer::Declined || withdrawn == Some(&Answer::Withdrawn);
            assert!(never_shown, "sent both ways");
        }
        self.handed_over.insert(of);
        self.sms_waiting.push(of);
    }

    fn withdraw_of(&self, of: u64) -> Option<u64> {
        let withdraws = self.entries.iter().zip(1..).filter_map(|(entry, idx)| match &entry.entry {
            Some(Kind::Withdraw(withdraw)) if withdraw.of == of => Some(idx),
            _ => None,
        });
        withdraws.last()
    }

    /// The mark passes a position only when what follows from its answer is settled.
    fn check_settled(&self, receiver: UserId, upto: u64) {
        let witness = &self.witnesses[&receiver];
        for (position, answer) in witness.answers.range(..=upto) {
            if matches!(answer, Answer::Declined | Answer::NumberMoved | Answer::Withdrawn) {
                let of = self.message_of(*position);
                assert_eq!(self.decisions(of, self.settled).len(), 1, "{position} has no settled decision");
            }
        }
    }

    fn message_of(&self, position: u64) -> u64 {
        let at = usize::try_from(position - 1).expect("small");
        match &self.entries[at].entry {
            Some(Kind::Withdraw(withdraw)) => withdraw.of,
            _ => position,
        }
    }

    /// Everything that is due goes to its inbox, which takes it in order and once.
    fn offer(&mut self) {
        for to in 1..3 {
            let source = self.outbox.sources.get_mut(&user(to));
            let due = source
                .and_then(|source| source.poll(&NodeId::new("offline"), Duration::from_millis(self.now.0)));
            let Some(due) = due else { continue };
            let mut prev = due.prev;
            for position in due.positions {
                assert!(position <= self.settled as u64, "only what is settled is offered");
                let taken = self.witnesses.entry(user(to)).or_default().answers.keys().next_back().copied();
                let taken = taken.unwrap_or(0);
                if position > taken && prev != taken {
                    let source = self.outbox.sources.get_mut(&user(to)).expect("it offers");
                    assert!(!matches!(source.expected(taken), Back::Below { .. }), "nothing was lost");
                    break;
                }
                let answer = self.witnesses[&user(to)].answers.get(&position).copied();
                let answer = answer.unwrap_or_else(|| self.take(user(to), position));
                self.witnesses.entry(user(to)).or_default().answers.insert(position, answer);
                self.answers.push((user(to), position, answer));
                prev = position;
            }
        }
    }

    fn take(&self, receiver: UserId, position: u64) -> Answer {
        let (of, (attached, full)) = (self.message_of(position), self.found);
        let witness = &self.witnesses[&receiver];
        if of != position {
            let delivered = witness.answers[&of] == Answer::Kept && witness.acked >= of;
            return if delivered { Answer::Delivered } else { Answer::Withdrawn };
        }
        match self.message(of).sms_if_offline && !attached {
            _ if self.moved.contains(&receiver) => Answer::NumberMoved,
            _ if full => Answer::Declined,
            true => Answer::Declined,
            false => Answer::Kept,
        }
    }

    fn answer(&mut self, nth: usize, again: bool) {
        let Some((receiver, position, answer)) = self.answers.get(nth).copied() else { return };
        if !again {
            self.answers.remove(nth);
        }
        let Some(source) = self.outbox.sources.get_mut(&receiver) else { return };
        if !source.answered(position) {
            return;
        }
        let of = self.outbox.message_at(position);
        let (kind, reason) = match self.outbox.answered(position, answer, "MAILBOX_FULL") {
            Verdict::Decide(kind, reason) => (kind, reason),
            Verdict::Claim if self.moved.contains(&receiver) => {
                (decision::Kind::Failed, "NUMBER_MOVED".into())
            }
            Verdict::Claim => (decision::Kind::SmsClaimed, String::new()),
            Verdict::Decided if !self.outbox.is_decided(of) => {
                return self.outbox.follows(self.entries.len() as u64, receiver, position);
            }
            Verdict::Decided | Verdict::Done => {
                let next = self.outbox.done(receiver, position);
                return next.into_iter().for_each(|next| self.follow(&next));
            }
        };
        if self.broken == Some(Broken::DecidedWithoutEntry) {
            let next = self.outbox.done(receiver, position);
            return next.into_iter().for_each(|next| self.follow(&next));
        }
        assert_eq!(self.decisions(of, self.entries.len()), [], "decided once");
        let idx = self.append(Kind::Decision(Decision { of, kind: kind.into(), reason, at_ms: 0 }));
        self.outbox.follows(idx, receiver, position);
        if self.broken == Some(Broken::SmsBeforeClaim) && kind == decision::Kind::SmsClaimed {
            self.hand_over(of);
        }
    }

    /// What the inbox says of its devices: cumulative, and silent about what was withdrawn.
    fn watermark(&mut self, receiver: UserId) {
        let Some(witness) = self.witnesses.get(&receiver) else { return };
        let shown = |(position, answer): (&u64, &Answer)| {
            let withdrawn = self.withdraw_of(*position).and_then(|it| witness.answers.get(&it));
            *answer == Answer::Kept
                && self.message_of(*position) == *position
                && withdrawn != Some(&Answer::Withdrawn)
        };
        let mut acked = witness.answers.range(..=witness.acked).filter(|it| shown(*it));
        let Some((delivered, _)) = acked.next_back() else { return };
        let delivered = *delivered;
        let before = self.outbox.watermarks.get(&receiver).copied().unwrap_or_default();
        self.outbox.watermark(receiver, delivered, delivered / 2);
        let after = self.outbox.watermarks[&receiver];
        assert!(after.delivered >= before.delivered && after.read >= before.read, "never back");
        assert!(after.read <= after.delivered);
        self.mark(mark_name("delivered/", receiver.as_bytes()), after.delivered);
    }

    /// The next process finds what was written, and the marks as far as they were.
    fn restart(&mut self, written: bool, memory: u64) {
        if let Some((upto, marks)) = self.flight.take().filter(|_| written) {
            if !marks.is_empty() {
                self.beyond_marks = self.settled as u64 + 1;
            }
            self.settled = upto;
            for (name, value) in marks {
                let known = self.on_disk.entry(name).or_default();
                *known = value.max(*known);
            }
        }
        self.entries.truncate(self.settled);
        self.marks.clear();
        self.sms_waiting.clear();
        self.sent = self.messages().map(|(_, message)| message.client_seq).max().unwrap_or(0);
        let marks: Marks = self.on_disk.clone().into_iter().collect();
        let tail = self.settled as u64;
        // A log's end is read back to where the marks know everything, or further.
        let first = self.beyond_marks.min(tail.saturating_sub(memory) + 1);
        let from = marks.get("floor").clamp(1, first);
        self.outbox = Outbox::of_marks(&marks);
        let (mut next, mut old) = (Vec::new(), BTreeSet::new());
        for idx in from..=tail {
            let entry = self.entries[usize::try_from(idx - 1).expect("small")].clone();
            next.extend(self.outbox.restore(idx, &entry));
            old.extend(self.outbox.is_unanswered(idx, &entry));
        }
        old.into_iter().for_each(|of| self.recall(of));
        self.outbox.restored();
        self.outbox.finished_below(marks.get("floor"));
        let seqs: Vec<_> = self.outbox.last_seqs().collect();
        for (device, seq) in seqs {
            self.mark(mark_name("seq/", &device.0.to_be_bytes()), seq);
        }
        for next in next {
            if let Next::Submit(of) = next {
                self.hand_over(of);
            }
        }
    }

    /// The weather clears: everything that waits happens, until nothing does.
    pub(super) fn clears(&mut self) {
        for _ in 0..20 {
            for event in [Event::Write { marks: true }, Event::Settle, Event::Offer] {
                self.happens(event);
            }
            while !self.answers.is_empty() {
                self.happens(Event::Answer { nth: 0, again: false });
            }
            for to in 1..3 {
                self.happens(Event::Watermark { to });
            }
            while !self.sms_waiting.is_empty() {
                self.happens(Event::SmsTaken { nth: 0 });
            }
            self.happens(Event::Pass { ms: 10_000 });
        }
    }

    pub(super) fn ledger(&self) -> Ledger {
        let mut count = Count::default();
        for (entry, idx) in self.entries[..self.settled].iter().zip(1..) {
            count.add(idx, entry.clone());
        }
        count.finish(&self.on_disk.clone().into_iter().collect())
    }

    /// Told by the witnesses first, and by the outbox only where they leave it the choice.
    pub(super) fn fates(&self) -> Ledger {
        use decision::Kind::{Failed, Revoked, SmsClaimed};
        let mut ledger = Ledger::default();
        for (idx, message) in self.messages() {
            ledger.accepted += 1;
            let Some(Route::Data(route)) = &message.route else {
                assert!(self.handed_over.contains(&idx));
                ledger.sms += 1;
                continue;
            };
            let witness = &self.witnesses[&UserId::from_slice(&route.receiver).expect("16 bytes")];
            let answer = |position| witness.answers.get(&position).copied();
            let ends: &[decision::Kind] = match (answer(idx), self.withdraw_of(idx).and_then(answer)) {
                (Some(Answer::Kept), None | Some(Answer::Delivered)) => &[],
                (Some(Answer::NumberMoved), None) => &[Failed],
                (Some(Answer::NumberMoved), _) => &[Failed, Revoked],
                _ => &[SmsClaimed, Failed, Revoked],
            };
            let decisions = self.decisions(idx, self.settled);
            assert_eq!(decisions.len(), usize::from(!ends.is_empty()), "{idx} has {decisions:?}");
            assert!(decisions.iter().all(|kind| ends.contains(kind)), "{idx} has {decisions:?}");
            assert_eq!(
                decisions == [SmsClaimed],
                self.handed_over.contains(&idx),
                "sent if and only if claimed"
            );
            match decisions.first() {
                Some(SmsClaimed) => ledger.sms += 1,
                Some(Revoked) => ledger.revoked += 1,
                Some(_) => ledger.failed += 1,
                None if self.withdraw_of(idx).is_some() || witness.acked >= idx => ledger.delivered += 1,
                None => ledger.kept += 1,
            }
        }
        ledger
    }
}
