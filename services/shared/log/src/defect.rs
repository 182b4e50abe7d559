//! Deliberate defects: each is one rule broken, and the weather must catch it. Outside of tests there is none.

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// What was written is settled without a look at the lease.
    NoCheck,
    /// The last write found is not written again.
    NoCarry,
    /// The entries of the last write found are written again, a tail that was found is not.
    TailNotCarried,
    /// A write without an answer is given up, and its indexes are used again.
    GivesUp,
    /// The walk begins behind what the tail row says.
    WalkFromTail,
    /// A log all of whose entries are past their time begins with 1.
    BeginsAgain,
    /// How long an entry is kept goes by the clock alone.
    KeepGoesDown,
    /// Due rows are put after their entries.
    DueAfter,
    /// Due rows are not put.
    DueMissing,
    /// Marks that were found are not written again.
    MarksNotAgain,
    /// Along a log epochs may go down.
    EpochsGoDown,
}

/// Which of them is in here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sabotage(pub(crate) Option<Defect>);

impl Sabotage {
    pub(crate) fn has(self, defect: Defect) -> bool {
        self.0 == Some(defect)
    }
}
