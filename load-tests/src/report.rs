//! What a run says: one JSON object.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::OneToOne;
use crate::latency::Quantiles;
use crate::machine;
use crate::one_to_one::Measured;

/// A generator later than this at the 99th percentile measures itself.
const LATE_MS: f64 = 1.0;
/// The share of the machine that others may burn.
const OTHERS_SHARE: f64 = 0.2;
/// The exit code of a run whose figures do not count.
const VOID: u8 = 2;

/// The report of a run. CPU figures are seconds of user and kernel time per 100,000 messages delivered.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    scenario: &'static str,
    rate: u32,
    seconds: u32,
    pairs: u32,
    connections: u32,
    body_bytes: u32,
    cores: usize,
    /// Why the figures do not count; empty if they do.
    void: Vec<String>,
    /// The first thing that went wrong on a stream.
    trouble: Option<String>,

    accepted_per_s: f64,
    delivered_per_s: f64,
    /// From when it was due to when its receiver had it.
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    /// From when it was due to its durable `Accepted`.
    accepted_p50_ms: f64,
    accepted_p99_ms: f64,
    lost: u64,
    duplicated: u64,
    misordered: u64,
    refused: u64,
    pairs_without_receipt: usize,

    server_cpu_s_per_100k: Option<f64>,
    floor_cpu_s_per_100k: Option<f64>,
    store_cpu_s_per_100k: Option<f64>,
    /// Server over floor plus store.
    ratio: Option<f64>,
    floor_p50_ms: Option<f64>,
    floor_p99_ms: Option<f64>,
    commit_p99_ms: Option<f64>,
    commits_per_s: Option<f64>,
    /// Batches in a group commit, on average.
    commit_group: Option<f64>,
    bytes_per_idle_connection: Option<u64>,

    /// From when a message was due to when the transport took it.
    generator_late_p99_ms: f64,
    generator_cpu_share: Option<f64>,
    others_cpu_share: Option<f64>,
}

impl Report {
    pub(crate) fn new(plan: &OneToOne, measured: &Measured) -> Self {
        let tally = measured.shared.lock();
        let Quantiles { p50_ms, p99_ms, p999_ms, max_ms } = tally.delivery.quantiles();
        let acceptance = tally.acceptance.quantiles();
        let seconds = f64::from(measured.seconds);
        let [before, after] = &measured.scraped;
        let (commits, groups) = (after.commits.since(&before.commits), after.groups.since(&before.groups));
        let scraped = commits.count() > 0.0;
        let mut report = Self {
            scenario: "one-to-one",
            rate: plan.rate,
            seconds: plan.seconds,
            pairs: plan.pairs,
            connections: plan.pairs * 2,
            body_bytes: plan.body,
            cores: machine::cores(),
            trouble: tally.trouble.clone(),
            accepted_per_s: per_second(tally.accepted, seconds),
            delivered_per_s: per_second(tally.delivered, seconds),
            p50_ms,
            p99_ms,
            p999_ms,
            max_ms,
            accepted_p50_ms: acceptance.p50_ms,
            accepted_p99_ms: acceptance.p99_ms,
            lost: tally.lost(),
            duplicated: tally.duplicated,
            misordered: tally.misordered,
            refused: tally.refused,
            pairs_without_receipt: tally.without_receipt(),
            server_cpu_s_per_100k: cpu_per_100k(measured, tally.delivered),
            commit_p99_ms: scraped.then(|| commits.quantile(0.99) * 1_000.0),
            commits_per_s: scraped.then(|| commits.count() / seconds),
            commit_group: scraped.then(|| groups.mean()),
            generator_late_p99_ms: tally.late.quantiles().p99_ms,
            generator_cpu_share: measured.burnt.map(|burnt| burnt.own / seconds),
            ..Self::default()
        };
        drop(tally);
        report.judge(measured, "the run");
        report.others_cpu_share = others_share(measured);
        report
    }

    /// What counts against a phase.
    fn judge(&mut self, measured: &Measured, phase: &str) {
        let late = measured.shared.lock().late.quantiles().p99_ms;
        if late > LATE_MS {
            self.void.push(format!("{phase}: the generator was late by {late:.2} ms at p99"));
        }
        if let Some(share) = others_share(measured).filter(|share| *share > OTHERS_SHARE) {
            self.void.push(format!("{phase}: others burnt {:.0} % of the machine", share * 100.0));
        }
    }

    /// Batches in a group commit, for the store alone.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of small counts")]
    pub(crate) fn group(&self) -> usize {
        self.commit_group.unwrap_or(1.0).round().max(1.0) as usize
    }

    /// What the connections added to the server's memory.
    pub(crate) fn idle_connections(&mut self, bytes: u64, connections: u64) {
        self.bytes_per_idle_connection = Some(bytes / connections);
    }

    /// The floor, and the store alone in CPU seconds per 100,000 messages.
    pub(crate) fn compare(&mut self, floor: &Measured, store: f64) {
        let (delivered, times) = {
            let tally = floor.shared.lock();
            (tally.delivered, tally.delivery.quantiles())
        };
        self.judge(floor, "the floor");
        self.floor_cpu_s_per_100k = cpu_per_100k(floor, delivered);
        (self.floor_p50_ms, self.floor_p99_ms) = (Some(times.p50_ms), Some(times.p99_ms));
        self.store_cpu_s_per_100k = Some(store);
        self.ratio = self
            .server_cpu_s_per_100k
            .zip(self.floor_cpu_s_per_100k)
            .map(|(server, floor)| server / (floor + store));
    }

    /// Prints it, and writes it where asked.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn tell(&self, file: Option<&Path>) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        println!("{text}");
        for why in &self.void {
            eprintln!("VOID: {why}");
        }
        match file {
            Some(file) => std::fs::write(file, text + "\n").context("writing the report"),
            None => Ok(()),
        }
    }

    /// Failure if a message was lost, doubled, disordered or refused; 2 if the figures do not count.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let wrong = self.lost + self.duplicated + self.misordered + self.refused;
        if wrong > 0 || self.trouble.is_some() || self.pairs_without_receipt > 0 {
            ExitCode::FAILURE
        } else if self.void.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(VOID)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

#[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
fn cpu_per_100k(measured: &Measured, delivered: u64) -> Option<f64> {
    measured.burnt.filter(|_| delivered > 0).map(|burnt| burnt.server * 100_000.0 / delivered as f64)
}

#[expect(clippy::cast_precision_loss, reason = "a few cores")]
fn others_share(measured: &Measured) -> Option<f64> {
    let machine = f64::from(measured.seconds) * machine::cores() as f64;
    measured.burnt.map(|burnt| burnt.others / machine)
}
