//! The taking side: a log that takes each position of each source exactly once. Pure.

use std::collections::BTreeMap;

use dialtone_vocab::LogId;

/// What to do about one position of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<A> {
    /// New: decide how to take it, push the entry (with the source, the position and this `prev` in it), and say
    /// [`Sink::taking`] before looking at the next step. Answer when [`Sink::settled`] says so.
    Take {
        /// The position.
        position: u64,
        /// The last position of that source that was taken before it.
        prev: u64,
    },
    /// Taken and settled before: answer this again.
    Again {
        /// The position.
        position: u64,
        /// As it was answered.
        answer: A,
    },
    /// Taken, its entry is under way: the answer follows by itself.
    Wait {
        /// The position.
        position: u64,
    },
    /// Taken so long ago that the answer is no longer in memory: read the log back to the entry with this source
    /// and position, say [`Sink::recall`], and answer.
    Look {
        /// The position.
        position: u64,
    },
    /// There is a gap before the position: answer with the last position taken, and leave the rest of the offer.
    Expected {
        /// The last position that was taken and is settled.
        taken: u64,
    },
}

/// An answer that may be given now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<A> {
    /// The source that asked.
    pub source: LogId,
    /// The position.
    pub position: u64,
    /// How it was taken.
    pub answer: A,
}

#[derive(Debug)]
struct From<A> {
    /// The last position whose entry is settled.
    taken: u64,
    /// The last position whose entry is settled or under way.
    begun: u64,
    /// Settled at the source: never asked for again.
    forgotten: u64,
    answers: BTreeMap<u64, A>,
}

impl<A> Default for From<A> {
    fn default() -> Self {
        Self { taken: 0, begun: 0, forgotten: 0, answers: BTreeMap::new() }
    }
}

/// What a log has taken from its sources. `A` is the service's kind of answer.
///
/// At opening it is rebuilt from the marks ([`Sink::restore_mark`]) and the entries of the last bucket
/// ([`Sink::restore`]).
#[derive(Debug)]
pub struct Sink<A> {
    sources: BTreeMap<LogId, From<A>>,
    /// Entries under way, by their index in the taking log.
    flight: BTreeMap<u64, Answered<A>>,
}

impl<A> Default for Sink<A> {
    fn default() -> Self {
        Self { sources: BTreeMap::new(), flight: BTreeMap::new() }
    }
}

impl<A: Clone> Sink<A> {
    /// The value of the mark `taken/<source>` as it was found.
    pub fn restore_mark(&mut self, source: LogId, taken: u64) {
        let from = self.sources.entry(source).or_default();
        from.taken = from.taken.max(taken);
        from.begun = from.begun.max(taken);
    }

    /// An entry as it was found at opening, or read back.
    pub fn restore(&mut self, source: LogId, position: u64, answer: A) {
        self.restore_mark(source, position);
        self.recall(source, position, answer);
    }

    /// What to do about a position that is offered; `prev` is the one before it in the offer, and for the first one
    /// what the offer says. `settled` is the offer's.
    pub fn offered(&mut self, source: LogId, settled: u64, prev: u64, position: u64) -> Step<A> {
        let from = self.sources.entry(source).or_default();
        if settled > from.forgotten {
            from.forgotten = settled;
            from.answers = from.answers.split_off(&settled.saturating_add(1));
        }
        if position <= from.taken {
            return match from.answers.get(&position) {
                Some(answer) => Step::Again { position, answer: answer.clone() },
                None => Step::Look { position },
            };
        }
        if position <= from.begun {
            return Step::Wait { position };
        }
        if prev != from.begun {
            return Step::Expected { taken: from.taken };
        }
        Step::Take { position, prev }
    }

    /// The entry that takes a position was pushed and will have index `idx` in this log. Only after [`Step::Take`],
    /// and with growing `idx`.
    pub fn taking(&mut self, source: LogId, position: u64, idx: u64, answer: A) {
        self.sources.entry(source).or_default().begun = position;
        self.flight.insert(idx, Answered { source, position, answer });
    }

    /// The log is settled up to `tail`: what may be answered now, in order. Raise the mark `taken/<source>` for each.
    pub fn settled(&mut self, tail: u64) -> Vec<Answered<A>> {
        let later = self.flight.split_off(&tail.saturating_add(1));
        let settled: Vec<_> = std::mem::replace(&mut self.flight, later).into_values().collect();
        for Answered { source, position, answer } in &settled {
            let from = self.sources.entry(*source).or_default();
            from.taken = from.taken.max(*position);
            from.answers.insert(*position, answer.clone());
        }
        settled
    }

    /// The answer for a position that had to be looked up.
    pub fn recall(&mut self, source: LogId, position: u64, answer: A) {
        let from = self.sources.entry(source).or_default();
        if position > from.forgotten {
            from.answers.insert(position, answer);
        }
    }

    /// The last position of a source that was taken and is settled.
    pub fn taken(&self, source: LogId) -> u64 {
        self.sources.get(&source).map_or(0, |from| from.taken)
    }

    /// Answers kept in memory, of all sources.
    pub fn remembered(&self) -> usize {
        self.sources.values().map(|from| from.answers.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LogId = LogId::new([1; 16]);
    const B: LogId = LogId::new([2; 16]);

    fn answered(source: LogId, position: u64, answer: &'static str) -> Answered<&'static str> {
        Answered { source, position, answer }
    }

    #[test]
    fn takes_in_order_once_and_answers_when_settled() {
        let mut sink = Sink::default();
        assert_eq!(sink.offered(A, 0, 0, 4), Step::Take { position: 4, prev: 0 });
        sink.taking(A, 4, 1, "kept");
        assert_eq!(sink.offered(A, 0, 4, 6), Step::Take { position: 6, prev: 4 });
        sink.taking(A, 6, 2, "declined");
        assert_eq!(sink.offered(A, 0, 0, 4), Step::Wait { position: 4 }, "not answered before it is settled");
        assert_eq!(sink.settled(1), vec![answered(A, 4, "kept")]);
        assert_eq!(sink.offered(A, 0, 0, 4), Step::Again { position: 4, answer: "kept" });
        assert_eq!(sink.offered(A, 0, 4, 6), Step::Wait { position: 6 });
        assert_eq!(sink.settled(9), vec![answered(A, 6, "declined")]);
        assert_eq!((sink.taken(A), sink.taken(B), sink.remembered()), (6, 0, 2));
    }

    #[test]
    fn a_gap_is_answered_with_what_is_settled() {
        let mut sink = Sink::default();
        sink.restore(A, 4, "kept");
        assert_eq!(sink.offered(A, 0, 5, 6), Step::Expected { taken: 4 });
        assert_eq!(sink.offered(A, 0, 0, 6), Step::Expected { taken: 4 });
        assert_eq!(sink.offered(A, 0, 4, 6), Step::Take { position: 6, prev: 4 });
        sink.taking(A, 6, 8, "kept");
        assert_eq!(sink.offered(A, 0, 7, 8), Step::Expected { taken: 4 }, "6 is under way");
        assert_eq!(sink.offered(B, 0, 0, 6), Step::Take { position: 6, prev: 0 }, "each source for itself");
    }

    #[test]
    fn forgets_what_the_source_has_settled_and_looks_it_up_if_asked_all_the_same() {
        let mut sink = Sink::default();
        (1..=3).for_each(|position| sink.restore(A, position, "kept"));
        assert_eq!(sink.offered(A, 2, 3, 4), Step::Take { position: 4, prev: 3 });
        assert_eq!(sink.remembered(), 1);
        assert_eq!(sink.offered(A, 0, 1, 2), Step::Look { position: 2 });
        assert_eq!(sink.offered(A, 0, 2, 3), Step::Again { position: 3, answer: "kept" });
    }

    #[test]
    fn a_mark_alone_says_what_was_taken_but_not_how() {
        let mut sink = Sink::default();
        sink.restore_mark(A, 9);
        assert_eq!(sink.offered(A, 0, 7, 8), Step::Look { position: 8 });
        sink.recall(A, 8, "moved");
        assert_eq!(sink.offered(A, 0, 7, 8), Step::Again { position: 8, answer: "moved" });
        assert_eq!(sink.offered(A, 0, 9, 10), Step::Take { position: 10, prev: 9 });
    }
}
