//! A disk of memory that outlives its databases, so that tests can crash them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use dialtone_chassis::Rng;

use crate::StoreError;
use crate::engine::{Engine, KeyRange, Row};

/// Bytes that a process writes and the next one finds. Cheap to clone; clones are the same disk.
///
/// What was not applied when its runtime was dropped is lost, like with a real disk. A commit is applied at some
/// moment between its call and its answer: with a delay, a crash finds commits that are lost, and commits that
/// are applied but were never answered. When a service's database is opened again, the older opening can neither
/// read nor write any more, as if its process had been killed.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Shared>);

/// How long commits take: as a rule, and now and then.
#[derive(Debug, Clone)]
pub(crate) struct Delay {
    usual: RangeInclusive<Duration>,
    stall: Duration,
}

/// One commit in so many stalls, on a disk that does.
const STALL_ONE_IN: u64 = 12;

impl Delay {
    /// Of one commit.
    pub(crate) fn draw(&self, rng: &Rng) -> Duration {
        if !self.stall.is_zero() && rng.below(STALL_ONE_IN) == 0 {
            return rng.jitter(self.stall);
        }
        *self.usual.start() + rng.jitter(self.usual.end().saturating_sub(*self.usual.start()))
    }
}

#[derive(Default)]
struct Shared {
    services: RwLock<BTreeMap<&'static str, Service>>,
    delay: Option<Delay>,
    failures: AtomicU64,
}

#[derive(Default)]
struct Service {
    openings: u64,
    tables: BTreeMap<&'static str, BTreeMap<Bytes, Bytes>>,
}

impl MemoryDisk {
    /// An empty disk that commits at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk whose commits take a while, drawn from the process's randomness.
    pub fn with_delay(delay: RangeInclusive<Duration>) -> Self {
        Self::stalling(delay, Duration::ZERO)
    }

    /// An empty disk whose commits take a while, and now and then up to `stall`.
    pub fn stalling(delay: RangeInclusive<Duration>, stall: Duration) -> Self {
        let delay = Some(Delay { usual: delay, stall });
        Self(Arc::new(Shared { delay, ..Shared::default() }))
    }

    /// The next `writes` group writes of any service on this disk fail.
    pub fn fail_next(&self, writes: u64) {
        self.0.failures.store(writes, Ordering::SeqCst);
    }

    pub(crate) fn delay(&self) -> Option<Delay> {
        self.0.delay.clone()
    }

    /// From now on only the engine returned here reads and writes the service's tables.
    pub(crate) fn open(&self, service: &'static str, tables: Vec<&'static str>) -> MemoryEngine {
        let mut services = self.0.services.write().unwrap_or_else(PoisonError::into_inner);
        let kept = services.entry(service).or_default();
        kept.openings += 1;
        for table in &tables {
            kept.tables.entry(table).or_default();
        }
        MemoryEngine { disk: self.clone(), service, tables, opening: kept.openings }
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk").field("delay", &self.0.delay).finish_non_exhaustive()
    }
}

/// One opening of one service's tables.
pub(crate) struct MemoryEngine {
    disk: MemoryDisk,
    service: &'static str,
    tables: Vec<&'static str>,
    opening: u64,
}

impl MemoryEngine {
    fn fenced() -> StoreError {
        StoreError::Poisoned { why: "the database was opened again".into() }
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, BTreeMap<&'static str, Service>>, StoreError> {
        let services = self.disk.0.services.read().unwrap_or_else(PoisonError::into_inner);
        if services[self.service].openings != self.opening {
            return Err(Self::fenced());
        }
        Ok(services)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, BTreeMap<&'static str, Service>> {
        self.disk.0.services.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn get(&self, table: usize, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read()?[self.service].tables[self.tables[table]].get(key).cloned())
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
        let services = self.read()?;
        let bounds = (range.lower.map(Bytes::from), range.upper.map(Bytes::from));
        let rows = services[self.service].tables[self.tables[table]].range(bounds);
        let copy = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        Ok(if backwards {
            rows.rev().take(limit).map(copy).collect()
        } else {
            rows.take(limit).map(copy).collect()
        })
    }

    fn write(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        let failures = &self.disk.0.failures;
        if failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(StoreError::Poisoned { why: "the disk was told to fail".into() });
        }
        let mut services = self.lock();
        let Some(service) = services.get_mut(self.service).filter(|it| it.openings == self.opening) else {
            return Err(Self::fenced());
        };
        for row in rows {
            let table = service.tables.entry(self.tables[row.table]).or_default();
            match row.value {
                Some(value) => table.insert(row.key.into(), value),
                None => table.remove(row.key.as_slice()),
            };
        }
        Ok(())
    }
}
