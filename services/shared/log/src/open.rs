//! How a log is opened: which of the rows found are the log, and where it ends.
//!
//! Pure. Several owners may have written, one after the other, and an owner's last write may or may not be there.
//! At each index the row of the highest epoch counts, and along the log epochs never go down: a row behind one of
//! a higher epoch was written by an owner that had already been replaced. What is neither is a ghost.

use dialtone_vocab::{Epoch, UnixMillis};

use crate::defect::{Defect, Sabotage};
use crate::rows::Row;

/// What the rows of the end of a log come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    /// The live entries in order, without a gap.
    pub(crate) rows: Vec<Row>,
    /// The last index of the log; 0 for a log that nobody wrote to.
    pub(crate) tail: u64,
    /// Rows that are not the log: ignored, and left alone.
    pub(crate) ghosts: usize,
}

/// Walks over what was read of the end of a log. `tail_row` is the highest index that was ever written: it counts
/// only when nothing is alive. A row past its `keep_until` is no entry, but shows who has owned the log.
pub(crate) fn walk(rows: Vec<Row>, tail_row: u64, now: UnixMillis) -> Walk {
    walk_sabotaged(rows, tail_row, now, Sabotage::default())
}

/// As [`walk`], with deliberate defects.
pub(crate) fn walk_sabotaged(mut rows: Vec<Row>, tail_row: u64, now: UnixMillis, sabotage: Sabotage) -> Walk {
    if sabotage.has(Defect::WalkFromTail) {
        rows.retain(|row| row.idx >= tail_row);
    }
    rows.sort_by_key(|row| (row.idx, row.epoch));
    let read = rows.iter().filter(|row| row.keep_until > now).count();
    let mut log: Vec<Row> = Vec::new();
    let mut best: Vec<Row> = Vec::new();
    for row in rows {
        match best.last_mut() {
            Some(last) if last.idx == row.idx => *last = row,
            _ => best.push(row),
        }
    }
    // What is past its time still shows who has owned the log: a ghost must not outlive the row that makes it one.
    let mut owned = Epoch(0);
    for row in best {
        let is_ghost = row.epoch < owned && !sabotage.has(Defect::EpochsGoDown);
        match log.last() {
            None if is_ghost || row.keep_until <= now => owned = row.epoch.max(owned),
            Some(last) if is_ghost || row.keep_until <= now || row.idx != last.idx + 1 => break,
            _ => {
                owned = row.epoch;
                log.push(row);
            }
        }
    }
    let tail_row = if sabotage.has(Defect::BeginsAgain) { 0 } else { tail_row };
    let tail = log.last().map_or(tail_row, |last| last.idx);
    Walk { tail, ghosts: read - log.len(), rows: log }
}

impl Walk {
    /// The last write found, as its new owner writes it once more before anything else: same entries, same times,
    /// own epoch. Whoever opens the log later then finds it, whatever the old owner's write came to.
    pub(crate) fn carry(&self, epoch: Epoch) -> Vec<Row> {
        let Some(last) = self.rows.last() else { return Vec::new() };
        let write = self.rows.iter().filter(|row| row.idx >= last.first);
        write.map(|row| Row { epoch, ..row.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn row(idx: u64, epoch: u64, first: u64, content: &str) -> Row {
        let content = Bytes::copy_from_slice(content.as_bytes());
        Row { idx, epoch: Epoch(epoch), first, keep_until: UnixMillis(100), kind: 0, content }
    }

    fn ends(rows: Vec<Row>) -> (u64, usize) {
        let walk = walk(rows, 0, UnixMillis(0));
        (walk.tail, walk.ghosts)
    }

    #[test]
    fn nothing_is_an_empty_log_and_everything_expired_ends_at_the_tail_row() {
        assert_eq!(walk(vec![], 0, UnixMillis(0)).tail, 0);
        let walked = walk(vec![row(7, 1, 7, "a")], 7, UnixMillis(100));
        assert_eq!((walked.tail, walked.rows.len()), (7, 0), "the index never begins again");
    }

    #[test]
    fn stops_at_a_hole_and_where_epochs_go_down() {
        assert_eq!(ends(vec![row(1, 1, 1, "a"), row(2, 1, 2, "b"), row(4, 1, 4, "d")]), (2, 1));
        assert_eq!(ends(vec![row(1, 2, 1, "a"), row(2, 1, 2, "stale")]), (1, 1));
        assert_eq!(ends(vec![row(1, 1, 1, "a"), row(2, 1, 2, "stale"), row(2, 3, 2, "b")]), (2, 1));
        assert_eq!(ends(vec![row(1, 1, 1, "a"), row(1, 4, 1, "a"), row(2, 1, 2, "b")]), (1, 2));
    }

    #[test]
    fn a_ghost_does_not_outlive_the_row_that_makes_it_one() {
        let past = |row| Row { keep_until: UnixMillis(10), ..row };
        let rows = vec![past(row(1, 3, 1, "carried")), row(2, 1, 2, "stale"), row(3, 4, 3, "c")];
        let walked = walk(rows[..2].to_vec(), 2, UnixMillis(50));
        assert_eq!((walked.tail, walked.rows.len(), walked.ghosts), (2, 0, 1));
        assert_eq!(walk(rows, 3, UnixMillis(50)).rows, [row(3, 4, 3, "c")], "and hides nothing");
        let rows = vec![row(1, 1, 1, "stale"), past(row(1, 2, 1, "a"))];
        assert_eq!(walk(rows, 1, UnixMillis(50)).rows, []);
    }

    #[test]
    fn carries_the_whole_last_write_and_nothing_else() {
        let rows = vec![row(1, 1, 1, "a"), row(2, 1, 2, "b"), row(3, 1, 2, "c")];
        let carried = walk(rows, 3, UnixMillis(0)).carry(Epoch(5));
        assert_eq!(carried, vec![row(2, 5, 2, "b"), row(3, 5, 2, "c")]);
        assert!(walk(vec![], 9, UnixMillis(0)).carry(Epoch(5)).is_empty());
    }

    /// When an owner's last write, which it never heard of again, reaches the disk.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Arrives {
        Never,
        Before,
        AfterTheNextOpening,
    }

    /// What an owner does in its time: whole writes, one after the other.
    #[derive(Debug, Clone)]
    struct Reign {
        writes: Vec<u8>,
        last: Arrives,
        opens: bool,
    }

    fn reign() -> impl Strategy<Value = Reign> {
        let last =
            prop_oneof![Just(Arrives::Never), Just(Arrives::Before), Just(Arrives::AfterTheNextOpening)];
        (proptest::collection::vec(1..5_u8, 0..4), last, proptest::bool::weighted(0.8))
            .prop_map(|(writes, last, opens)| Reign { writes, last, opens })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_settled_stays_and_a_replaced_owner_adds_nothing(
            reigns in proptest::collection::vec(reign(), 1..10),
        ) {
            let mut disk: Vec<Row> = Vec::new();
            let mut late: Vec<Row> = Vec::new();
            let mut settled: Vec<Bytes> = Vec::new();
            let mut owner = 0;
            for (reign, epoch) in reigns.into_iter().zip(1..) {
                let tail_row = disk.iter().map(|row| row.idx).max().unwrap_or(0);
                let opened = walk(disk.clone(), tail_row, UnixMillis(0));
                let found: Vec<_> = opened.rows.iter().map(|row| row.content.clone()).collect();
                prop_assert!(found.starts_with(&settled), "lost or changed: {settled:?} of {found:?}");
                // In an empty log there is nothing to carry: then a first write may still come late.
                let of_owner = if settled.is_empty() { String::new() } else { format!("{owner}/") };
                let rest = &found[settled.len()..];
                prop_assert!(rest.iter().all(|it| it.starts_with(of_owner.as_bytes())), "{rest:?} after {owner}");
                if !reign.opens {
                    continue; // died while opening
                }
                disk.extend(opened.carry(Epoch(epoch)));
                // Too late: this owner has told where the log ends.
                disk.append(&mut late);
                (settled, owner) = (found, epoch);
                let count = reign.writes.len();
                for (nth, entries) in reign.writes.into_iter().enumerate() {
                    let first = settled.len() as u64 + 1;
                    let write = (first..first + u64::from(entries))
                        .map(|idx| row(idx, epoch, first, &format!("{epoch}/{idx}")));
                    if nth + 1 < count {
                        disk.extend(write.clone());
                        settled.extend(write.map(|row| row.content));
                    } else if reign.last == Arrives::Before {
                        disk.extend(write);
                    } else if reign.last == Arrives::AfterTheNextOpening {
                        late.extend(write);
                    }
                }
            }
        }
    }
}
