//! The driver alone: rows as large as a message's, written to the same CQL server with as many under way, and nothing
//! around it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use futures::future::try_join_all;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use serde::Serialize;

use crate::latency::Latencies;
use crate::machine::{self, Cpu, Watched};

/// Bytes of an entry beside its body: ids, conversation, route, times, checksum.
const AROUND_BODY: usize = 100;
/// Partitions that the rows are spread over, as messages over logs.
const SPREAD: u64 = 500;

/// What the loop came to.
#[derive(Debug, Serialize)]
pub(crate) struct DriverAlone {
    under_way: u32,
    rows_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU seconds of the server per 100,000 rows.
    server_cpu_s_per_100k_rows: f64,
}

impl DriverAlone {
    pub(crate) fn rows_per_s(&self) -> f64 {
        self.rows_per_s
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.p99_ms
    }
}

/// Writes rows for `seconds`, always `under_way` at the same time.
///
/// # Errors
/// When the server can't be reached, or refuses a row.
pub(crate) async fn measure(
    chassis: &Chassis,
    server: &str,
    under_way: u32,
    body: u32,
    seconds: u32,
) -> Result<DriverAlone> {
    let keyspace = format!("load_{:016x}", chassis.rng.u64());
    let session = Arc::new(SessionBuilder::new().known_node(server).build().await.context("a CQL server")?);
    let replicas = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
    session.query_unpaged(format!("CREATE KEYSPACE {keyspace} WITH replication = {replicas}"), ()).await?;
    let measured = write_rows(chassis, server, &session, &keyspace, (under_way, body, seconds)).await;
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await?;
    measured
}

async fn write_rows(
    chassis: &Chassis,
    server: &str,
    session: &Arc<Session>,
    keyspace: &str,
    (under_way, body, seconds): (u32, u32, u32),
) -> Result<DriverAlone> {
    let made = format!("CREATE TABLE {keyspace}.row (p blob, c blob, v blob, PRIMARY KEY (p, c))");
    session.query_unpaged(made, ()).await?;
    let mut insert =
        session.prepare(format!("INSERT INTO {keyspace}.row (p, c, v) VALUES (?, ?, ?)")).await?;
    insert.set_consistency(Consistency::LocalQuorum);
    insert.set_is_idempotent(true);

    let pid = machine::listener(server.rsplit(':').next().unwrap_or_default().parse()?)?;
    let watched: Watched = pid.map(|pid| ("server".to_owned(), pid)).into_iter().collect();
    let before = Cpu::of(&watched)?;
    let began = chassis.clock.instant();
    let until = began + Duration::from_secs(u64::from(seconds));
    let value = vec![b'x'; body as usize + AROUND_BODY];
    let writers = (0..under_way).map(|writer| {
        let (session, insert, value) = (session.clone(), insert.clone(), value.clone());
        let chassis = chassis.clone();
        async move {
            let mut times = Latencies::new();
            let mut row = u64::from(writer);
            while chassis.clock.instant() < until {
                let sent = chassis.clock.instant();
                write(&session, &insert, row, &value).await?;
                times.record(chassis.clock.instant() - sent);
                row += u64::from(under_way);
            }
            anyhow::Ok(times)
        }
    });
    let mut all = Latencies::new();
    for times in try_join_all(writers).await? {
        all.add(&times);
    }
    let took = (chassis.clock.instant() - began).as_secs_f64();
    let burnt = Cpu::of(&watched)?.since(&before);
    let (rows, times) = (all.count(), all.quantiles());
    Ok(DriverAlone {
        under_way,
        rows_per_s: rows / took,
        p50_ms: times.p50_ms,
        p99_ms: times.p99_ms,
        server_cpu_s_per_100k_rows: burnt.watched.values().sum::<f64>() * 100_000.0 / rows,
    })
}

async fn write(session: &Session, insert: &PreparedStatement, row: u64, value: &[u8]) -> Result<()> {
    let partition = (row % SPREAD).to_be_bytes();
    let cluster = (row / SPREAD).to_be_bytes();
    session.execute_unpaged(insert, (&partition[..], &cluster[..], value)).await?;
    Ok(())
}
