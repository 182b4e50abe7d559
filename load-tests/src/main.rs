//! `dialtone-load`: drives a system with a load and says what it cost.
//!
//! ```text
//!   run one-to-one --self     ├─ children: the system, this same program with the dialtone library in it
//!                             ├─ child: the floor, a bare tonic relay of the same frames, at the same rate
//!                             └─ the store alone: the appends of the same messages, in groups of the same size
//!   run walls --cql …         the shapes one after the other, in one process, over NATS, over NATS and CQL servers
//! ```
//!
//! Absolute times of a shared machine mean little; the ratio of figures of one run means something.

mod args;
mod crowd;
mod drive;
mod driver_alone;
mod floor;
mod latency;
mod line;
mod machine;
mod pace;
mod report;
mod scrape;
mod shape;
mod store_alone;
mod system;
mod tally;
mod walls;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use args::{Cli, Command, Scenario};
use clap::Parser;
use dialtone::settings::{SERVICES, Settings};
use dialtone_chassis::{Chassis, telemetry};
use dialtone_vocab::NodeId;
use report::{Report, tell};

/// As the `dialtone` binary has it, and so the floor too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nobody installed a provider before main");
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dialtone-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        // What `dialtone run` itself does.
        Command::Server { services } => {
            let services = if services.is_empty() { SERVICES.map(str::to_owned).to_vec() } else { services };
            let serving =
                async { dialtone::serve::serve(Settings::load(None, std::env::vars())?, &services).await };
            many_threads()?.block_on(serving)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Relay => {
            many_threads()?.block_on(floor::serve())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { scenario } => {
            telemetry::metrics_only().context("metrics")?;
            // One thread: the generator never takes more than one core from the server.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run_scenario(&Chassis::real(NodeId::new("load")), scenario))
        }
    }
}

async fn run_scenario(chassis: &Chassis, scenario: Scenario) -> Result<ExitCode> {
    let one = |report: Report, file: Option<&Path>| tell(&report, &[&report], file);
    match scenario {
        Scenario::OneToOne(plan) => {
            one(shape::one_to_one(chassis, &plan, true).await?, plan.target.json.as_deref())
        }
        Scenario::Pairs(plan) => one(shape::pairs(chassis, &plan).await?, plan.target.json.as_deref()),
        Scenario::Offline(plan) => one(shape::offline(chassis, &plan).await?, plan.target.json.as_deref()),
        Scenario::Walls(plan) => {
            let walls = walls::run(chassis, &plan).await?;
            tell(&walls, &walls.reports(), plan.json.as_deref())
        }
    }
}

fn many_threads() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("a runtime")
}
