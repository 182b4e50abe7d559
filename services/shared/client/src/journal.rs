//! What a device must not forget: what it sent and was not answered, and how far it has stored its inbox.
#![expect(clippy::disallowed_types, reason = "written by one session at a time, read when the next begins")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dialtone_proto::routing::v1::SendRequest;
use prost::Message;

/// What a journal holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    /// The sequence number of the first of `pending`.
    pub next_seq: u64,
    /// Sends without an answer, in order.
    pub pending: Vec<SendRequest>,
    /// The inbox's log id; empty before the first session.
    pub inbox_log: Vec<u8>,
    /// The last inbox index stored.
    pub inbox_idx: u64,
    /// The outbox's log id.
    pub outbox_log: Vec<u8>,
    /// The last outbox event seen.
    pub outbox_idx: u64,
}

/// Where a device keeps [`Saved`]. `save` returns when it would survive the device's death.
pub trait Journal: Send + 'static {
    /// What was saved last; the default for a new device.
    ///
    /// # Errors
    /// Whatever reading costs.
    fn load(&mut self) -> io::Result<Saved>;

    /// Replaces what is saved.
    ///
    /// # Errors
    /// Whatever writing costs; nothing that rests on it is told or acknowledged then.
    fn save(&mut self, saved: &Saved) -> io::Result<()>;
}

/// A journal in memory; its clones outlive the session it is given to: for clients that go offline and come back.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::disallowed_types,
    reason = "written by one session at a time, read when the next one begins"
)]
pub struct SharedJournal(Arc<Mutex<Saved>>);

impl Journal for SharedJournal {
    fn load(&mut self) -> io::Result<Saved> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn save(&mut self, saved: &Saved) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(saved);
        Ok(())
    }
}

/// A journal in one file, replaced by renaming.
#[derive(Debug)]
pub struct FileJournal(PathBuf);

/// The file's shape: the same fields as [`Saved`].
#[derive(Clone, PartialEq, Message)]
struct Row {
    #[prost(uint64, tag = "1")]
    next_seq: u64,
    #[prost(message, repeated, tag = "2")]
    pending: Vec<SendRequest>,
    #[prost(bytes = "vec", tag = "3")]
    inbox_log: Vec<u8>,
    #[prost(uint64, tag = "4")]
    inbox_idx: u64,
    #[prost(bytes = "vec", tag = "5")]
    outbox_log: Vec<u8>,
    #[prost(uint64, tag = "6")]
    outbox_idx: u64,
}

impl FileJournal {
    /// In the file at `path`; its folder must exist.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self(path.as_ref().to_owned())
    }
}

impl Journal for FileJournal {
    fn load(&mut self) -> io::Result<Saved> {
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            Err(error) => return Err(error),
        };
        let row =
            Row::decode(&bytes[..]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let Row { next_seq, pending, inbox_log, inbox_idx, outbox_log, outbox_idx } = row;
        Ok(Saved { next_seq, pending, inbox_log, inbox_idx, outbox_log, outbox_idx })
    }

    fn save(&mut self, saved: &Saved) -> io::Result<()> {
        let Saved { next_seq, pending, inbox_log, inbox_idx, outbox_log, outbox_idx } = saved.clone();
        let row = Row { next_seq, pending, inbox_log, inbox_idx, outbox_log, outbox_idx };
        let beside = self.0.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&row.encode_to_vec())?;
        file.sync_all()?;
        fs::rename(&beside, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_journal_gives_back_what_was_saved() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut journal = FileJournal::at(folder.path().join("journal"));
        assert_eq!(journal.load().expect("new"), Saved::default());
        let pending = vec![SendRequest { client_seq: 3, ..Default::default() }];
        let saved =
            Saved { next_seq: 3, pending, inbox_log: vec![1; 16], inbox_idx: 9, ..Default::default() };
        journal.save(&saved).expect("saved");
        assert_eq!(FileJournal::at(folder.path().join("journal")).load().expect("again"), saved);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_new_device() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("journal"), [0xff; 7]).expect("written");
        assert!(FileJournal::at(folder.path().join("journal")).load().is_err());
    }
}
