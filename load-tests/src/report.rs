//! What a run says: one JSON object.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::args::Target;
use crate::drive::Measured;
use crate::latency::Quantiles;
use crate::machine;
use crate::system::CQL;

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
    way: Option<&'static str>,
    /// Messages a second of an open loop.
    pub(crate) rate: Option<u32>,
    /// Messages under way in each pair of a closed loop.
    pub(crate) window: Option<u32>,
    seconds: f64,
    connections: u32,
    body_bytes: u32,
    cores: usize,
    /// Why the figures do not count; empty if they do.
    void: Vec<String>,
    /// The first thing that went wrong on a stream.
    trouble: Option<String>,

    pub(crate) accepted_per_s: f64,
    pub(crate) delivered_per_s: f64,
    /// From when it was due to when its receiver had it.
    #[serde(flatten)]
    pub(crate) delivery: Option<Quantiles>,
    /// From when it was due to its durable `Accepted`.
    accepted_p50_ms: f64,
    accepted_p99_ms: f64,
    lost: u64,
    duplicated: u64,
    misordered: u64,
    refused: u64,
    pairs_without_receipt: usize,

    /// By each process.
    pub(crate) cpu_s_per_100k: BTreeMap<String, f64>,
    /// The same of the phase before, in which they were stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored_cpu_s_per_100k: Option<BTreeMap<String, f64>>,
    /// By all of them but the CQL server.
    pub(crate) server_cpu_s_per_100k: Option<f64>,
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
    pub(crate) fn new(
        scenario: &'static str,
        target: &Target,
        connections: u32,
        body: u32,
        measured: &Measured,
    ) -> Self {
        let tally = measured.shared.lock();
        let acceptance = tally.acceptance.quantiles();
        let seconds = measured.seconds;
        let [before, after] = &measured.scraped;
        let (commits, groups) = (after.commits.since(&before.commits), after.groups.since(&before.groups));
        let scraped = commits.count() > 0.0;
        let mut report = Self {
            scenario,
            way: target.own.then(|| target.way.name()),
            seconds,
            connections,
            body_bytes: body,
            cores: machine::cores(),
            trouble: tally.trouble.clone(),
            accepted_per_s: per_second(tally.accepted, seconds),
            delivered_per_s: per_second(tally.delivered, seconds),
            delivery: Some(tally.delivery.quantiles()),
            accepted_p50_ms: acceptance.p50_ms,
            accepted_p99_ms: acceptance.p99_ms,
            lost: tally.lost(),
            duplicated: tally.duplicated,
            misordered: tally.misordered,
            refused: tally.refused,
            pairs_without_receipt: tally.without_receipt(),
            cpu_s_per_100k: cpu_by_process(measured, tally.delivered),
            server_cpu_s_per_100k: cpu_per_100k(measured, tally.delivered),
            commit_p99_ms: scraped.then(|| commits.quantile(0.99) * 1_000.0),
            commits_per_s: scraped.then(|| commits.count() / seconds),
            commit_group: scraped.then(|| groups.mean()),
            generator_late_p99_ms: tally.late.quantiles().p99_ms,
            generator_cpu_share: measured.burnt.as_ref().map(|burnt| burnt.own / seconds),
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
        self.judge_others(measured, phase);
    }

    fn judge_others(&mut self, measured: &Measured, phase: &str) {
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

    /// What was delivered had been stored before, by a phase of its own: nobody waited for it.
    pub(crate) fn stored_before(&mut self, stored: &Measured) {
        let accepted = stored.shared.lock().accepted;
        self.accepted_per_s = per_second(accepted, stored.seconds);
        self.stored_cpu_s_per_100k = Some(cpu_by_process(stored, accepted));
        self.delivery = None;
        // The generator was late in this phase alone, which the whole run says already.
        self.judge_others(stored, "storing");
    }

    fn went_wrong(&self) -> bool {
        let wrong = self.lost + self.duplicated + self.misordered + self.refused;
        wrong > 0 || self.trouble.is_some() || self.pairs_without_receipt > 0
    }
}

/// Prints what was found, as JSON, and writes it where asked. Failure if a message was lost, doubled, disordered or
/// refused in any of the reports; 2 if figures do not count.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn tell(told: &impl Serialize, reports: &[&Report], file: Option<&Path>) -> Result<ExitCode> {
    let text = serde_json::to_string_pretty(told)?;
    println!("{text}");
    for report in reports {
        for why in &report.void {
            eprintln!("VOID: {} {}: {why}", report.way.unwrap_or_default(), report.scenario);
        }
    }
    if let Some(file) = file {
        std::fs::write(file, text + "\n").context("writing the report")?;
    }
    Ok(if reports.iter().any(|report| report.went_wrong()) {
        ExitCode::FAILURE
    } else if reports.iter().all(|report| report.void.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VOID)
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

/// CPU seconds per 100,000 messages, by process.
#[expect(clippy::cast_precision_loss, reason = "counts of minutes")]
fn cpu_by_process(measured: &Measured, messages: u64) -> BTreeMap<String, f64> {
    let Some(burnt) = measured.burnt.as_ref().filter(|_| messages > 0) else { return BTreeMap::new() };
    let per_100k = |seconds: &f64| seconds * 100_000.0 / messages as f64;
    burnt.watched.iter().map(|(name, seconds)| (name.clone(), per_100k(seconds))).collect()
}

fn cpu_per_100k(measured: &Measured, messages: u64) -> Option<f64> {
    let all = cpu_by_process(measured, messages);
    (!all.is_empty()).then(|| all.iter().filter(|(name, _)| *name != CQL).map(|(_, cpu)| cpu).sum())
}

#[expect(clippy::cast_precision_loss, reason = "a few cores")]
fn others_share(measured: &Measured) -> Option<f64> {
    let machine = measured.seconds * machine::cores() as f64;
    measured.burnt.as_ref().map(|burnt| burnt.others / machine)
}
