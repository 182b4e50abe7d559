//! The numbers of chunks that were not acknowledged, and which numbers were ever asked about.

use bytes::Bytes;
use dialtone_store::StoreError;
use dialtone_vocab::{NumberHash, UserId};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;

use super::{Result, Store, join};
use crate::limits::{CHUNK_ROWS, READS_AT_ONCE};
use crate::rows::{ChunkRow, PendingEntry};

/// The numbers of a chunk, in the order of their hashes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) added: Vec<(NumberHash, PendingEntry)>,
    pub(crate) removed: Vec<NumberHash>,
}

impl Chunk {
    /// Numbers never asked about before.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = NumberHash> {
        self.added.iter().filter(|(_, entry)| entry.is_fresh).map(|(hash, _)| *hash)
    }
}

fn over_key(user: UserId, over: u64) -> Vec<u8> {
    join([user.as_bytes(), &over.to_be_bytes()])
}

fn chunk_key(user: UserId, chunk: &ChunkRow) -> Vec<u8> {
    join([&over_key(user, chunk.over), &chunk.token])
}

fn asked_key(user: UserId, era: u64, hash: NumberHash) -> Vec<u8> {
    join([user.as_bytes(), &era.to_be_bytes(), hash.as_bytes()])
}

impl Store {
    /// Puts down a chunk that no head names yet.
    pub(crate) async fn put_pending(&self, user: UserId, at: &ChunkRow, chunk: &Chunk) -> Result<()> {
        let key = chunk_key(user, at);
        self.in_steps(&chunk.added, |batch, (hash, entry)| {
            batch.put("pending", join([&key, &[0], hash.as_bytes()]), entry.encode_to_vec())
        })
        .await?;
        self.in_steps(&chunk.removed, |batch, hash| {
            batch.put("pending", join([&key, &[1], hash.as_bytes()]), [])
        })
        .await
    }

    /// A chunk; what was swept away of it is not in it.
    pub(crate) async fn pending(&self, user: UserId, at: &ChunkRow) -> Result<Chunk> {
        let key = chunk_key(user, at);
        let corrupt = |_| StoreError::Corrupt { table: "pending".to_owned() };
        let mut chunk = Chunk::default();
        for (row, value) in self.db.scan_prefix("pending", &key, CHUNK_ROWS).await? {
            let Some(hash) = row.last_chunk().copied().map(NumberHash::new) else { continue };
            if row.get(key.len()) == Some(&0) {
                chunk.added.push((hash, PendingEntry::decode(value).map_err(corrupt)?));
            } else {
                chunk.removed.push(hash);
            }
        }
        Ok(chunk)
    }

    /// Removes a chunk that no head names, or will.
    pub(crate) async fn drop_pending(&self, user: UserId, at: &ChunkRow) -> Result<()> {
        let key = chunk_key(user, at);
        let all = join([&key, &[0]])..join([&key, &[2]]);
        self.db.delete_range("pending", all).await.map(|_rows| ())
    }

    /// Removes all chunks that were prepared over a version of the head.
    pub(crate) async fn drop_all_pending(&self, user: UserId, over: u64) -> Result<()> {
        let key = over_key(user, over);
        let all = key.clone()..=join([&key, &[0xff; 33]]);
        self.db.delete_range("pending", all).await.map(|_rows| ())
    }

    /// Of these numbers those about which a user has asked since its book was forgotten so often.
    pub(crate) async fn were_asked(
        &self,
        user: UserId,
        era: u64,
        hashes: impl IntoIterator<Item = NumberHash>,
    ) -> Result<Vec<NumberHash>> {
        let reads = hashes.into_iter().map(|hash| async move {
            let row: Option<Bytes> = self.db.get("asked", &asked_key(user, era, hash)).await?;
            Ok::<_, StoreError>(row.map(|_asked| hash))
        });
        let found: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Notes numbers as asked about.
    pub(crate) async fn put_asked(
        &self,
        user: UserId,
        era: u64,
        hashes: impl IntoIterator<Item = NumberHash>,
    ) -> Result<()> {
        self.in_steps(hashes, |batch, hash| batch.put("asked", asked_key(user, era, hash), [])).await
    }

    /// Forgets which numbers a user asked about until its book was forgotten so often.
    pub(crate) async fn forget_asked(&self, user: UserId, era: u64) -> Result<()> {
        let all = asked_key(user, era, NumberHash::new([0; 16]))
            ..=asked_key(user, era, NumberHash::new([0xff; 16]));
        self.db.delete_range("asked", all).await.map(|_rows| ())
    }
}
