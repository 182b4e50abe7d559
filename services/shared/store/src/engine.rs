//! What holds rows: the little that the writer and the readers need of it.

use std::ops::Bound;

use bytes::Bytes;

use crate::StoreError;

/// The table after the declared ones, for the store's own rows.
pub(crate) const META: &str = "_meta";

/// A range of keys.
pub(crate) struct KeyRange {
    pub(crate) lower: Bound<Vec<u8>>,
    pub(crate) upper: Bound<Vec<u8>>,
}

impl KeyRange {
    /// No key can lie in it; ordered maps may panic on such ranges.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
            (Bound::Included(lower) | Bound::Excluded(lower), Bound::Excluded(upper))
            | (Bound::Excluded(lower), Bound::Included(upper)) => lower >= upper,
            _ => false,
        }
    }
}

/// A row as it is to be: its value, or gone.
pub(crate) struct Row {
    pub(crate) table: usize,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Bytes>,
}

/// Rows in tables, by number: the declared ones in their order, then [`META`].
pub(crate) trait Engine: Send + Sync + 'static {
    fn get(&self, table: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// At most `limit` rows in key order, or backwards.
    fn scan(
        &self,
        table: usize,
        range: KeyRange,
        limit: usize,
        backwards: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Writes all rows or none; on disk when it returns. After an error nobody knows.
    fn write(&self, rows: Vec<Row>) -> Result<(), StoreError>;
}
