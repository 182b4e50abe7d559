//! An inbox as its actor drives it, with sources beside it and with all that was ever pushed.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;
use super::{message, user, withdraw};

/// What may happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Send { source: usize, sms: bool },
    TakeBack { source: usize, nth: usize },
    Offer { source: usize, skip: usize, wrong: bool, around: Circumstances },
    SourceSettles { source: usize },
    Write { marks: bool },
    Settle,
    Ack { device: u32, idx: u64 },
    Read { with: usize, idx: u64 },
    Taken { source: usize },
    Restart { written: bool, memory: usize, rested: bool },
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let around = any::<[bool; 4]>().prop_map(|[attached, settling_in, full, moved]| Circumstances {
        attached,
        settling_in,
        full: full && moved,
        moved: moved && attached,
        blocked: false,
    });
    let source = || 0..3_usize;
    prop_oneof![
        4 => (source(), any::<bool>()).prop_map(|(source, sms)| Event::Send { source, sms }),
        2 => (source(), 0..6_usize).prop_map(|(source, nth)| Event::TakeBack { source, nth }),
        8 => (source(), 0..4_usize, prop::bool::weighted(0.1), around)
            .prop_map(|(source, skip, wrong, around)| Event::Offer { source, skip, wrong, around }),
        2 => source().prop_map(|source| Event::SourceSettles { source }),
        5 => any::<bool>().prop_map(|marks| Event::Write { marks }),
        5 => Just(Event::Settle),
        3 => (1..3_u32, 0..20_u64).prop_map(|(device, idx)| Event::Ack { device, idx }),
        1 => (source(), 0..20_u64).prop_map(|(with, idx)| Event::Read { with, idx }),
        1 => source().prop_map(|source| Event::Taken { source }),
        1 => (any::<bool>(), 0..8_usize, any::<bool>())
            .prop_map(|(written, memory, rested)| Event::Restart { written, memory, rested }),
    ]
}

/// A log that offers, and what it was answered.
struct Offering {
    log: LogId,
    user: UserId,
    /// Positions have gaps: an outbox has other receivers too.
    entries: Vec<OfferEntry>,
    withdrawn: BTreeSet<u64>,
    /// Entries that are settled at the source.
    settled: usize,
    answers: BTreeMap<u64, Answer>,
    watermark: Watermark,
}

/// A write under way; marks go along with some.
struct Flight {
    upto: usize,
    acks: Vec<(DeviceId, u64)>,
    marks: Option<BTreeMap<LogId, u64>>,
}

/// A rule that the actor breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A device's ack is taken as it comes, whatever is being withdrawn.
    AckBesideWithdrawal,
    /// What is to be withdrawn is, whatever ack is under way.
    WithdrawalBesideAck,
}

/// An inbox as its actor drives it, with all that was ever pushed beside it.
pub(super) struct Model {
    broken: Option<Broken>,
    inbox: Inbox,
    sources: Vec<Offering>,
    entries: Vec<InboxEntry>,
    /// Settled, in the write under way, and written with it.
    settled: usize,
    flight: Option<Flight>,
    /// How far sources were taken: as it is to be written, and as it is on disk.
    marks: BTreeMap<LogId, u64>,
    on_disk: BTreeMap<LogId, u64>,
    /// Entries that the marks on disk know.
    marked: usize,
    acking: Vec<(DeviceId, u64)>,
    acks: BTreeMap<DeviceId, u64>,
    reads: BTreeMap<UserId, u64>,
    /// Everything up to here was told when the sources last knew it all.
    all_told: u64,
    /// The last restart rested on that.
    rested: bool,
}

fn idx(at: usize) -> u64 {
    at as u64 + 1
}

impl Model {
    pub(super) fn new(broken: Option<Broken>) -> Self {
        let offering = |n: u8| Offering {
            log: LogId::new([n; 16]),
            user: user(n),
            entries: Vec::new(),
            withdrawn: BTreeSet::new(),
            settled: 0,
            answers: BTreeMap::new(),
            watermark: Watermark::default(),
        };
        Self {
            broken,
            inbox: Inbox::default(),
            sources: (1..=3).map(offering).collect(),
            entries: Vec::new(),
            settled: 0,
            flight: None,
            marks: BTreeMap::new(),
            on_disk: BTreeMap::new(),
            marked: 0,
            acking: Vec::new(),
            acks: BTreeMap::new(),
            reads: BTreeMap::new(),
            all_told: 0,
            rested: false,
        }
    }

    pub(super) fn happens(&mut self, event: Event) {
        match event {
            Event::Send { source, sms } => {
                let source = &mut self.sources[source];
                let position = source.entries.last().map_or(0, |last| last.position) + 2;
                source.entries.push(message(position, source.user, sms));
            }
            Event::TakeBack { source, nth } => self.take_back(source, nth),
            Event::Offer { source, skip, wrong, around } => self.offer(source, skip, wrong, around),
            Event::SourceSettles { source } => {
                let source = &mut self.sources[source];
                let next = source.entries.get(source.settled);
                source.settled +=
                    usize::from(next.is_some_and(|it| source.answers.contains_key(&it.position)));
            }
            Event::Write { marks } if self.flight.is_none() => {
                let acks = std::mem::take(&mut self.acking);
                let all = marks || !acks.is_empty();
                let marks = all.then(|| std::mem::take(&mut self.marks));
                self.flight = Some(Flight { upto: self.entries.len(), acks, marks });
            }
            Event::Settle => self.settle(),
            Event::Write { .. } => {}
            Event::Ack { device, idx } => self.ack(DeviceId(device), idx),
            Event::Read { with, idx } => self.read(self.sources[with].user, idx),
            Event::Taken { source } => {
                let log = self.sources[source].log;
                let untold = self.inbox.untold().find(|(source, _, _)| *source == log);
                if let Some((_, _, mark)) = untold {
                    let before = std::mem::replace(&mut self.sources[source].watermark, mark);
                    assert!(mark.delivered >= before.delivered, "watermarks never go back");
                    self.inbox.told(log, mark);
                }
                if self.inbox.untold().next().is_none() {
                    self.all_told = self.inbox.counted();
                }
            }
            Event::Restart { written, memory, rested } => self.restart(written, memory, rested),
        }
        self.check_watermarks();
        for stub in self.stubs() {
            assert!(self.inbox.is_stubbed(stub), "{stub} is withdrawn: readers see a stub");
        }
    }

    fn take_back(&mut self, source: usize, nth: usize) {
        let source = &mut self.sources[source];
        let messages = source
            .entries
            .iter()
            .filter(|entry| matches!(entry.entry, Some(offer_entry::Entry::Message(_))))
            .map(|entry| entry.position);
        let Some(of) = messages.rev().nth(nth).filter(|of| source.withdrawn.insert(*of)) else { return };
        let position = source.entries.last().map_or(0, |last| last.position) + 1;
        source.entries.push(withdraw(position, of));
    }

    /// What was withdrawn: the indexes of the messages.
    fn stubs(&self) -> BTreeSet<u64> {
        let withdrawn = self.entries.iter().filter_map(|entry| match &entry.entry {
            Some(Kind::Withdrawn(withdrawal)) => Some(withdrawal.of),
            _ => None,
        });
        withdrawn.collect()
    }

    fn offer(&mut self, source: usize, skip: usize, wrong: bool, around: Circumstances) {
        // The third source is blocked.
        let around = Circumstances { blocked: source == 2, ..around };
        let Offering { log, entries, settled, .. } = &self.sources[source];
        let (log, settled) = (*log, *settled);
        let from = (settled + skip).min(entries.len());
        let position = |at: usize| at.checked_sub(1).map_or(0, |at| entries[at].position);
        let (prev, durable) = (position(from) + u64::from(wrong), position(settled));
        let offered: Vec<_> = entries[from..].to_vec();
        for (prev, entry) in chained(prev, &offered) {
            match self.inbox.sink.offered(log, durable, prev, entry.position) {
                SinkStep::Again { position, answer } => self.told(source, position, answer),
                SinkStep::Wait { position } => {
                    assert!(self.at(log, position).is_some_and(|at| at >= self.settled), "under way");
                }
                SinkStep::Look { position } => {
                    let answer = self.look(log, position).expect("taken");
                    self.told(source, position, answer);
                }
                SinkStep::Expected { taken } => {
                    assert_eq!(taken, self.taken(log), "the last one taken and settled");
                    break;
                }
                SinkStep::Take { position, prev } => {
                    assert!(!wrong || position != offered[0].position, "nothing is taken behind a wrong one");
                    assert_eq!(self.at(log, position), None, "taken once");
                    if !self.take(log, prev, entry, around) {
                        break;
                    }
                }
            }
        }
    }

    fn take(&mut self, source: LogId, prev: u64, offered: &OfferEntry, around: Circumstances) -> bool {
        let mut verdict = self.inbox.decide(source, prev, offered, around);
        if let Verdict::LookFor(of) = verdict {
            self.look(source, of).expect("taken");
            verdict = self.inbox.decide(source, prev, offered, around);
        }
        let is_beside_ack = self.broken == Some(Broken::WithdrawalBesideAck);
        if let (true, Some(offer_entry::Entry::Withdraw(OfferedWithdraw { of }))) =
            (is_beside_ack, &offered.entry)
            && let at = self.at(source, *of).expect("taken")
            && idx(at) > self.acks.values().copied().max().unwrap_or(0)
            && let Verdict::Append(entry, answer) = &mut verdict
        {
            entry.entry = Some(Kind::Withdrawn(Withdrawal { of: idx(at) }));
            *answer = Answer::Withdrawn;
        }
        let Verdict::Append(entry, answer) = verdict else {
            assert!(around.settling_in, "only then it waits: {verdict:?}");
            return false;
        };
        let declined = matches!(answer, Answer::NotAttached | Answer::MailboxFull);
        assert!(!(declined && around.settling_in), "nothing is declined while devices are attaching");
        if let Some(offer_entry::Entry::Withdraw(OfferedWithdraw { of })) = &offered.entry {
            self.check_withdrawal(self.at(source, *of).expect("taken"), answer);
        }
        self.entries.push((*entry).clone());
        self.inbox.taking(self.entries.len() as u64, *entry, answer);
        true
    }

    fn check_withdrawal(&self, at: usize, answer: Answer) {
        let in_flight = self.flight.iter().flat_map(|flight| &flight.acks).chain(&self.acking);
        let acked = self.acks.values().copied().chain(in_flight.map(|(_, idx)| *idx)).max().unwrap_or(0);
        match &self.entries[at].entry {
            Some(Kind::Message(_)) if idx(at) <= acked => assert_eq!(answer, Answer::Delivered, "acked"),
            Some(Kind::Message(_)) => assert_eq!(answer, Answer::Withdrawn, "not acked"),
            Some(Kind::Blocked(_)) => assert_eq!(answer, Answer::Delivered, "no SMS follows a block"),
            _ => {}
        }
    }

    /// Where a position was taken, settled or not.
    fn at(&self, source: LogId, position: u64) -> Option<usize> {
        self.entries.iter().position(|entry| source_of(entry) == Some((source, position)))
    }

    fn taken(&self, source: LogId) -> u64 {
        let settled = self.entries[..self.settled].iter().filter_map(source_of);
        settled.filter(|(log, _)| *log == source).map(|(_, position)| position).max().unwrap_or(0)
    }

    /// Reads the log back.
    fn look(&mut self, source: LogId, position: u64) -> Option<Answer> {
        let at = self.at(source, position).filter(|at| *at < self.settled)?;
        Some(self.inbox.recall(source, position, idx(at), &self.entries[at]))
    }

    fn told(&mut self, source: usize, position: u64, answer: Answer) {
        let log = self.sources[source].log;
        let at = self.at(log, position).expect("what is answered was taken");
        assert!(at < self.settled, "answered when it is settled");
        let before = *self.sources[source].answers.entry(position).or_insert(answer);
        assert_eq!(before, answer, "answered the same again");
    }

    fn settle(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        let (upto, acks) = self.written(flight);
        let entries: Vec<_> =
            self.entries[..upto].iter().zip(1..).map(|(entry, idx)| row(idx, entry)).collect();
        for (device, idx) in acks {
            self.acks.insert(device, idx);
            self.inbox.acked_by(device, idx);
        }
        self.count();
        for Answered { source, position, answer } in self.inbox.settled(upto as u64, &entries) {
            self.mark(source, position);
            let source = self.sources.iter().position(|it| it.log == source).expect("known");
            self.told(source, position, answer);
        }
    }

    fn mark(&mut self, source: LogId, position: u64) {
        let mark = self.marks.entry(source).or_default();
        *mark = position.max(*mark);
    }

    /// A write is on disk.
    fn written(&mut self, flight: Flight) -> (usize, Vec<(DeviceId, u64)>) {
        if let Some(marks) = flight.marks {
            self.marked = self.settled;
            self.on_disk.extend(marks);
        }
        self.settled = flight.upto;
        (flight.upto, flight.acks)
    }

    fn count(&mut self) {
        let Some(beyond) = self.inbox.uncounted() else { return };
        let last = *beyond.end();
        self.count_range(beyond);
        self.inbox.counted_to(last);
    }

    fn count_range(&mut self, beyond: RangeInclusive<u64>) {
        for (entry, idx) in self.entries.iter().zip(1..).filter(|(_, idx)| beyond.contains(idx)) {
            self.inbox.count(idx, entry);
        }
    }

    fn ack(&mut self, device: DeviceId, upto: u64) {
        let as_it_comes =
            (self.broken == Some(Broken::AckBesideWithdrawal)).then_some(upto.min(self.settled as u64));
        let Some(mark) = as_it_comes.or(self.inbox.ack(device, upto, self.settled as u64)) else { return };
        assert!(mark <= upto && mark <= self.settled as u64, "no further than the device and the log");
        for entry in &self.entries[self.settled..] {
            if let Some(Kind::Withdrawn(withdrawal)) = &entry.entry {
                assert!(mark < withdrawal.of, "an ack beside a withdrawal under way");
            }
        }
        self.acking.push((device, mark));
    }

    fn read(&mut self, with: UserId, idx: u64) {
        if let Some(beyond) = self.inbox.read(with, idx) {
            self.reads.insert(with, self.inbox.read_of(with));
            self.count_range(beyond);
        }
    }

    /// The next process finds what was written: the marks lag as far as a log lets them, all but the acks.
    fn restart(&mut self, written: bool, memory: usize, rested: bool) {
        self.rested |= rested;
        if let Some(flight) = self.flight.take().filter(|_| written) {
            let (_, acks) = self.written(flight);
            self.acks.extend(acks);
        }
        self.entries.truncate(self.settled);
        self.acking.clear();
        self.marks.clear();
        // A log's end is read back to where the marks know everything, or further.
        let first = self.settled.saturating_sub(memory).min(self.marked);
        let mut marks = Vec::new();
        for (source, position) in &self.on_disk {
            marks.push((dialtone_log::mark_name("taken/", source.as_bytes()), *position));
        }
        for (device, idx) in &self.acks {
            marks.push((dialtone_log::mark_name("ack/", &device.0.to_be_bytes()), *idx));
        }
        for (user, idx) in &self.reads {
            marks.push((dialtone_log::mark_name("read/", user.as_bytes()), *idx));
        }
        if rested {
            marks.push((b"told".to_vec(), self.all_told));
        }
        let entries: Vec<_> =
            self.entries.iter().zip(1..).skip(first).map(|(entry, idx)| row(idx, entry)).collect();
        self.inbox = Inbox::restore(&marks.into_iter().collect(), &entries);
        for entry in &self.entries[..first] {
            self.inbox.recall_stub(entry);
        }
        let taken: Vec<_> = self.inbox.taken().collect();
        taken.into_iter().for_each(|(source, position)| self.mark(source, position));
        self.count();
    }

    /// What sources are told is what was acknowledged, no more and no less.
    fn check_watermarks(&self) {
        let acked = self.acks.values().copied().max().unwrap_or(0);
        let stubs = self.stubs();
        for offering in &self.sources {
            let (log, read) = (offering.log, self.reads.get(&offering.user).copied().unwrap_or(0));
            let delivered = self.entries.iter().zip(1..).filter(|(entry, idx)| {
                let is_message = matches!(entry.entry, Some(Kind::Message(_)));
                is_message && *idx <= acked && !stubs.contains(idx)
            });
            let positions: Vec<_> =
                delivered.filter_map(|(entry, idx)| Some((source_of(entry)?, idx))).collect();
            let last = |upto: u64| {
                let mine = positions.iter().filter(|((source, _), idx)| *source == log && *idx <= upto);
                mine.map(|((_, position), _)| *position).max().unwrap_or(0)
            };
            let expected = Watermark { delivered: last(acked), read: last(read) };
            let now = self.inbox.sources.get(&log).map_or(Watermark::default(), |source| source.now);
            let known = now.delivered.max(offering.watermark.delivered);
            assert_eq!(known, expected.delivered, "what {log:?} is told or was told");
            assert!(now.read <= expected.read && (self.rested || now.read == expected.read), "{log:?}");
        }
    }
}

fn row(idx: u64, entry: &InboxEntry) -> Entry {
    Entry { idx, kind: 1, content: entry.encode_to_vec().into() }
}
