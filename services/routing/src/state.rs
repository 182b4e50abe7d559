//! What one outbox holds: what was accepted, what became of it, what is still to be done. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_log::{Marks, Source};
use dialtone_proto::bus::v1::offer_answer::Kind as Answer;
use dialtone_proto::log::v1::outbox_entry::Entry as Kind;
use dialtone_proto::log::v1::outbox_message::Route;
use dialtone_proto::log::v1::{
    Decision, OutboxEntry, OutboxMessage, SmsRefinement, Withdraw, decision, withdraw,
};
use dialtone_proto::types::v1::FateKind;
use dialtone_vocab::{DeviceId, UnixMillis, UserId};

use crate::limits::{FALLBACK_MARGIN, FINISHED};

/// A message and what became of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) message: OutboxMessage,
    /// In the log for good.
    pub(crate) settled: bool,
    /// Its withdraw: index, why, and whether the receiver answered that it came too late.
    pub(crate) withdraw: Option<(u64, withdraw::Why)>,
    pub(crate) too_late: bool,
    /// The first decision in log order; under way until settled.
    pub(crate) decision: Option<(decision::Kind, String, bool)>,
    /// The SMS service has it, durably.
    pub(crate) sms_taken: bool,
    /// The last refinement of its SMS.
    pub(crate) sms: Option<FateKind>,
}

impl Sent {
    pub(crate) fn receiver(&self) -> Option<UserId> {
        match &self.message.route {
            Some(Route::Data(data)) => UserId::from_slice(&data.receiver).ok(),
            _ => None,
        }
    }

    /// The number it goes to as SMS.
    pub(crate) fn number(&self) -> &str {
        match &self.message.route {
            Some(Route::Data(data)) => &data.number,
            Some(Route::Sms(sms)) => &sms.number,
            None => "",
        }
    }

    /// Whether it is to go out as SMS now: the route says so, or a settled decision does.
    pub(crate) fn is_sms(&self) -> bool {
        let routed = matches!(self.message.route, Some(Route::Sms(_))) && self.settled;
        routed || matches!(self.decision, Some((decision::Kind::SmsClaimed, _, true)))
    }

    /// Whether a fallback may still be due.
    fn falls_back(&self, delivered: bool) -> bool {
        self.message.show_until_ms != 0 && !delivered && self.decision.is_none() && !self.too_late
    }
}

/// What an entry that just settled asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Tell the sender's device that it is accepted.
    Accepted(u64),
    /// Hand it to the SMS service.
    Submit(u64),
    /// Tell the sender's devices this fate of a message; the entry's index is the cursor.
    Fate { of: u64, idx: u64, kind: FateKind, reason: String },
    /// An offer's answer has been dealt with: this mark of that receiver moves.
    Settled { receiver: UserId, upto: u64 },
    /// A revocation can be answered.
    Revocation(u64),
}

/// What an inbox's answer asks for. Only when that is settled may the mark pass the position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: the position is done.
    Done,
    /// Its message was decided before: done when that decision is settled.
    Decided,
    /// This decision.
    Decide(decision::Kind, String),
    /// It goes as SMS, if the number still is the receiver's.
    Claim,
}

/// The message that an entry speaks of: itself, if it is one.
pub(crate) fn about(idx: u64, entry: &OutboxEntry) -> Option<u64> {
    Some(match entry.entry.as_ref()? {
        Kind::Message(_) => idx,
        Kind::Withdraw(withdraw) => withdraw.of,
        Kind::Decision(decided) => decided.of,
        Kind::Sms(refined) => refined.of,
    })
}

/// What a decision makes of its message.
pub(crate) fn fate(kind: decision::Kind) -> FateKind {
    match kind {
        decision::Kind::SmsClaimed => FateKind::SmsClaimed,
        decision::Kind::Revoked => FateKind::Revoked,
        decision::Kind::Failed | decision::Kind::Unspecified => FateKind::Failed,
    }
}

/// How far a receiver's devices got with what was sent there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

/// One outbox.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) sent: BTreeMap<u64, Sent>,
    pub(crate) sources: BTreeMap<UserId, Source>,
    pub(crate) watermarks: BTreeMap<UserId, Watermark>,
    last_seq: BTreeMap<DeviceId, u64>,
    by_seq: BTreeMap<(DeviceId, u64), u64>,
    /// Withdraw entries: their index → the message.
    withdraws: BTreeMap<u64, u64>,
    /// Entries under way that answers wait for: their index → the positions that are done when it is settled.
    follows: BTreeMap<u64, Vec<(UserId, u64)>>,
    timers: BTreeSet<(UnixMillis, u64)>,
    /// Messages about which something may be still to be done; looked at from the front.
    open: BTreeSet<u64>,
    /// Sends that are not settled, by device.
    unsettled: BTreeMap<DeviceId, usize>,
}

impl Outbox {
    /// What the marks say; the entries follow through [`Outbox::restore`].
    pub(crate) fn of_marks(marks: &Marks) -> Self {
        let mut outbox = Self::default();
        for (device, seq) in marks.of("seq/") {
            if let Ok(device) = <[u8; 4]>::try_from(device) {
                outbox.last_seq.insert(DeviceId(u32::from_be_bytes(device)), seq);
            }
        }
        for (receiver, settled) in marks.of("settled/") {
            if let Ok(receiver) = UserId::from_slice(receiver) {
                outbox.sources.insert(receiver, Source::new(settled));
            }
        }
        for (receiver, idx) in marks.of("delivered/") {
            if let Ok(receiver) = UserId::from_slice(receiver) {
                outbox.watermarks.entry(receiver).or_default().delivered = idx;
            }
        }
        for (receiver, idx) in marks.of("read/") {
            if let Ok(receiver) = UserId::from_slice(receiver) {
                outbox.watermarks.entry(receiver).or_default().read = idx;
            }
        }
        outbox
    }

    /// An entry as it was found at opening, in log order: everything is settled.
    pub(crate) fn restore(&mut self, idx: u64, entry: &OutboxEntry) -> Vec<Next> {
        self.pushed(idx, entry);
        self.settle(idx, entry)
    }

    /// The message of a withdraw that was not answered, if it is not in memory.
    pub(crate) fn is_unanswered(&self, idx: u64, entry: &OutboxEntry) -> Option<u64> {
        let Some(Kind::Withdraw(Withdraw { of, receiver, .. })) = &entry.entry else { return None };
        let settled = UserId::from_slice(receiver).map_or(0, |receiver| self.settled_of(receiver));
        (idx > settled && !self.sent.contains_key(of)).then_some(*of)
    }

    /// An entry of a message that is no longer in memory, which was finished: the message itself, then what stands
    /// behind it. Nothing follows from it again; [`Outbox::restored`] is due after the last one.
    pub(crate) fn recall(&mut self, idx: u64, entry: &OutboxEntry) {
        if let Some(Kind::Message(message)) = &entry.entry {
            self.by_seq.insert((DeviceId(message.device), message.client_seq), idx);
            let sent = Sent { message: message.clone(), settled: true, ..Sent::default() };
            self.sent.entry(idx).or_insert(sent);
            self.open.insert(idx);
        } else {
            self.pushed(idx, entry);
        }
        let Some(sent) = about(idx, entry).and_then(|of| self.sent.get_mut(&of)) else { return };
        if let Some((_, _, settled)) = &mut sent.decision {
            *settled = true;
        }
        sent.sms_taken |= sent.is_sms();
    }

    /// After the entries: a withdraw that is settled without a decision came too late.
    pub(crate) fn restored(&mut self) {
        for sent in self.sent.values_mut() {
            let source = sent.receiver().and_then(|receiver| self.sources.get(&receiver));
            let settled = source.map_or(0, Source::settled);
            if sent.decision.is_none() {
                sent.too_late |= sent.withdraw.is_some_and(|(withdraw, _)| withdraw <= settled);
            }
        }
    }

    /// What the mark says: below it everything was finished, so the SMS service has what goes as SMS.
    pub(crate) fn finished_below(&mut self, floor: u64) {
        for sent in self.sent.range_mut(..floor).map(|(_, sent)| sent) {
            sent.sms_taken |= sent.is_sms();
        }
    }

    /// The last numbers of all devices. At opening they are marks again: those that were found in entries only would
    /// else be forgotten with the bucket.
    pub(crate) fn last_seqs(&self) -> impl Iterator<Item = (DeviceId, u64)> {
        self.last_seq.iter().map(|(device, seq)| (*device, *seq))
    }

    /// The last number of a device, under way or settled.
    pub(crate) fn last_seq(&self, device: DeviceId) -> u64 {
        self.last_seq.get(&device).copied().unwrap_or(0)
    }

    /// Where a device's message stands, if it is in memory.
    pub(crate) fn of_seq(&self, device: DeviceId, seq: u64) -> Option<u64> {
        self.by_seq.get(&(device, seq)).copied()
    }

    /// Sends of a device that are not settled.
    pub(crate) fn unanswered(&self, device: DeviceId) -> usize {
        self.unsettled.get(&device).copied().unwrap_or(0)
    }

    /// An entry got this index and is under way.
    pub(crate) fn pushed(&mut self, idx: u64, entry: &OutboxEntry) {
        match &entry.entry {
            Some(Kind::Message(message)) => {
                let device = DeviceId(message.device);
                let last = self.last_seq.entry(device).or_default();
                *last = message.client_seq.max(*last);
                self.by_seq.insert((device, message.client_seq), idx);
                self.open.insert(idx);
                *self.unsettled.entry(device).or_default() += 1;
                self.sent.insert(idx, Sent { message: message.clone(), ..Sent::default() });
            }
            Some(Kind::Withdraw(Withdraw { of, why, .. })) => {
                self.withdraws.insert(idx, *of);
                if let Some(sent) = self.sent.get_mut(of) {
                    self.open.insert(*of);
                    let why = withdraw::Why::try_from(*why).unwrap_or_default();
                    sent.withdraw.get_or_insert((idx, why));
                }
            }
            Some(Kind::Decision(Decision { of, kind, reason, .. })) => {
                if let Some(sent) = self.sent.get_mut(of) {
                    self.open.insert(*of);
                    let kind = decision::Kind::try_from(*kind).unwrap_or_default();
                    sent.decision.get_or_insert((kind, reason.clone(), false));
                }
            }
            Some(Kind::Sms(_)) | None => {}
        }
    }

    /// An entry is settled: what follows from it.
    pub(crate) fn settle(&mut self, idx: u64, entry: &OutboxEntry) -> Vec<Next> {
        let mut next = self.settle_entry(idx, entry);
        for (receiver, position) in self.follows.remove(&idx).unwrap_or_default() {
            next.extend(self.done(receiver, position));
        }
        next
    }

    fn settle_entry(&mut self, idx: u64, entry: &OutboxEntry) -> Vec<Next> {
        match &entry.entry {
            Some(Kind::Message(message)) => self.settle_message(idx, message),
            Some(Kind::Withdraw(Withdraw { receiver, .. })) => {
                if let Ok(receiver) = UserId::from_slice(receiver) {
                    self.source(receiver).add(idx);
                }
                Vec::new()
            }
            Some(Kind::Decision(Decision { of, kind, reason, .. })) => {
                self.settle_decision(idx, *of, *kind, reason)
            }
            Some(Kind::Sms(SmsRefinement { of, kind, reason, .. })) => {
                let kind = FateKind::try_from(*kind).unwrap_or_default();
                if let Some(sent) = self.sent.get_mut(of) {
                    sent.sms = Some(kind);
                    sent.sms_taken = true;
                }
                vec![Next::Fate { of: *of, idx, kind, reason: reason.clone() }]
            }
            None => Vec::new(),
        }
    }

    fn settle_message(&mut self, idx: u64, message: &OutboxMessage) -> Vec<Next> {
        let mut next = vec![Next::Accepted(idx)];
        let Some(sent) = self.sent.get_mut(&idx) else { return next };
        sent.settled = true;
        if let Some(unsettled) = self.unsettled.get_mut(&DeviceId(message.device)) {
            *unsettled = unsettled.saturating_sub(1);
        }
        match sent.receiver() {
            Some(receiver) => {
                self.source(receiver).add(idx);
                if message.show_until_ms != 0 {
                    self.timers.insert((UnixMillis(message.show_until_ms).plus(FALLBACK_MARGIN), idx));
                }
            }
            None => next.push(Next::Submit(idx)),
        }
        next
    }

    fn settle_decision(&mut self, idx: u64, of: u64, kind: i32, reason: &str) -> Vec<Next> {
        let mut next = Vec::new();
        let kind = decision::Kind::try_from(kind).unwrap_or_default();
        if let Some(sent) = self.sent.get_mut(&of) {
            if let Some((_, _, settled)) = &mut sent.decision {
                *settled = true;
            }
            next.push(Next::Fate { of, idx, kind: fate(kind), reason: reason.to_owned() });
            if kind == decision::Kind::SmsClaimed {
                next.push(Next::Submit(of));
            }
        }
        next.push(Next::Revocation(of));
        next
    }

    fn source(&mut self, receiver: UserId) -> &mut Source {
        self.sources.entry(receiver).or_insert_with(|| Source::new(0))
    }

    /// What follows from the answer for a position is settled.
    pub(crate) fn done(&mut self, receiver: UserId, position: u64) -> Option<Next> {
        self.source(receiver).done(position).map(|upto| Next::Settled { receiver, upto })
    }

    /// The position is done when the entry at `idx` is settled.
    pub(crate) fn follows(&mut self, idx: u64, receiver: UserId, position: u64) {
        self.follows.entry(idx).or_default().push((receiver, position));
    }

    /// The message that a position speaks of: itself, or the one its withdraw names.
    pub(crate) fn message_at(&self, position: u64) -> u64 {
        self.withdraws.get(&position).copied().unwrap_or(position)
    }

    /// An inbox has answered for a position, for the first time: what follows.
    pub(crate) fn answered(&mut self, position: u64, answer: Answer, why: &str) -> Verdict {
        let of = self.message_at(position);
        let Some(sent) = self.sent.get_mut(&of) else { return Verdict::Done };
        if sent.decision.is_some() {
            return Verdict::Decided;
        }
        let because = sent.withdraw.map(|(_, why)| why);
        match answer {
            Answer::Kept => Verdict::Done,
            Answer::Delivered | Answer::Unspecified => {
                sent.too_late = true;
                Verdict::Done
            }
            Answer::NumberMoved => Verdict::Decide(decision::Kind::Failed, "NUMBER_MOVED".into()),
            // A decision's reason is that of the withdraw, if there is one.
            Answer::Declined if because == Some(withdraw::Why::Revoke) => {
                Verdict::Decide(decision::Kind::Revoked, String::new())
            }
            Answer::Declined if sent.message.sms_if_offline => Verdict::Claim,
            Answer::Declined => Verdict::Decide(decision::Kind::Failed, why.to_owned()),
            Answer::Withdrawn if because == Some(withdraw::Why::Fallback) => Verdict::Claim,
            Answer::Withdrawn => Verdict::Decide(decision::Kind::Revoked, String::new()),
        }
    }

    /// Whether the first decision about a message is settled.
    pub(crate) fn is_decided(&self, of: u64) -> bool {
        let decision = self.sent.get(&of).and_then(|sent| sent.decision.as_ref());
        decision.is_none_or(|(_, _, settled)| *settled)
    }

    /// A receiver's devices got further; whether that is news.
    pub(crate) fn watermark(&mut self, receiver: UserId, delivered: u64, read: u64) -> bool {
        let known = self.watermarks.entry(receiver).or_default();
        let before = *known;
        known.delivered = known.delivered.max(delivered);
        known.read = known.read.max(read).min(known.delivered);
        *known != before
    }

    /// Whether a message was delivered, as far as watermarks tell. They are cumulative and pass over what was
    /// withdrawn: of a message with a withdraw only the answer to that tells.
    pub(crate) fn is_delivered(&self, idx: u64) -> bool {
        let Some(sent) = self.sent.get(&idx) else { return false };
        let receiver = sent.receiver().and_then(|receiver| self.watermarks.get(&receiver));
        let covered = receiver.is_some_and(|watermark| watermark.delivered >= idx);
        sent.too_late || (covered && sent.decision.is_none() && sent.withdraw.is_none())
    }

    /// Messages whose fallback is due: each is to be withdrawn.
    pub(crate) fn fallbacks(&mut self, now: UnixMillis) -> Vec<u64> {
        let later = self.timers.split_off(&(UnixMillis(now.0 + 1), 0));
        let due = std::mem::replace(&mut self.timers, later);
        let may = |idx: &u64| {
            let delivered = self.is_delivered(*idx);
            self.sent.get(idx).is_some_and(|sent| sent.withdraw.is_none() && sent.falls_back(delivered))
        };
        due.into_iter().map(|(_, idx)| idx).filter(may).collect()
    }

    /// Whether nothing is to be done about a message any more, and its answers are settled.
    fn is_finished(&self, idx: u64, sent: &Sent) -> bool {
        let last = sent.withdraw.map_or(idx, |(withdraw, _)| withdraw);
        if !sent.settled || sent.receiver().is_some_and(|receiver| self.settled_of(receiver) < last) {
            return false;
        }
        match (&sent.decision, sent.receiver()) {
            (Some((decision::Kind::SmsClaimed, _, settled)), _) => *settled && sent.sms_taken,
            (Some((_, _, settled)), _) => *settled,
            (None, None) => sent.sms_taken,
            (None, Some(_)) => self.is_delivered(idx) || sent.message.show_until_ms == 0,
        }
    }

    /// How far a receiver's answers are settled.
    fn settled_of(&self, receiver: UserId) -> u64 {
        self.sources.get(&receiver).map_or(0, Source::settled)
    }

    /// Below this index everything is finished; what was finished long ago is forgotten.
    pub(crate) fn floor(&mut self) -> u64 {
        while let Some(first) = self.open.first().copied() {
            if self.sent.get(&first).is_some_and(|sent| !self.is_finished(first, sent)) {
                break;
            }
            self.open.pop_first();
        }
        let behind = || self.sent.last_key_value().map_or(0, |(idx, _)| idx + 1);
        let floor = self.open.first().copied().unwrap_or_else(behind);
        while self.sent.len() > FINISHED {
            let Some(oldest) = self.sent.first_entry().filter(|oldest| *oldest.key() < floor) else { break };
            let (_, sent) = oldest.remove_entry();
            self.by_seq.remove(&(DeviceId(sent.message.device), sent.message.client_seq));
            if let Some((withdraw, _)) = sent.withdraw {
                self.withdraws.remove(&withdraw);
            }
        }
        floor
    }

    /// Whether nothing is to be offered, submitted or timed, as of the last look at the floor.
    pub(crate) fn is_level(&self) -> bool {
        self.open.is_empty() && self.sources.values().all(Source::is_level)
    }
}

#[cfg(test)]
mod tests;
