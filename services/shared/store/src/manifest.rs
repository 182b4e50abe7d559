//! What the folder itself remembers of a database, so that data that is missing or was put back is noticed.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use dialtone_vocab::SHARDS;

use crate::StoreError;
use crate::file::{damaged, manifest_path, write_durably};

/// `name value` lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) schema: u32,
    pub(crate) shards: u32,
    pub(crate) epoch: u64,
    pub(crate) tables: Vec<String>,
}

impl Manifest {
    pub(crate) fn read(home: &Path) -> Result<Option<Self>, StoreError> {
        match fs::read_to_string(manifest_path(home)) {
            Ok(text) => match Self::parse(&text) {
                Some(manifest) => Ok(Some(manifest)),
                None => Err(damaged(&manifest_path(home), &"not a manifest")),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(damaged(home, &error)),
        }
    }

    pub(crate) fn write(&self, home: &Path) -> Result<(), StoreError> {
        write_durably(&manifest_path(home), self.to_text().as_bytes()).map_err(|error| damaged(home, &error))
    }

    /// Whether the data that this manifest speaks of can be there and is for this program.
    pub(crate) fn check(
        &self,
        home: &Path,
        data: &Path,
        service: &str,
        schema: u32,
    ) -> Result<(), StoreError> {
        if self.schema != schema {
            let service = service.to_owned();
            return Err(StoreError::WrongSchema { service, found: self.schema, wanted: schema });
        }
        if self.shards != u32::from(SHARDS) {
            return Err(StoreError::WrongShards { found: self.shards, wanted: SHARDS.into() });
        }
        match fs::read_dir(data).map(|mut files| files.next().is_some()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Missing { path: data.to_owned() }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(StoreError::Missing { path: data.to_owned() })
            }
            Err(error) => Err(damaged(home, &error)),
        }
    }

    fn to_text(&self) -> String {
        let Self { schema, shards, epoch, tables } = self;
        format!("schema {schema}\nshards {shards}\nepoch {epoch}\ntables {}\n", tables.join(","))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let manifest = Self {
            schema: field("schema")?.parse().ok()?,
            shards: field("shards")?.parse().ok()?,
            epoch: field("epoch")?.parse().ok()?,
            tables: field("tables")?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        };
        Some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_cut_short() {
        let manifest =
            Manifest { schema: 3, shards: 1024, epoch: 77, tables: vec!["log".into(), "mark".into()] };
        let text = manifest.to_text();
        assert_eq!(Manifest::parse(&text), Some(manifest));
        for cut in 0..text.len() - "log,mark\n".len() {
            assert_eq!(Manifest::parse(&text[..cut]), None, "{cut}");
        }
    }
}
