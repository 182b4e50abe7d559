//! A database that one process has for itself: a queue, one writer, an engine.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_chassis::{Chassis, Tasks};
use dialtone_vocab::Epoch;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

use crate::db::{Rows, Schema};
use crate::engine::{Engine, KeyRange, META};
use crate::limits::QUEUE;
use crate::memory::Delay;
use crate::metrics::Counters;
use crate::plan::table_number;
use crate::writer::{Answer, Poison, Request, Writer};
use crate::{Batch, MemoryDisk, Stats, StoreError, Table, file, meta};

pub(crate) struct Embedded {
    engine: Arc<dyn Engine>,
    tables: Arc<[&'static str]>,
    poison: Arc<Poison>,
    counters: Arc<Counters>,
    queue: mpsc::Sender<Request>,
    tasks: Tasks,
    epoch: Epoch,
}

impl Embedded {
    /// The store's id, and the database.
    pub(crate) fn in_folder(
        folder: &Path,
        schema: Schema,
        chassis: &Chassis,
    ) -> Result<([u8; 16], Self), StoreError> {
        let (engine, opened) =
            file::open(folder, schema.service, &names(schema.tables), schema.version, &chassis.rng)?;
        Ok((opened.id, Self::start(schema, Arc::new(engine), &opened, None, chassis)))
    }

    /// The store's id, and the database.
    pub(crate) fn in_memory(
        disk: &MemoryDisk,
        schema: Schema,
        chassis: &Chassis,
    ) -> Result<([u8; 16], Self), StoreError> {
        let tables = names(schema.tables);
        let engine = disk.open(schema.service, with_meta(&tables));
        let opened = meta::open(&engine, tables.len(), schema.service, schema.version, &chassis.rng)?;
        Ok((opened.id, Self::start(schema, Arc::new(engine), &opened, disk.delay(), chassis)))
    }

    fn start(
        schema: Schema,
        engine: Arc<dyn Engine>,
        opened: &meta::Opened,
        delay: Option<Delay>,
        chassis: &Chassis,
    ) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let tables: Arc<[&'static str]> = names(schema.tables).into();
        let (poison, counters) = (Arc::<Poison>::default(), Arc::<Counters>::default());
        let writer = Writer {
            service: schema.service,
            engine: engine.clone(),
            tables: tables.clone(),
            poison: poison.clone(),
            counters: counters.clone(),
            delay,
            chassis: chassis.clone(),
        };
        chassis.tasks.spawn("store writer", writer.run(requests));
        let epoch = opened.epoch;
        tracing::info!(service = schema.service, epoch = epoch.0, "store open");
        Self { engine, tables, poison, counters, queue, tasks: chassis.tasks.clone(), epoch }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats(QUEUE - self.queue.capacity())
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.poison.check()?;
        if self.queue.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }

    pub(crate) fn get(&self, table: &Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.poison.check()?;
        self.engine.get(table_number(&self.tables, table.name)?, key)
    }

    pub(crate) fn scan(
        &self,
        table: &Table,
        range: KeyRange,
        limit: usize,
        backwards: bool,
    ) -> Result<Rows, StoreError> {
        self.poison.check()?;
        self.engine.scan(table_number(&self.tables, table.name)?, range, limit, backwards)
    }

    pub(crate) fn submit(&self, batch: Batch, done: Answer) {
        if let Err(error) = self.poison.check() {
            return done(Err(error));
        }
        match self.queue.try_send(Request { batch, answer: done }) {
            Ok(()) => {}
            Err(TrySendError::Closed(request)) => (request.answer)(Err(StoreError::Closed)),
            Err(TrySendError::Full(request)) => {
                let queue = self.queue.clone();
                self.tasks.spawn("store queue", async move {
                    if let Err(SendError(request)) = queue.send(request).await {
                        (request.answer)(Err(StoreError::Closed));
                    }
                });
            }
        }
    }
}

fn names(tables: &[Table]) -> Vec<&'static str> {
    tables.iter().map(|table| table.name).collect()
}

/// The declared tables and, after them, the store's own.
pub(crate) fn with_meta(tables: &[&'static str]) -> Vec<&'static str> {
    tables.iter().copied().chain([META]).collect()
}
