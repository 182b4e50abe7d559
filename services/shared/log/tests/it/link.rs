//! One log offers to another over a link that loses, repeats and reorders, while both sides die at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dialtone_log::limits::OFFER_RETRY_MOST;
use dialtone_log::{Back, Offer, Sink, Source, Step};
use dialtone_testkit::assert_caught;
use dialtone_vocab::{LogId, NodeId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

const SOURCE: LogId = LogId::new([1; 16]);

#[derive(Debug, Clone)]
enum Frame {
    Offer(Offer),
    Answer { position: u64, answer: u32 },
    Expected { taken: u64 },
}

#[derive(Debug, Clone)]
enum Op {
    Append {
        gap: u64,
    },
    /// To one node or the other: the receiver may have moved.
    Poll {
        to: &'static str,
    },
    Deliver {
        nth: usize,
    },
    Repeat {
        nth: usize,
    },
    Lose {
        nth: usize,
    },
    SinkSettles,
    SourceSettles,
    MarkIsWritten,
    SourceDies,
    SinkDies,
    Wait {
        ms: u64,
    },
    /// The taking side is put back from a copy that lacks its last entries.
    SinkIsPutBack {
        lacks: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..4_u64).prop_map(|gap| Op::Append { gap }),
        4 => prop_oneof![9 => Just("one"), 1 => Just("two")].prop_map(|to| Op::Poll { to }),
        8 => (0..8_usize).prop_map(|nth| Op::Deliver { nth }),
        2 => (0..8_usize).prop_map(|nth| Op::Repeat { nth }),
        2 => (0..8_usize).prop_map(|nth| Op::Lose { nth }),
        4 => Just(Op::SinkSettles),
        4 => Just(Op::SourceSettles),
        2 => Just(Op::MarkIsWritten),
        1 => Just(Op::SourceDies),
        1 => Just(Op::SinkDies),
        2 => (1..2_000_u64).prop_map(|ms| Op::Wait { ms }),
    ]
}

fn op_or_loss() -> impl Strategy<Value = Op> {
    prop_oneof![30 => op(), 1 => (1..6_usize).prop_map(|lacks| Op::SinkIsPutBack { lacks })]
}

/// A rule that one of the sides breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// Whatever comes after what was taken is taken.
    PrevUnchecked,
    /// How far was taken counts what is under way as well.
    MarkOfUnsettled,
    /// It is answered before it is settled.
    AnsweredEarly,
    /// What was answered is done, whether what follows from it is settled or not.
    DoneUndecided,
}

/// An entry of the taking log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    position: u64,
    prev: u64,
    answer: u32,
}

/// Both sides: what is on disk, and what is in memory and lost with the process.
struct World {
    broken: Option<Broken>,
    now: Duration,
    link: Vec<Frame>,
    // The offering side.
    log: Vec<u64>,
    mark: u64,
    source: Source,
    deciding: Vec<u64>,
    decided: BTreeSet<u64>,
    told: BTreeMap<u64, u32>,
    lost: bool,
    // The taking side.
    taken: Vec<Taken>,
    pushed: Vec<Taken>,
    sink: Sink<u32>,
    next_answer: u32,
}

impl World {
    fn new(broken: Option<Broken>) -> Self {
        Self {
            broken,
            now: Duration::ZERO,
            link: Vec::new(),
            log: Vec::new(),
            mark: 0,
            source: Source::new(0),
            deciding: Vec::new(),
            decided: BTreeSet::new(),
            told: BTreeMap::new(),
            lost: false,
            taken: Vec::new(),
            pushed: Vec::new(),
            sink: Sink::default(),
            next_answer: 0,
        }
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Append { gap } => {
                let position = self.log.last().unwrap_or(&0) + gap;
                self.log.push(position);
                self.source.add(position);
            }
            Op::Poll { to } => {
                self.link.extend(self.source.poll(&NodeId::new(to), self.now).map(Frame::Offer));
            }
            Op::Deliver { nth } if nth < self.link.len() => {
                let frame = self.link.remove(nth);
                self.deliver(frame)?;
            }
            Op::Repeat { nth } if nth < self.link.len() => self.deliver(self.link[nth].clone())?,
            Op::Lose { nth } if nth < self.link.len() => drop(self.link.remove(nth)),
            Op::Deliver { .. } | Op::Repeat { .. } | Op::Lose { .. } => {}
            Op::SinkSettles => self.sink_settles(),
            Op::SourceSettles if !self.deciding.is_empty() => {
                let position = self.deciding.remove(0);
                self.decided.insert(position);
                self.source.done(position);
            }
            Op::SourceSettles => {}
            Op::MarkIsWritten => {
                self.mark = self.mark.max(self.source.settled());
                self.source.mark_written(self.mark);
            }
            Op::SourceDies => {
                self.deciding.clear();
                self.begin_source(self.mark);
            }
            Op::SinkDies => self.begin_sink(),
            Op::Wait { ms } => self.now += Duration::from_millis(ms),
            Op::SinkIsPutBack { lacks } => {
                self.taken.truncate(self.taken.len().saturating_sub(lacks));
                self.lost = true;
                // That takes longer than a frame lives.
                self.link.clear();
                self.told.clear();
                self.begin_sink();
            }
        }
        self.check()
    }

    fn begin_source(&mut self, settled: u64) {
        self.source = Source::new(settled);
        self.log.iter().for_each(|position| self.source.add(*position));
    }

    fn begin_sink(&mut self) {
        let pushed = self.pushed.last().filter(|_| self.broken == Some(Broken::MarkOfUnsettled));
        let marked = pushed.or(self.taken.last()).map_or(0, |taken| taken.position);
        self.pushed.clear();
        self.sink = Sink::default();
        // The marks say how far, the last bucket only some of the answers.
        self.sink.restore_mark(SOURCE, marked);
        for taken in self.taken.iter().rev().take(3) {
            self.sink.restore(SOURCE, taken.position, taken.answer);
        }
    }

    fn sink_settles(&mut self) {
        self.taken.append(&mut self.pushed);
        for answered in self.sink.settled(self.taken.len() as u64) {
            self.link.push(Frame::Answer { position: answered.position, answer: answered.answer });
        }
    }

    fn deliver(&mut self, frame: Frame) -> Result<(), TestCaseError> {
        match frame {
            Frame::Offer(offer) => self.take(&offer),
            Frame::Answer { position, answer } => {
                let first = *self.told.entry(position).or_insert(answer);
                prop_assert_eq!(first, answer, "position {} is always answered the same way", position);
                prop_assert!(
                    self.taken.iter().any(|taken| taken.position == position),
                    "answered, not settled"
                );
                if self.source.answered(position) {
                    self.deciding.push(position);
                    if self.broken == Some(Broken::DoneUndecided) {
                        self.source.done(position);
                    }
                }
            }
            Frame::Expected { taken } => {
                if let Back::Below { taken } = self.source.expected(taken) {
                    self.begin_source(taken);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, offer: &Offer) {
        let mut prev = offer.prev;
        for &position in &offer.positions {
            if self.broken == Some(Broken::PrevUnchecked) {
                let last = self.pushed.last().or(self.taken.last());
                prev = last.map_or(0, |taken| taken.position);
            }
            match self.sink.offered(SOURCE, offer.settled, prev, position) {
                Step::Take { position, prev } => {
                    let answer = self.next_answer;
                    self.next_answer += 1;
                    self.pushed.push(Taken { position, prev, answer });
                    let idx = (self.taken.len() + self.pushed.len()) as u64;
                    self.sink.taking(SOURCE, position, idx, answer);
                    if self.broken == Some(Broken::AnsweredEarly) {
                        self.link.push(Frame::Answer { position, answer });
                    }
                }
                Step::Again { position, answer } => self.link.push(Frame::Answer { position, answer }),
                Step::Wait { .. } => {}
                Step::Look { position } => {
                    let found = self.taken.iter().find(|taken| taken.position == position).copied();
                    // What the source says is behind it was taken, in this log or nowhere.
                    let answer = found.expect("what was taken is in the log").answer;
                    self.sink.recall(SOURCE, position, answer);
                    self.link.push(Frame::Answer { position, answer });
                }
                Step::Expected { taken } => {
                    self.link.push(Frame::Expected { taken });
                    return;
                }
            }
            prev = position;
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let taken: Vec<_> = self.taken.iter().map(|taken| taken.position).collect();
        prop_assert!(self.log.starts_with(&taken), "each once, in order: {taken:?} of {:?}", self.log);
        let mut prev = 0;
        for entry in self.taken.iter().chain(&self.pushed) {
            prop_assert_eq!(entry.prev, prev);
            prev = entry.position;
        }
        let settled = self.source.settled();
        let decided = self.log.iter().take_while(|position| **position <= settled);
        prop_assert!(
            decided.into_iter().all(|it| self.decided.contains(it)),
            "the mark is past the undecided"
        );
        prop_assert!(
            self.lost || settled <= taken.last().copied().unwrap_or(0),
            "settled here, but not taken there"
        );
        Ok(())
    }

    /// The weather clears: then all that was appended is taken and settled.
    fn clears(&mut self) -> Result<(), TestCaseError> {
        self.run(&Op::Append { gap: 1 })?;
        for _ in 0..200 {
            let fair = [
                Op::Wait { ms: 8_000 },
                Op::Poll { to: "one" },
                Op::SinkSettles,
                Op::SourceSettles,
                Op::MarkIsWritten,
            ];
            for op in &fair {
                while !self.link.is_empty() {
                    self.run(&Op::Deliver { nth: 0 })?;
                }
                self.run(op)?;
            }
        }
        prop_assert_eq!(OFFER_RETRY_MOST.as_millis(), 8_000);
        prop_assert!(self.source.is_level());
        let taken: Vec<_> = self.taken.iter().map(|taken| taken.position).collect();
        prop_assert_eq!(&taken, &self.log);
        prop_assert_eq!(self.mark, self.log.last().copied().unwrap_or(0));
        Ok(())
    }
}

/// A whole episode.
fn play(ops: &[Op], broken: Option<Broken>) -> TestCaseResult {
    let mut world = World::new(broken);
    ops.iter().try_for_each(|op| world.run(op))?;
    world.clears()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_position_is_taken_once_and_in_order(ops in vec(op(), 1..150)) {
        play(&ops, None)?;
    }

    #[test]
    fn what_the_receiver_lost_is_offered_again(ops in vec(op_or_loss(), 1..150)) {
        play(&ops, None)?;
    }
}

#[test]
fn taking_whatever_comes_next_is_caught() {
    // Where nothing was lost, one batch at a time leaves no gap.
    assert_caught(&vec(op_or_loss(), 1..150), |ops| play(&ops, Some(Broken::PrevUnchecked)));
}

#[test]
fn a_mark_of_what_is_not_settled_is_caught() {
    assert_caught(&vec(op(), 1..150), |ops| play(&ops, Some(Broken::MarkOfUnsettled)));
}

#[test]
fn an_answer_before_it_is_settled_is_caught() {
    assert_caught(&vec(op(), 1..150), |ops| play(&ops, Some(Broken::AnsweredEarly)));
}

#[test]
fn a_mark_past_the_undecided_is_caught() {
    assert_caught(&vec(op(), 1..150), |ops| play(&ops, Some(Broken::DoneUndecided)));
}
