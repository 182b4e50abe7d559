//! The store alone: the engine with the appends of a run's messages, and nothing around it.

use anyhow::{Context, Result};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use crate::machine::{Cpu, Watched};

/// Messages whose appends are measured.
const MESSAGES: u32 = 100_000;
/// Appends of a message: into an outbox and into an inbox.
const LOGS: [&str; 2] = ["outbox", "inbox"];
/// Bytes of an entry beside its body: ids, conversation, route, times, checksum.
const AROUND_BODY: usize = 100;
/// Logs that the entries are spread over.
const SPREAD: u32 = 500;

/// CPU seconds of the engine for the appends of 100,000 messages with bodies of `body` bytes, committed durably in
/// groups of `group`. Blocks for some seconds.
pub(crate) fn measure(body: usize, group: usize) -> Result<f64> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let value = vec![b'x'; body + AROUND_BODY];
    let nobody_else = Watched::new();
    let before = Cpu::of(&nobody_else)?;
    for log in LOGS {
        let database = Database::builder(folder.path().join(log)).worker_threads(2).open()?;
        let table = database.keyspace(log, KeyspaceCreateOptions::default)?;
        for first in (0..MESSAGES).step_by(group.max(1)) {
            let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
            for entry in first..MESSAGES.min(first + u32::try_from(group.max(1))?) {
                batch.insert(&table, key(entry), &value[..]);
            }
            batch.commit()?;
        }
    }
    Ok(Cpu::of(&nobody_else)?.since(&before).own)
}

/// Log, bucket, idx and epoch, as the logs key their entries.
fn key(entry: u32) -> [u8; 40] {
    let mut key = [0; 40];
    key[..4].copy_from_slice(&(entry % SPREAD).wrapping_mul(0x9E37_79B9).to_be_bytes());
    key[28..32].copy_from_slice(&(entry / SPREAD).to_be_bytes());
    key[39] = 1;
    key
}
