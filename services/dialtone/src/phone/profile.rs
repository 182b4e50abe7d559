//! What a phone keeps: its key, its address book (names never leave it), its journal.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dialtone_client::{Api, ClientError, Credentials, DeviceKey, FileJournal};
use dialtone_proto::edge::v1::Receipt;
use dialtone_proto::types::v1::conversation_ref::With;
use dialtone_vocab::{DeviceId, PhoneNumber, Reason};
use serde::{Deserialize, Serialize};

/// An entry of the book.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Contact {
    /// In E.164, once the server has read it; before that as typed.
    pub(super) number: String,
    /// Hexadecimal user id, if it is a user's.
    pub(super) user: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    device: u32,
    key: String,
    book: BTreeMap<String, Contact>,
    book_token: String,
    /// By conversation, how far the owner was told of delivered and read.
    #[serde(default)]
    receipts: BTreeMap<String, (u64, u64)>,
}

/// A phone's folder.
pub(super) struct Profile {
    pub(super) number: PhoneNumber,
    folder: PathBuf,
    kept: Kept,
}

impl Profile {
    /// Opens or begins the folder of a number.
    pub(super) fn open(home: &Path, number: PhoneNumber) -> Result<Self> {
        let folder = home.join(number.to_string());
        fs::create_dir_all(&folder).with_context(|| format!("the folder {}", folder.display()))?;
        let file = folder.join("phone.json");
        let kept = if file.exists() {
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?
        } else {
            Kept::default()
        };
        Ok(Self { number, folder, kept })
    }

    /// Logs in by the key kept; nothing if there is none, or if the server does not know it any more.
    pub(super) async fn credentials(&self, api: &Api) -> Result<Option<Credentials>, ClientError> {
        let seed = hex::decode(&self.kept.key).ok().and_then(|seed| seed.try_into().ok());
        let Some(key) = seed.map(DeviceKey::from_seed) else { return Ok(None) };
        match Credentials::by_key(api, self.number, DeviceId(self.kept.device), key).await {
            Err(ClientError::Refused(error)) if error.reason == Reason::LoginRefused => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Begins anew with the key of a registration: another server's book and journal are of no use.
    pub(super) fn registered(&mut self, credentials: &Credentials) -> Result<()> {
        let key = credentials.key.as_ref().map(|key| hex::encode(key.seed())).unwrap_or_default();
        let book = std::mem::take(&mut self.kept.book);
        self.kept = Kept { device: credentials.device.0, key, book, ..Kept::default() };
        let journal = self.journal_path();
        if journal.exists() {
            fs::remove_file(journal)?;
        }
        self.save()
    }

    fn journal_path(&self) -> PathBuf {
        self.folder.join("journal")
    }

    /// Where the session goes on.
    pub(super) fn journal(&self) -> FileJournal {
        FileJournal::at(self.journal_path())
    }

    /// The address book, by name.
    pub(super) fn book(&self) -> &BTreeMap<String, Contact> {
        &self.kept.book
    }

    /// Puts a contact into the book.
    pub(super) fn set(&mut self, name: &str, contact: Contact) -> Result<()> {
        self.kept.book.insert(name.to_owned(), contact);
        self.save()
    }

    /// Takes a contact out of the book.
    pub(super) fn remove(&mut self, name: &str) -> Result<Option<Contact>> {
        let removed = self.kept.book.remove(name);
        self.save()?;
        Ok(removed)
    }

    /// What the next sync is based on; empty: the whole book goes up.
    pub(super) fn book_token(&self) -> Vec<u8> {
        hex::decode(&self.kept.book_token).unwrap_or_default()
    }

    /// Notes what the next sync is based on.
    pub(super) fn synced(&mut self, token: &[u8]) -> Result<()> {
        self.kept.book_token = hex::encode(token);
        self.save()
    }

    /// Notes how far a conversation was delivered and read; what of it grew since the owner was told.
    pub(super) fn receipt(&mut self, receipt: &Receipt) -> Result<(bool, bool)> {
        let conversation =
            match receipt.conversation.as_ref().and_then(|conversation| conversation.with.as_ref()) {
                Some(With::User(user)) => hex::encode(&user.id),
                Some(With::Number(number)) => number.clone(),
                None => String::new(),
            };
        let (delivered, read) = self.kept.receipts.entry(conversation).or_default();
        let grown = (receipt.delivered_sent_idx > *delivered, receipt.read_sent_idx > *read);
        if grown != (false, false) {
            *delivered = receipt.delivered_sent_idx.max(*delivered);
            *read = receipt.read_sent_idx.max(*read);
            self.save()?;
        }
        Ok(grown)
    }

    fn save(&self) -> Result<()> {
        let (file, beside) = (self.folder.join("phone.json"), self.folder.join("phone.new"));
        let mut new =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        new.write_all(&serde_json::to_vec_pretty(&self.kept)?)?;
        new.sync_all()?;
        fs::rename(beside, file).context("saving the phone")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_news_once_also_after_a_restart() {
        let home = tempfile::tempdir().expect("a folder");
        let number = PhoneNumber::parse_e164("+14155550101").expect("a number");
        let receipt = |delivered_sent_idx, read_sent_idx| Receipt {
            conversation: None,
            delivered_sent_idx,
            read_sent_idx,
        };
        let mut profile = Profile::open(home.path(), number).expect("a profile");
        let grown = |profile: &mut Profile, delivered, read| {
            profile.receipt(&receipt(delivered, read)).expect("it is kept")
        };
        assert_eq!(grown(&mut profile, 0, 0), (false, false));
        assert_eq!(grown(&mut profile, 2, 0), (true, false));
        assert_eq!(grown(&mut profile, 2, 1), (false, true));
        let mut again = Profile::open(home.path(), number).expect("a profile");
        assert_eq!(grown(&mut again, 2, 1), (false, false));
        assert_eq!(grown(&mut again, 3, 3), (true, true));
    }
}
