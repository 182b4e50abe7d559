//! Deliberate defects: each is one rule broken, and the simulation must catch it. Outside of tests there is none.

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Another's row is closed as soon as its counter is known.
    NoWait,
    /// The wait begins when a counter is first known, and a change of it does not begin it anew.
    CounterReadOnce,
    /// After the wait the shard is taken without closing the old owner's row.
    OldRowLeftOpen,
    /// The lease lasts from the answer of the renewal.
    LeaseFromAnswer,
    /// The lease lasts from the sending of the last try of the renewal.
    LeaseFromLastTry,
    /// The own row is left open when the lease has run out.
    OwnRowLeftOpen,
    /// A shard whose row still has one's own name is held again in its old epoch.
    SameEpochAgain,
    /// A shard counts as held until the row says that it was given back.
    ReleasedAfterRow,
    /// An answer that arrives while the own row is being read is settled by that read.
    CheckUnderWay,
}

/// Which of them is in here.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sabotage(pub Option<Defect>);

impl Sabotage {
    pub(super) fn has(self, defect: Defect) -> bool {
        self.0 == Some(defect)
    }
}
