//! What one replica has, and which of two values of a row stays.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Where a partition is: service, table, partition.
pub(super) type Place = (&'static str, &'static str, Vec<u8>);

/// A row: a value or its deletion, since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) at: i64,
    pub(super) value: Option<Bytes>,
}

impl Cell {
    /// The later one stays; of two of one time a deletion, then the greater value.
    fn beats(&self, other: &Self) -> bool {
        (self.at, self.value.is_none(), &self.value) > (other.at, other.value.is_none(), &other.value)
    }
}

/// Rows of one partition, by the rest of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Partition(pub(super) BTreeMap<Vec<u8>, Cell>);

impl Partition {
    /// Takes what is later.
    pub(super) fn merge<'c>(&mut self, rows: impl IntoIterator<Item = (&'c Vec<u8>, &'c Cell)>) {
        for (rest, cell) in rows {
            match self.0.get_mut(rest) {
                Some(known) if cell.beats(known) => *known = cell.clone(),
                Some(_) => {}
                None => drop(self.0.insert(rest.clone(), cell.clone())),
            }
        }
    }

    /// The rows from `lower` to before `upper`, deletions among them.
    pub(super) fn part(&self, lower: &[u8], upper: Option<&[u8]>) -> Self {
        let from = self.0.range(lower.to_vec()..);
        let until = from.take_while(|(rest, _)| upper.is_none_or(|upper| rest.as_slice() < upper));
        Self(until.map(|(rest, cell)| (rest.clone(), cell.clone())).collect())
    }

    /// The rows that are there.
    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = (&Vec<u8>, &Bytes)> {
        self.0.iter().filter_map(|(rest, cell)| Some((rest, cell.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_write_stays_whichever_comes_first() {
        let cell = |at, value: Option<&'static str>| Cell { at, value: value.map(Bytes::from) };
        let in_order = [cell(1, Some("z")), cell(2, Some("a")), cell(2, Some("b")), cell(2, None)];
        for (at, later) in in_order.iter().enumerate().skip(1) {
            for earlier in &in_order[..at] {
                for both in [[earlier, later], [later, earlier]] {
                    let mut partition = Partition::default();
                    both.iter().for_each(|cell| partition.merge([(&b"k".to_vec(), *cell)]));
                    assert_eq!(partition.0[&b"k"[..]], *later);
                }
            }
        }
    }
}
