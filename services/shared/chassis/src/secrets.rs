//! The keys of a deployment: made at the first start, in files that only their owner may read.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dialtone_vocab::{NumberHash, PhoneNumber};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Rng;

/// The key of token signatures: an Ed25519 seed.
const TOKEN_FILE: &str = "token.key";
/// The key under which services other than identity keep numbers.
const NUMBER_FILE: &str = "number.key";

/// Why the keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A file or the folder could not be read or made.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A key file is not there, and what is kept was written with it.
    #[error(
        "{path}: the key is missing, and the store was written with it; restore the folder of keys from its backup"
    )]
    Lost {
        /// Which.
        path: PathBuf,
    },
    /// A key file has another length than a key.
    #[error("{path}: a key has 32 bytes, this file has {length}; restore it, or remove it on a new system")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Bytes found.
        length: usize,
    },
}

/// Hashes numbers for keeping.
#[derive(Clone)]
pub struct NumberKey([u8; 32]);

impl NumberKey {
    /// HMAC-SHA-256 of the number under the key, cut to 16 bytes.
    pub fn hash(&self, number: PhoneNumber) -> NumberHash {
        NumberHash::new(self.mac(b"number", &number.as_u64().to_be_bytes()))
    }

    /// A keyed hash of anything else that is secret, such as a code; `purpose` keeps kinds apart.
    pub fn mac(&self, purpose: &[u8], secret: &[u8]) -> [u8; 16] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        mac.update(&(purpose.len() as u64).to_be_bytes());
        mac.update(purpose);
        mac.update(secret);
        let whole = mac.finalize().into_bytes();
        std::array::from_fn(|place| whole[place])
    }
}

/// All keys. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    /// Seed of the token signer.
    pub token_seed: [u8; 32],
    /// For hashes of numbers and codes.
    pub number_key: NumberKey,
}

impl Secrets {
    /// Reads the keys in `folder`, making what is missing with mode 0600.
    ///
    /// # Errors
    /// [`SecretsError`] when a file can't be read or made or is damaged.
    pub fn open_or_create(folder: &Path, rng: &Rng) -> Result<Self, SecretsError> {
        let failed = |path: &Path, error| SecretsError::Io { path: path.to_owned(), error };
        fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        for name in [TOKEN_FILE, NUMBER_FILE] {
            let path = folder.join(name);
            make(&path, rng).map_err(|error| failed(&path, error))?;
        }
        Self::open(folder)
    }

    /// Reads the keys in `folder` and makes none: for a store that was written with them.
    ///
    /// # Errors
    /// [`SecretsError`] when a file is not there, can't be read or is damaged.
    pub fn open(folder: &Path) -> Result<Self, SecretsError> {
        let key = |name: &str| {
            let path = folder.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(SecretsError::Lost { path });
                }
                Err(error) => return Err(SecretsError::Io { path, error }),
            };
            let length = bytes.len();
            <[u8; 32]>::try_from(bytes).map_err(|_| SecretsError::Damaged { path, length })
        };
        Ok(Self { token_seed: key(TOKEN_FILE)?, number_key: NumberKey(key(NUMBER_FILE)?) })
    }

    /// Fixed keys for tests.
    pub fn for_tests() -> Self {
        Self { token_seed: [1; 32], number_key: NumberKey([2; 32]) }
    }

    /// Makes tokens.
    pub fn signer(&self) -> crate::auth::Signer {
        crate::auth::Signer::from_seed(&self.token_seed)
    }

    /// Checks tokens.
    pub fn verifier(&self) -> crate::auth::Verifier {
        crate::auth::Verifier::of_seed(&self.token_seed)
    }
}

/// Makes a key file unless it exists: written whole beside it and linked, so that nobody reads half a key and of two
/// processes starting together one wins.
fn make(path: &Path, rng: &Rng) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let beside = path.with_extension(format!("new-{:016x}", rng.u64()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(&rng.bytes::<32>())?;
    file.sync_all()?;
    let linked = match fs::hard_link(&beside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    fs::remove_file(&beside)?;
    linked
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_private() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rng = Rng::seeded(1);
        let first = Secrets::open_or_create(folder.path(), &rng).expect("made");
        let again = Secrets::open_or_create(folder.path(), &rng).expect("read");
        assert_eq!(first.token_seed, again.token_seed);
        let mode = fs::metadata(folder.path().join(TOKEN_FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 2);
    }

    #[test]
    fn a_damaged_key_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(TOKEN_FILE), [0; 5]).expect("written");
        let error = Secrets::open_or_create(folder.path(), &Rng::seeded(1)).err().expect("refused");
        assert!(error.to_string().contains("has 5"), "{error}");
    }

    #[test]
    fn keys_that_must_be_there_are_read_and_never_made() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let made = Secrets::open_or_create(folder.path(), &Rng::seeded(1)).expect("made");
        assert_eq!(Secrets::open(folder.path()).expect("read").token_seed, made.token_seed);
        for name in [TOKEN_FILE, NUMBER_FILE] {
            let key = fs::read(folder.path().join(name)).expect("read");
            fs::remove_file(folder.path().join(name)).expect("removed");
            let error = Secrets::open(folder.path()).err().expect("refused").to_string();
            assert!(error.contains(name) && error.contains("restore"), "{error}");
            assert!(!folder.path().join(name).exists(), "{name} was made");
            fs::write(folder.path().join(name), key).expect("written");
        }
    }

    #[test]
    fn hashes_depend_on_number_key_and_purpose() {
        let secrets = Secrets::for_tests();
        let number = |text| PhoneNumber::parse_e164(text).expect("valid");
        let (one, other) = (number("+14155550101"), number("+14155550102"));
        assert_ne!(secrets.number_key.hash(one), secrets.number_key.hash(other));
        assert_ne!(secrets.number_key.hash(one), NumberKey([3; 32]).hash(one));
        assert_ne!(secrets.number_key.mac(b"a", b"bc"), secrets.number_key.mac(b"ab", b"c"));
    }
}
