//! The rules of a book: pure.

use std::collections::BTreeSet;

use dialtone_numbers::NumberError;
use dialtone_proto::contacts::v1::Verdict;
use dialtone_vocab::{NumberHash, PhoneNumber, UnixMillis};

use crate::limits::BUDGET_PERIOD;
use crate::rows::{BookRow, BudgetRow};

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
    }
    let generation = if book.building == 0 { book.generation } else { book.building };
    if book.building != 0 && !more {
        drop_generation(&mut book.dropping, book.generation);
        (book.generation, book.size) = (book.building, book.building_size);
        (book.building, book.building_size) = (0, 0);
    }
    Placed { generation, book }
}

/// A book from which everything is to go.
pub(crate) fn forgotten(book: &BookRow) -> BookRow {
    let mut dropping = book.dropping.clone();
    drop_generation(&mut dropping, book.generation);
    drop_generation(&mut dropping, book.building);
    BookRow { last_generation: book.last_generation, dropping, ..BookRow::default() }
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
                book = if forget { forgotten(&placed.book) } else { placed.book };
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
