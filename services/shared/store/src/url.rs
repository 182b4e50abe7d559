//! Where a store is.

use std::fmt;
use std::path::PathBuf;

use crate::file::MARKER;
use crate::replicas::Replicas;
use crate::scylla::Scylla;
use crate::{MemoryDisk, StoreError};

/// Where a store is; see [`StoreUrl::parse`] and [`Scylla::open`]. Clones of a memory address share its disk.
#[derive(Clone)]
pub enum StoreUrl {
    /// A folder with one database per service.
    Folder(PathBuf),
    /// A disk of memory.
    Memory(MemoryDisk),
    /// A CQL server, connected.
    Scylla(Scylla),
    /// Simulated replicas, for tests.
    #[doc(hidden)]
    Replicas(Replicas),
}

impl StoreUrl {
    /// Reads `embedded:FOLDER` or `embedded:memory` (a new, empty disk; all is gone with the process).
    ///
    /// # Errors
    /// [`StoreError::BadUrl`] for anything else.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let bad = |why| StoreError::BadUrl { url: url.to_owned(), why };
        match url.strip_prefix("embedded:") {
            Some("memory") => Ok(Self::Memory(MemoryDisk::new())),
            Some("") => Err(bad("a folder must follow `embedded:`")),
            Some(folder) => Ok(Self::Folder(PathBuf::from(folder))),
            None => Err(bad("write `embedded:FOLDER` or `embedded:memory`")),
        }
    }

    /// Whether a process made this its store before. Memory is always new to a process, a CQL server never: the store
    /// in it was made when it was migrated.
    pub fn was_used(&self) -> bool {
        match self {
            Self::Folder(folder) => folder.join(MARKER).exists(),
            Self::Memory(_) => false,
            Self::Scylla(_) | Self::Replicas(_) => true,
        }
    }

    /// Whether several processes may have it open at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Scylla(_) | Self::Replicas(_))
    }

    /// The address of this disk.
    pub fn memory(disk: &MemoryDisk) -> Self {
        Self::Memory(disk.clone())
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "embedded:{}", folder.display()),
            Self::Memory(_) => f.write_str("embedded:memory"),
            Self::Scylla(scylla) => write!(f, "scylla://{}", scylla.nodes()),
            Self::Replicas(_) => f.write_str("simulated replicas"),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_takes() {
        for (given, shown) in [("embedded:/data", "embedded:/data"), ("embedded:memory", "embedded:memory")] {
            assert_eq!(StoreUrl::parse(given).map(|url| url.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "embedded:", "/data", "mysql://host"] {
            assert!(matches!(StoreUrl::parse(bad), Err(StoreError::BadUrl { .. })), "{bad:?}");
        }
    }
}
