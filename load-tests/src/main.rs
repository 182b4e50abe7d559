//! `dialtone-load`: drives a system with a load and says what it cost.
//!
//! ```text
//!   run one-to-one --self     ├─ child: the server, this same program with the dialtone library in it
//!                             ├─ child: the floor, a bare tonic relay of the same frames, at the same rate
//!                             └─ the store alone: the appends of the same messages, in groups of the same size
//! ```
//!
//! Absolute times of a shared machine mean little; the ratio of figures of one run means something.

mod crowd;
mod floor;
mod latency;
mod line;
mod machine;
mod one_to_one;
mod pace;
mod report;
mod scrape;
mod store_alone;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use dialtone::settings::{SERVICES, Settings};
use dialtone_chassis::{Chassis, telemetry};
use dialtone_vocab::NodeId;

/// As the `dialtone` binary has it, and so the floor too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load for Dialtone.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario.
    Run {
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// The server, for `run … --self`.
    #[command(hide = true)]
    Server,
    /// The bare relay, for the floor.
    #[command(hide = true)]
    Relay,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Pairs of users, one of each writing to the other: instant messages with receipts, open loop, Poisson arrivals.
    OneToOne(OneToOne),
}

/// The one-to-one scenario.
#[derive(Debug, Clone, Args)]
struct OneToOne {
    /// Start the server, the floor and the store alone, and compare. Without it: `--gateway` and `--sms-centre`.
    #[arg(long = "self", conflicts_with_all = ["gateway", "sms_centre"])]
    own: bool,
    /// The gateway of a running system.
    #[arg(long, requires = "sms_centre", required_unless_present = "own")]
    gateway: Option<String>,
    /// The operations port of the process with its embedded SMS centre: the users register through it.
    #[arg(long, requires = "gateway")]
    sms_centre: Option<String>,
    /// Messages a second, over all pairs.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long is measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How long the load runs before.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=600))]
    warm_up: u32,
    /// Pairs: twice as many users, each with a connection of its own.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: u32,
    /// Bytes of a body.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(24..=65_536))]
    body: u32,
    /// Where the report goes; it is printed as well.
    #[arg(long)]
    json: Option<PathBuf>,
}

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
        // What `dialtone` itself does.
        Command::Server => {
            let services = SERVICES.map(str::to_owned);
            let serving =
                async { dialtone::serve::serve(Settings::load(None, std::env::vars())?, &services).await };
            many_threads()?.block_on(serving)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Relay => {
            many_threads()?.block_on(floor::serve())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { scenario: Scenario::OneToOne(plan) } => {
            telemetry::metrics_only().context("metrics")?;
            // One thread: the generator never takes more than one core from the server.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let chassis = Chassis::real(NodeId::new("load"));
            let report = runtime.block_on(one_to_one::run(&chassis, &plan))?;
            report.tell(plan.json.as_deref())?;
            Ok(report.exit_code())
        }
    }
}

fn many_threads() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("a runtime")
}
