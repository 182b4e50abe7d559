//! A folder with one database per service.
//!
//! ```text
//! FOLDER/dialtone-store       marker: this folder is ours
//! FOLDER/SERVICE/lock         held while a process has the database open
//! FOLDER/SERVICE/manifest     written when the database was made, and at every opening
//! FOLDER/SERVICE/data/        the engine's files
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dialtone_chassis::Rng;
use dialtone_vocab::SHARDS;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::StoreError;
use crate::embedded::with_meta;
use crate::engine::{Engine, KeyRange, META, Row};
use crate::manifest::Manifest;
use crate::meta::{self, Opened};

/// The file that says that a folder is ours.
pub(crate) const MARKER: &str = "dialtone-store";
const MARKER_TEXT: &str = "A store of Dialtone. Do not change anything in here by hand.\n";
/// Threads of the engine that flush and compact, per database.
const WORKERS: usize = 2;
/// Bytes at the end of each stored value: CRC-32C (RFC 3720, appendix B.4) of key and value.
const CHECKSUM: usize = 4;

pub(crate) struct FileEngine {
    database: Database,
    tables: Vec<(String, Keyspace)>,
    // Unlocked by being dropped, after the database.
    _lock: File,
}

/// Opens or makes the database of `service`, and begins a new epoch.
pub(crate) fn open(
    folder: &Path,
    service: &'static str,
    tables: &[&'static str],
    schema: u32,
    rng: &Rng,
) -> Result<(FileEngine, Opened), StoreError> {
    claim(folder)?;
    let home = folder.join(service);
    fs::create_dir_all(&home).map_err(|error| damaged(&home, &error))?;
    let lock = lock(&home)?;
    let manifest = Manifest::read(&home)?;
    let data = home.join("data");
    match &manifest {
        Some(manifest) => manifest.check(&home, &data, service, schema)?,
        // Made but never finished: nothing in there was ever told to anybody.
        None if data.exists() => fs::remove_dir_all(&data).map_err(|error| damaged(&home, &error))?,
        None => {}
    }
    let engine = FileEngine::open(&home, &data, tables, manifest.as_ref(), lock)?;
    if let Some(manifest) = &manifest {
        let found = meta::epoch(&engine, tables.len())?;
        if found < manifest.epoch {
            return Err(StoreError::WentBack { path: home, seen: manifest.epoch, found });
        }
    }
    let opened = meta::open(&engine, tables.len(), service, schema, rng)?;
    let shards = u32::from(SHARDS);
    let tables = tables.iter().map(ToString::to_string).collect();
    Manifest { schema, shards, epoch: opened.epoch.0, tables }.write(&home)?;
    Ok((engine, opened))
}

/// Sees that the folder is ours, or makes it ours if it is new or empty. Several processes may do so at once: the
/// marker comes before all else, so whoever finds something in the folder looks for it afterwards.
fn claim(folder: &Path) -> Result<(), StoreError> {
    let io = |error: io::Error| match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            StoreError::NotOurs { path: folder.to_owned() }
        }
        _ => damaged(folder, &error),
    };
    fs::create_dir_all(folder).map_err(io)?;
    let is_empty = fs::read_dir(folder).map_err(io)?.next().is_none();
    let marker = folder.join(MARKER);
    if is_empty {
        // In place, without a draft beside it: that it exists is all it says.
        return write_and_sync(&marker, MARKER_TEXT.as_bytes())
            .and_then(|()| sync_folder(folder))
            .map_err(io);
    }
    if marker.try_exists().map_err(io)? {
        Ok(())
    } else {
        Err(StoreError::NotOurs { path: folder.to_owned() })
    }
}

fn lock(home: &Path) -> Result<File, StoreError> {
    let path = home.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| damaged(home, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: home.to_owned() }),
        Err(TryLockError::Error(error)) => Err(damaged(home, &error)),
    }
}

/// Writes a file so that it is there as a whole or not at all, also after a power cut.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    write_and_sync(&draft, content)?;
    fs::rename(&draft, path)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

fn write_and_sync(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(crate) fn damaged(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), why: error.to_string() }
}

impl FileEngine {
    fn open(
        home: &Path,
        data: &Path,
        tables: &[&'static str],
        manifest: Option<&Manifest>,
        lock: File,
    ) -> Result<Self, StoreError> {
        let failed = |error: fjall::Error| match error {
            fjall::Error::Locked => StoreError::Locked { path: home.to_owned() },
            other => damaged(home, &other),
        };
        let database = Database::builder(data).worker_threads(WORKERS).open().map_err(failed)?;
        let known =
            |table: &str| manifest.is_some_and(|it| table == META || it.tables.iter().any(|t| t == table));
        let mut spaces = Vec::new();
        for table in with_meta(tables) {
            if known(table) && !database.keyspace_exists(table) {
                return Err(StoreError::Missing { path: data.join(table) });
            }
            let space = database.keyspace(table, KeyspaceCreateOptions::default).map_err(failed)?;
            spaces.push((table.to_owned(), space));
        }
        Ok(Self { database, tables: spaces, _lock: lock })
    }

    fn open_value(&self, table: usize, key: &[u8], stored: &[u8]) -> Result<Bytes, StoreError> {
        let corrupt = || StoreError::Corrupt { table: self.tables[table].0.clone() };
        let at = stored.len().checked_sub(CHECKSUM).ok_or_else(corrupt)?;
        let (value, sum) = stored.split_at(at);
        if checksum(key, value) != sum { Err(corrupt()) } else { Ok(Bytes::copy_from_slice(value)) }
    }
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM] {
    crc32c::crc32c_append(crc32c::crc32c(key), value).to_be_bytes()
}

fn read_failed(error: &fjall::Error) -> StoreError {
    StoreError::Read { why: error.to_string() }
}

impl Engine for FileEngine {
    fn get(&self, table: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let stored = self.tables[table].1.get(key).map_err(|error| read_failed(&error))?;
        stored.map(|stored| self.open_value(table, key, &stored)).transpose()
    }

    fn scan(
        &self,
        table: usize,
        range: KeyRange,
        limit: usize,
        backwards: bool,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.tables[table].1.range((range.lower, range.upper));
        let row = |guard: fjall::Guard| {
            let (key, stored) = guard.into_inner().map_err(|error| read_failed(&error))?;
            let value = self.open_value(table, &key, &stored)?;
            Ok((Bytes::copy_from_slice(&key), value))
        };
        if backwards {
            rows.rev().take(limit).map(row).collect()
        } else {
            rows.take(limit).map(row).collect()
        }
    }

    fn write(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for row in rows {
            let space = &self.tables[row.table].1;
            match row.value {
                Some(value) => {
                    let mut stored = Vec::with_capacity(value.len() + CHECKSUM);
                    stored.extend_from_slice(&value);
                    stored.extend_from_slice(&checksum(&row.key, &value));
                    batch.insert(space, row.key, stored);
                }
                None => batch.remove(space, row.key),
            }
        }
        batch.commit().map_err(|error| StoreError::Poisoned { why: error.to_string().into() })
    }
}

/// Where a service's manifest lies.
pub(crate) fn manifest_path(home: &Path) -> PathBuf {
    home.join("manifest")
}
