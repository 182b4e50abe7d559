//! The rules of a book: pure.

use std::collections::BTreeSet;

use dialtone_numbers::NumberError;
use dialtone_proto::contacts::v1::Verdict;
use dialtone_vocab::{NumberHash, PhoneNumber, UnixMillis};

use crate::limits::BUDGET_PERIOD;
use crate::rows::{BookRow, BudgetRow, OwedRow, PendingRow};

/// A number as typed, read with its own region or else the request's.
pub(crate) fn read(text: &str, own_region: &str, region: &str) -> Result<PhoneNumber, Verdict> {
    let region = if own_region.is_empty() { region } else { own_region };
    dialtone_numbers::normalise(text, region).map_err(|error| match error {
        NumberError::Malformed => Verdict::Invalid,
        NumberError::Ambiguous => Verdict::Ambiguous,
        NumberError::NeedsCountry | NumberError::UnknownRegion => Verdict::NeedsCountry,
    })
}

/// What is used of the budget now: a period that is over counts no more.
pub(crate) fn used(row: &BudgetRow, now: UnixMillis) -> u32 {
    if now.since(UnixMillis(row.from_ms)) < BUDGET_PERIOD { row.used } else { 0 }
}

/// The budget after `more` numbers were asked; a period begins with its first number.
pub(crate) fn charged(row: &BudgetRow, more: u32, now: UnixMillis) -> BudgetRow {
    match used(row, now) {
        0 => BudgetRow { from_ms: now.0, used: more },
        used => BudgetRow { from_ms: row.from_ms, used: used.saturating_add(more) },
    }
}

/// Where a chunk goes, given the head of the book it was asked on; the head is that after it.
#[derive(Debug, PartialEq)]
pub(crate) struct Placed {
    /// The generation that the chunk goes into.
    pub(crate) generation: u64,
    /// The book's head afterwards; the sizes are not counted yet.
    pub(crate) book: BookRow,
}

/// Puts a chunk: one without a base begins a new generation beside the old one, the last one of it makes it count.
pub(crate) fn place(book: &BookRow, replaces: bool, more: bool) -> Placed {
    let mut book = book.clone();
    if replaces {
        drop_generation(&mut book.dropping, book.building);
        book.last_generation += 1;
        book.building = book.last_generation;
        book.building_size = 0;
        book.removed = 0;
    }
    let generation = if book.building == 0 { book.generation } else { book.building };
    if book.building != 0 && !more {
        drop_generation(&mut book.dropping, book.generation);
        (book.generation, book.size) = (book.building, book.building_size);
        (book.building, book.building_size) = (0, 0);
    }
    Placed { generation, book }
}

/// Charges the budget for a chunk that was answered.
fn charge(book: &mut BookRow, pending: &PendingRow, now: UnixMillis) {
    if pending.fresh > 0 {
        book.budget = Some(charged(&book.budget.unwrap_or_default(), pending.fresh, now));
    }
}

/// A book with another chunk pending. One that was answered and is given up is charged, and is owed to what was asked.
pub(crate) fn answered(book: &BookRow, pending: PendingRow, now: UnixMillis) -> BookRow {
    let mut after = book.clone();
    if let Some(old) = after.pending.replace(pending) {
        charge(&mut after, &old, now);
        after.owed = Some(OwedRow { chunk: Some(old.chunk), ..OwedRow::default() });
    }
    after
}

/// A book whose pending chunk is acknowledged: it is charged, counts from now on, and is owed to the generation.
pub(crate) fn acknowledged(book: &BookRow, pending: &PendingRow, now: UnixMillis) -> BookRow {
    let Placed { generation, book: mut after } = place(book, pending.base.is_empty(), pending.more);
    charge(&mut after, pending, now);
    let size = if after.generation == generation { &mut after.size } else { &mut after.building_size };
    *size = (*size + pending.grown).saturating_sub(pending.shrunk);
    after.removed += pending.shrunk;
    after.chunks += 1;
    after.base.clone_from(&pending.chunk.token);
    after.pending = None;
    after.owed = Some(OwedRow { chunk: Some(pending.chunk.clone()), generation, number: after.chunks });
    after
}

/// A book from which everything is to go, also what a chunk may have noted in the generation to come.
pub(crate) fn forgotten(book: &BookRow, now: UnixMillis) -> BookRow {
    let mut after = book.clone();
    if let Some(pending) = &book.pending {
        charge(&mut after, pending, now);
    }
    let mut dropping = after.dropping;
    drop_generation(&mut dropping, book.generation);
    drop_generation(&mut dropping, book.building);
    drop_generation(&mut dropping, book.last_generation + 1);
    BookRow {
        last_generation: book.last_generation + 1,
        dropping,
        chunks: book.chunks,
        owed: Some(OwedRow::default()),
        swept: book.swept,
        budget: after.budget,
        forgotten: book.forgotten + 1,
        ..BookRow::default()
    }
}

fn drop_generation(dropping: &mut Vec<u64>, generation: u64) {
    if generation != 0 {
        dropping.push(generation);
    }
}

/// The generations that hold something now.
pub(crate) fn live(book: &BookRow) -> impl Iterator<Item = u64> {
    [book.generation, book.building].into_iter().filter(|generation| *generation != 0)
}

/// Whether a generation counted or was begun, and never will count again. Once true it stays so.
pub(crate) fn is_over(book: &BookRow, generation: u64) -> bool {
    generation <= book.last_generation && live(book).all(|live| live != generation)
}

/// A book once what is owed is written.
pub(crate) fn paid(book: &BookRow) -> BookRow {
    let swept = book.pending.as_ref().map_or(book.version, |pending| pending.chunk.over);
    BookRow { owed: None, swept, ..book.clone() }
}

/// Versions of the head over which chunks may have been prepared that nothing will come of: each was prepared to replace
/// that version, and that has been replaced by another.
pub(crate) fn to_sweep(book: &BookRow) -> impl Iterator<Item = u64> {
    let kept = book.pending.as_ref().map(|pending| pending.chunk.over);
    (book.swept..book.version).filter(move |over| Some(*over) != kept)
}

/// Of the removed numbers those that the same chunk doesn't add.
pub(crate) fn removed_for_good(
    removed: BTreeSet<NumberHash>,
    added: &BTreeSet<NumberHash>,
) -> Vec<NumberHash> {
    removed.into_iter().filter(|hash| !added.contains(hash)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_read_in_its_own_country_first() {
        let number = |text| PhoneNumber::parse_e164(text).expect("valid");
        assert_eq!(read("(415) 555-0101", "US", "DE"), Ok(number("+14155550101")));
        assert_eq!(read("0151 12345678", "", "DE"), Ok(number("+4915112345678")));
        assert_eq!(read("0151 12345678", "", ""), Err(Verdict::NeedsCountry));
        assert_eq!(read("0151 12345678", "", "ZZ9"), Err(Verdict::NeedsCountry));
        assert_eq!(read("555-0101", "US", ""), Err(Verdict::Ambiguous));
        assert_eq!(read("Anna", "US", ""), Err(Verdict::Invalid));
    }

    #[test]
    fn the_budget_comes_back_after_its_period() {
        let first = charged(&BudgetRow::default(), 3, UnixMillis(1_000));
        assert_eq!(first, BudgetRow { from_ms: 1_000, used: 3 });
        let later = UnixMillis(1_000).plus(Duration::from_secs(60));
        let second = charged(&first, 4, later);
        assert_eq!(second, BudgetRow { from_ms: 1_000, used: 7 });
        let over = UnixMillis(1_000).plus(BUDGET_PERIOD);
        assert_eq!(used(&second, over), 0);
        assert_eq!(charged(&second, 1, over), BudgetRow { from_ms: over.0, used: 1 });
    }

    #[test]
    fn a_book_in_chunks_counts_with_its_last_one() {
        let first = place(&BookRow::default(), true, true);
        assert_eq!((first.generation, first.book.generation, first.book.building), (1, 0, 1));
        let last = place(&first.book, false, false);
        assert_eq!((last.generation, last.book.generation, last.book.building), (1, 1, 0));
        let change = place(&last.book, false, false);
        assert_eq!((change.generation, &change.book.dropping[..]), (1, &[][..]));
        let again = place(&change.book, true, false);
        assert_eq!((again.generation, again.book.generation, &again.book.dropping[..]), (2, 2, &[1][..]));
    }

    proptest! {
        /// Whatever chunks come: every generation is live, or to be dropped, or was never begun; never two of these.
        #[test]
        fn no_generation_is_lost(chunks in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..20)) {
            let mut book = BookRow::default();
            for (replaces, more, forget) in chunks {
                let replaces = replaces || live(&book).next().is_none();
                let placed = place(&book, replaces, more);
                prop_assert!(live(&placed.book).any(|generation| generation == placed.generation));
                book = if forget { forgotten(&placed.book, UnixMillis(0)) } else { placed.book };
                let mut all: Vec<_> = live(&book).chain(book.dropping.iter().copied()).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (1..=book.last_generation).collect::<Vec<_>>());
            }
        }

        /// Never more is used than was charged, whenever it is looked at.
        #[test]
        fn a_budget_counts_what_was_charged(steps in proptest::collection::vec((0u32..100, 0u64..100), 1..50)) {
            let (mut row, mut now, mut total) = (BudgetRow::default(), UnixMillis(1_000_000), 0);
            for (more, wait) in steps {
                now = now.plus(Duration::from_secs(wait * 86_400 / 10));
                row = charged(&row, more, now);
                total += more;
                prop_assert!(used(&row, now) >= more && used(&row, now) <= total);
            }
        }
    }
}
