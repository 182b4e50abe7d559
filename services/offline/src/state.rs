//! What one inbox holds: what it took from whom, who acknowledged it, what was withdrawn. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use dialtone_log::{Answered, Entry, Marks, Sink, Step};
use dialtone_proto::bus::v1::{OfferEntry, OfferedMessage, OfferedWithdraw, offer_entry};
use dialtone_proto::log::v1::inbox_entry::Entry as Kind;
use dialtone_proto::log::v1::{InboxEntry, InboxMessage, Stub, Taken, Withdrawal};
use dialtone_vocab::{DeviceId, LogId, UserId};
use prost::Message;

use crate::limits::{ACKS_AT_ONCE, CACHE, READ_CONVERSATIONS, READS_WAITING};

/// How an offered position was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Kept,
    NotAttached,
    MailboxFull,
    Moved,
    Withdrawn,
    Delivered,
}

/// What is known about the receiver when an offer comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    /// A device is attached.
    pub(crate) attached: bool,
    /// Nothing is declined yet: devices are still attaching.
    pub(crate) settling_in: bool,
    /// No more room.
    pub(crate) full: bool,
    /// The number is no longer this user's.
    pub(crate) moved: bool,
    /// The sender is blocked.
    pub(crate) blocked: bool,
}

/// What becomes of one offered entry.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Append this, and say [`Inbox::taking`] with the index it got.
    Append(Box<InboxEntry>, Answer),
    /// Not yet: offer it again.
    Wait,
    /// The entry it speaks of is older than what is in memory: read back to it first, and say where it is.
    LookFor(u64),
}

/// How far a source's messages got here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Watermark {
    pub(crate) delivered: u64,
    pub(crate) read: u64,
}

#[derive(Debug, Default)]
struct Source {
    user: UserId,
    now: Watermark,
    told: Watermark,
}

/// Where an offered entry stands, and as what.
#[derive(Debug, Clone, Copy)]
struct Place {
    idx: u64,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Message,
    Blocked,
    Other,
}

/// One inbox.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) sink: Sink<Answer>,
    entries: BTreeMap<u64, InboxEntry>,
    places: BTreeMap<(LogId, u64), Place>,
    stubs: BTreeSet<u64>,
    withdrawing: BTreeSet<u64>,
    acks: BTreeMap<DeviceId, u64>,
    acking: BTreeMap<DeviceId, u64>,
    reads: BTreeMap<UserId, u64>,
    /// Reads beyond what is acknowledged on disk.
    wanted: BTreeMap<UserId, u64>,
    sources: BTreeMap<LogId, Source>,
    /// Up to here acknowledged messages count in the watermarks of their sources.
    counted: u64,
}

fn source_of(entry: &InboxEntry) -> Option<(LogId, u64)> {
    let taken = entry.taken.as_ref()?;
    Some((LogId::from_slice(&taken.source).ok()?, taken.position))
}

fn answer_of(entry: &InboxEntry) -> Answer {
    match &entry.entry {
        Some(Kind::Message(_) | Kind::Blocked(_)) | None => Answer::Kept,
        Some(Kind::Declined(stub)) if stub.reason == "MAILBOX_FULL" => Answer::MailboxFull,
        Some(Kind::Declined(_)) => Answer::NotAttached,
        Some(Kind::Moved(_)) => Answer::Moved,
        Some(Kind::Withdrawn(_)) => Answer::Withdrawn,
        Some(Kind::WasDelivered(_)) => Answer::Delivered,
    }
}

fn shape_of(entry: &InboxEntry) -> Shape {
    match &entry.entry {
        Some(Kind::Message(_)) => Shape::Message,
        Some(Kind::Blocked(_)) => Shape::Blocked,
        _ => Shape::Other,
    }
}

impl Inbox {
    /// As it was found at opening.
    pub(crate) fn restore(marks: &Marks, entries: &[Entry]) -> Self {
        let mut inbox = Self::default();
        for (source, taken) in marks.of("taken/") {
            if let Ok(source) = LogId::from_slice(source) {
                inbox.sink.restore_mark(source, taken);
            }
        }
        for (device, idx) in marks.of("ack/") {
            if let Ok(device) = <[u8; 4]>::try_from(device) {
                inbox.acks.insert(DeviceId(u32::from_be_bytes(device)), idx);
            }
        }
        for (user, idx) in marks.of("read/") {
            if let Ok(user) = UserId::from_slice(user) {
                inbox.reads.insert(user, idx);
            }
        }
        for entry in entries {
            let Ok(decoded) = InboxEntry::decode(&entry.content[..]) else { continue };
            if let Some((source, position)) = source_of(&decoded) {
                inbox.sink.restore(source, position, answer_of(&decoded));
            }
            inbox.remember(entry.idx, decoded);
        }
        inbox.counted = marks.get("told");
        inbox.advance(0);
        inbox
    }

    /// Decides how an offered entry is taken. The step is [`Sink`]'s `Take`.
    pub(crate) fn decide(
        &self,
        source: LogId,
        prev: u64,
        offered: &OfferEntry,
        around: Circumstances,
    ) -> Verdict {
        let taken = Some(Taken { source: source.to_vec(), position: offered.position, prev });
        let append =
            |entry, answer| Verdict::Append(Box::new(InboxEntry { taken, entry: Some(entry) }), answer);
        match &offered.entry {
            Some(offer_entry::Entry::Message(message)) => {
                let decline = |reason: &str| Kind::Declined(Stub { reason: reason.into() });
                let nobody = message.sms_if_offline && !around.attached;
                if around.blocked {
                    append(Kind::Blocked(Stub::default()), Answer::Kept)
                } else if around.moved {
                    append(Kind::Moved(Stub::default()), Answer::Moved)
                } else if (nobody || around.full) && around.settling_in {
                    Verdict::Wait
                } else if around.full {
                    append(decline("MAILBOX_FULL"), Answer::MailboxFull)
                } else if nobody {
                    append(decline("NOT_ATTACHED"), Answer::NotAttached)
                } else {
                    append(Kind::Message(kept(message)), Answer::Kept)
                }
            }
            Some(offer_entry::Entry::Withdraw(OfferedWithdraw { of })) => {
                match self.places.get(&(source, *of)) {
                    None => Verdict::LookFor(*of),
                    Some(place) if self.is_final(*place) => {
                        append(Kind::WasDelivered(Withdrawal { of: place.idx }), Answer::Delivered)
                    }
                    Some(place) => append(Kind::Withdrawn(Withdrawal { of: place.idx }), Answer::Withdrawn),
                }
            }
            None => append(Kind::Moved(Stub { reason: "UNKNOWN_ENTRY".into() }), Answer::Moved),
        }
    }

    /// A withdrawal of a message that is past its time here: nobody will be shown it, and nobody can say any more
    /// whether somebody was. So that no SMS follows, it counts as delivered.
    pub(crate) fn too_old(source: LogId, prev: u64, position: u64) -> (Box<InboxEntry>, Answer) {
        let taken = Some(Taken { source: source.to_vec(), position, prev });
        let entry = Some(Kind::WasDelivered(Withdrawal { of: 0 }));
        (Box::new(InboxEntry { taken, entry }), Answer::Delivered)
    }

    /// Whether a message can't be withdrawn any more: an ack of it is known or under way, or its sender is blocked
    /// (who is not to learn it from an SMS).
    fn is_final(&self, place: Place) -> bool {
        let acking = self.acking.values().copied().max().unwrap_or(0);
        match place.shape {
            Shape::Blocked => true,
            Shape::Message => !self.stubs.contains(&place.idx) && place.idx <= self.acked().max(acking),
            Shape::Other => false,
        }
    }

    /// The entry got this index and is under way.
    pub(crate) fn taking(&mut self, idx: u64, entry: InboxEntry, answer: Answer) {
        if let Some((source, position)) = source_of(&entry) {
            self.sink.taking(source, position, idx, answer);
        }
        if let Some(Kind::Withdrawn(Withdrawal { of })) = &entry.entry {
            self.withdrawing.insert(*of);
        }
        self.remember(idx, entry);
    }

    fn remember(&mut self, idx: u64, entry: InboxEntry) {
        if let Some(place) = source_of(&entry) {
            self.places.insert(place, Place { idx, shape: shape_of(&entry) });
            if let Some(Kind::Message(message)) = &entry.entry {
                let source = self.sources.entry(place.0).or_default();
                source.user = UserId::from_slice(&message.sender).unwrap_or_default();
            }
        }
        if let Some(Kind::Withdrawn(Withdrawal { of })) = &entry.entry {
            self.stubs.insert(*of);
        }
        self.entries.insert(idx, entry);
        while self.entries.len() > CACHE {
            if let Some((_, old)) = self.entries.pop_first()
                && let Some(place) = source_of(&old)
            {
                self.places.remove(&place);
            }
        }
    }

    /// A stub that stands beyond memory, for a reader that begins far back.
    pub(crate) fn recall_stub(&mut self, entry: &InboxEntry) {
        if let Some(Kind::Withdrawn(Withdrawal { of })) = &entry.entry {
            self.stubs.insert(*of);
        }
    }

    /// An entry older than memory was read back: its answer is given again, and a withdrawal may speak of it.
    pub(crate) fn recall(&mut self, source: LogId, position: u64, idx: u64, entry: &InboxEntry) -> Answer {
        self.places.insert((source, position), Place { idx, shape: shape_of(entry) });
        let answer = answer_of(entry);
        self.sink.recall(source, position, answer);
        answer
    }

    /// How far sources were taken, as the entries in memory say. At opening this is marks again: what was found in
    /// entries only would else be forgotten with the bucket, and taken twice.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (LogId, u64)> {
        self.entries.values().filter_map(source_of)
    }

    /// The first index in memory.
    pub(crate) fn first_in_memory(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(idx, _)| *idx)
    }

    /// The log is settled up to `tail`: what may be answered now.
    pub(crate) fn settled(&mut self, tail: u64, entries: &[Entry]) -> Vec<Answered<Answer>> {
        for entry in entries {
            if let Some(Kind::Withdrawn(Withdrawal { of })) =
                self.entries.get(&entry.idx).and_then(|entry| entry.entry.as_ref())
            {
                self.withdrawing.remove(of);
            }
        }
        self.sink.settled(tail)
    }

    /// A device says that it stored everything up to `idx`; the mark to write, if it says something new.
    pub(crate) fn ack(&mut self, device: DeviceId, idx: u64, tail: u64) -> Option<u64> {
        let known = self.acks.get(&device).copied().unwrap_or(0);
        let under_way = self.acking.get(&device).copied().unwrap_or(0);
        let idx = idx.min(tail);
        // A message whose withdrawal is under way is not acknowledged: its device will see a stub.
        let idx = self.withdrawing.first().map_or(idx, |of| idx.min(of.saturating_sub(1)));
        (idx > known.max(under_way)).then(|| {
            self.acking.insert(device, idx);
            idx
        })
    }

    /// Acks that are not on disk.
    pub(crate) fn acking(&self) -> impl Iterator<Item = (DeviceId, u64)> {
        self.acking.iter().map(|(device, idx)| (*device, *idx))
    }

    /// Whether a device waits for its ack to be on disk: it shows a message with a limit only then, and one that
    /// catches up needs room in its window.
    pub(crate) fn is_awaited(&self, device: DeviceId, idx: u64) -> bool {
        let known = self.ack_of(device);
        let has_limit = |entry: &InboxEntry| matches!(&entry.entry, Some(Kind::Message(message)) if message.show_until_ms != 0);
        idx - known >= ACKS_AT_ONCE || self.entries.range(known + 1..=idx).any(|(_, entry)| has_limit(entry))
    }

    /// An ack is on disk.
    pub(crate) fn acked_by(&mut self, device: DeviceId, idx: u64) {
        let ack = self.acks.entry(device).or_default();
        *ack = idx.max(*ack);
        if self.acking.get(&device).is_some_and(|under_way| *under_way <= idx) {
            self.acking.remove(&device);
        }
        self.advance(self.counted);
    }

    /// How far a device has acknowledged.
    pub(crate) fn ack_of(&self, device: DeviceId) -> u64 {
        self.acks.get(&device).copied().unwrap_or(0)
    }

    /// How far any device has acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acks.values().copied().max().unwrap_or(0)
    }

    /// A conversation with a user was read up to `idx`. If that is news: what of it is not in memory, to be read and
    /// given to [`Inbox::count`].
    ///
    /// What is read is acknowledged, but the ack may still be on its way to the disk: the read waits for it.
    pub(crate) fn read(&mut self, with: UserId, idx: u64) -> Option<RangeInclusive<u64>> {
        if idx > self.acked() && (self.wanted.len() < READS_WAITING || self.wanted.contains_key(&with)) {
            let wanted = self.wanted.entry(with).or_default();
            *wanted = idx.max(*wanted);
        }
        let idx = idx.min(self.acked());
        let before = self.read_of(with);
        if idx <= before || before == 0 && self.reads.len() >= READ_CONVERSATIONS {
            return None;
        }
        self.reads.insert(with, idx);
        self.advance(before);
        Some(before + 1..=idx.min(self.before_memory()))
    }

    /// Reads that waited for an ack which is on disk now.
    pub(crate) fn wanted(&mut self) -> Vec<(UserId, u64)> {
        let acked = self.acked();
        self.wanted.extract_if(.., |_, idx| *idx <= acked).collect()
    }

    /// How far a conversation with a user was read.
    pub(crate) fn read_of(&self, with: UserId) -> u64 {
        self.reads.get(&with).copied().unwrap_or(0)
    }

    /// Counts what is in memory behind `after` and acknowledged.
    fn advance(&mut self, after: u64) {
        let acked = self.acked();
        for (idx, entry) in self.entries.range(after + 1..).take_while(|(idx, _)| **idx <= acked) {
            raise(&mut self.sources, &self.reads, &self.stubs, *idx, entry);
        }
        if self.counted >= self.before_memory() {
            self.counted = self.counted.max(acked);
        }
    }

    /// The last index that is not in memory.
    fn before_memory(&self) -> u64 {
        self.first_in_memory().map_or(u64::MAX, |first| first - 1)
    }

    /// What was acknowledged, does not count yet and is not in memory: to be read and given to [`Inbox::count`], and
    /// then to [`Inbox::counted_to`].
    pub(crate) fn uncounted(&self) -> Option<RangeInclusive<u64>> {
        let last = self.acked().min(self.before_memory());
        (self.counted < last).then(|| self.counted + 1..=last)
    }

    /// Counts an acknowledged entry that was read back.
    pub(crate) fn count(&mut self, idx: u64, entry: &InboxEntry) {
        if let (Some((source, _)), Some(Kind::Message(message))) = (source_of(entry), &entry.entry) {
            let user = UserId::from_slice(&message.sender).unwrap_or_default();
            self.sources.entry(source).or_default().user = user;
        }
        raise(&mut self.sources, &self.reads, &self.stubs, idx, entry);
    }

    /// Everything acknowledged up to here counts.
    pub(crate) fn counted_to(&mut self, idx: u64) {
        self.counted = self.counted.max(idx);
        self.advance(self.counted);
    }

    /// Up to here acknowledged messages count in the watermarks of their sources.
    pub(crate) fn counted(&self) -> u64 {
        self.counted
    }

    /// Watermarks that their sources have not taken yet.
    pub(crate) fn untold(&self) -> impl Iterator<Item = (LogId, UserId, Watermark)> {
        let untold = self.sources.iter().filter(|(_, source)| source.now != source.told);
        untold
            .filter(|(_, source)| source.user != UserId::default())
            .map(|(log, source)| (*log, source.user, source.now))
    }

    /// A source has taken its watermark.
    pub(crate) fn told(&mut self, source: LogId, watermark: Watermark) {
        if let Some(source) = self.sources.get_mut(&source) {
            source.told.delivered = source.told.delivered.max(watermark.delivered);
            source.told.read = source.told.read.max(watermark.read);
        }
    }

    /// An entry that is in memory.
    pub(crate) fn entry(&self, idx: u64) -> Option<&InboxEntry> {
        self.entries.get(&idx)
    }

    /// Whether readers see a stub in place of the message at this index.
    pub(crate) fn is_stubbed(&self, idx: u64) -> bool {
        self.stubs.contains(&idx)
    }

    /// Whether a withdrawal of this message is under way: it is not pushed then.
    pub(crate) fn is_being_withdrawn(&self, idx: u64) -> bool {
        self.withdrawing.contains(&idx)
    }

    /// Whether nothing is under way or waiting to be told.
    pub(crate) fn is_level(&self) -> bool {
        self.acking.is_empty() && self.untold().next().is_none()
    }
}

/// An acknowledged entry raises the watermark of its source, unless it was withdrawn.
fn raise(
    sources: &mut BTreeMap<LogId, Source>,
    reads: &BTreeMap<UserId, u64>,
    stubs: &BTreeSet<u64>,
    idx: u64,
    entry: &InboxEntry,
) {
    let (Some((source, position)), Some(Kind::Message(_))) = (source_of(entry), &entry.entry) else { return };
    let Some(source) = sources.get_mut(&source).filter(|_| !stubs.contains(&idx)) else { return };
    source.now.delivered = source.now.delivered.max(position);
    if reads.get(&source.user).is_some_and(|read| idx <= *read) {
        source.now.read = source.now.read.max(position);
    }
}

fn kept(message: &OfferedMessage) -> InboxMessage {
    InboxMessage {
        sender: message.sender.clone(),
        from_number: message.from_number.clone(),
        message_id: message.message_id.clone(),
        body: message.body.clone(),
        sent_ms: message.sent_ms,
        show_until_ms: message.show_until_ms,
    }
}

/// The positions of an offer with the one before each.
pub(crate) fn chained(prev: u64, entries: &[OfferEntry]) -> impl Iterator<Item = (u64, &OfferEntry)> {
    let befores = std::iter::once(prev).chain(entries.iter().map(|entry| entry.position));
    befores.zip(entries)
}

/// A shorthand for the sink's step.
pub(crate) type SinkStep = Step<Answer>;

#[cfg(test)]
mod tests;
