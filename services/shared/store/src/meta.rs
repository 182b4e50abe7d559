//! The rows that a store keeps about itself.

use dialtone_chassis::Rng;
use dialtone_vocab::{Epoch, SHARDS};

use crate::StoreError;
use crate::engine::{Engine, META, Row};

/// What an opening found and made.
pub(crate) struct Opened {
    pub(crate) epoch: Epoch,
    pub(crate) id: [u8; 16],
}

const SCHEMA: &[u8] = b"schema";
const SHARD_COUNT: &[u8] = b"shards";
const ID: &[u8] = b"store-id";
const EPOCH: &[u8] = b"epoch";

/// The epoch of the last opening; 0 if there was none.
pub(crate) fn epoch(engine: &dyn Engine, meta: usize) -> Result<u64, StoreError> {
    Ok(read(engine, meta, EPOCH)?.map_or(0, u64::from_be_bytes))
}

/// Checks that the store is one that this program can use, and begins a new epoch, on disk when this returns.
pub(crate) fn open(
    engine: &dyn Engine,
    meta: usize,
    service: &str,
    schema: u32,
    rng: &Rng,
) -> Result<Opened, StoreError> {
    let before = epoch(engine, meta)?;
    if before > 0 {
        let corrupt = || StoreError::Corrupt { table: META.to_owned() };
        let found = read(engine, meta, SCHEMA)?.map(u32::from_be_bytes).ok_or_else(corrupt)?;
        if found != schema {
            return Err(StoreError::WrongSchema { service: service.to_owned(), found, wanted: schema });
        }
        let found = read(engine, meta, SHARD_COUNT)?.map(u32::from_be_bytes).ok_or_else(corrupt)?;
        if found != u32::from(SHARDS) {
            return Err(StoreError::WrongShards { found, wanted: SHARDS.into() });
        }
        let id = read(engine, meta, ID)?.ok_or_else(corrupt)?;
        engine.write(vec![row(meta, EPOCH, &(before + 1).to_be_bytes())])?;
        return Ok(Opened { epoch: Epoch(before + 1), id });
    }
    let id = rng.bytes::<16>();
    engine.write(vec![
        row(meta, SCHEMA, &schema.to_be_bytes()),
        row(meta, SHARD_COUNT, &u32::from(SHARDS).to_be_bytes()),
        row(meta, ID, &id),
        row(meta, EPOCH, &1_u64.to_be_bytes()),
    ])?;
    Ok(Opened { epoch: Epoch(1), id })
}

fn row(meta: usize, key: &[u8], value: &[u8]) -> Row {
    Row { table: meta, key: key.to_vec(), value: Some(value.to_vec().into()) }
}

fn read<const N: usize>(engine: &dyn Engine, meta: usize, key: &[u8]) -> Result<Option<[u8; N]>, StoreError> {
    let Some(value) = engine.get(meta, key)? else { return Ok(None) };
    let value = value.as_ref().try_into().map_err(|_| StoreError::Corrupt { table: META.to_owned() })?;
    Ok(Some(value))
}
