//! What can be asked of the program.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load for Dialtone.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scenario.
    Run {
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// Services of a system, for `run … --self`.
    #[command(hide = true)]
    Server {
        /// Which; all if none is named.
        services: Vec<String>,
    },
    /// The bare relay, for the floor.
    #[command(hide = true)]
    Relay,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Pairs of users, one of each writing to the other: instant messages with receipts, open loop, Poisson arrivals.
    OneToOne(OneToOne),
    /// The same with so many messages under way in each pair, closed loop: how much passes.
    Pairs(Pairs),
    /// Messages for users who are away, then all of them come at once.
    Offline(Offline),
    /// All of these in one process, split over NATS, and over NATS and CQL servers: what each wall costs.
    Walls(Walls),
}

/// What is loaded.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Start the system, and measure what it burns. Without it: `--gateway` and `--sms-centre`.
    #[arg(long = "self", conflicts_with_all = ["gateway", "sms_centre"])]
    pub(crate) own: bool,
    /// How it is split.
    #[arg(long, value_enum, default_value_t = Way::OneProcess, requires = "own")]
    pub(crate) way: Way,
    /// A CQL server that runs already, for `--way nats-cql`.
    #[arg(long, default_value = CQL, requires = "own")]
    pub(crate) cql: String,
    /// The gateway of a running system.
    #[arg(long, requires = "sms_centre", required_unless_present = "own")]
    pub(crate) gateway: Option<String>,
    /// The operations port of the process with its embedded SMS centre: the users register through it.
    #[arg(long, requires = "gateway")]
    pub(crate) sms_centre: Option<String>,
    /// Where the report goes; it is printed as well.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// Where a CQL server of one's own listens.
const CQL: &str = "127.0.0.1:9042";

/// How a system is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// All services in one process, with the embedded store.
    OneProcess,
    /// A process for each service over nats-server, each with its embedded store.
    Nats,
    /// A process for each service over nats-server and a CQL server.
    NatsCql,
}

impl Way {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneProcess => "one-process",
            Self::Nats => "nats",
            Self::NatsCql => "nats-cql",
        }
    }
}

/// How much and how long.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Size {
    /// Pairs: twice as many users, each with a connection of its own.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) pairs: u32,
    /// Bytes of a body.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(24..=65_536))]
    pub(crate) body: u32,
    /// How long is measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// How long the load runs before.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub(crate) warm_up: u32,
}

/// The one-to-one scenario.
#[derive(Debug, Clone, Args)]
pub(crate) struct OneToOne {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) size: Size,
    /// Messages a second, over all pairs.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
}

/// The closed loop.
#[derive(Debug, Clone, Args)]
pub(crate) struct Pairs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) size: Size,
    /// Messages under way in each pair.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) window: u32,
}

/// Users who are away.
#[derive(Debug, Clone, Args)]
pub(crate) struct Offline {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Users who are away, each with one who writes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) receivers: u32,
    /// Messages for each of them.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    pub(crate) per: u32,
    /// Bytes of a body.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(24..=65_536))]
    pub(crate) body: u32,
}

/// All ways and shapes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Walls {
    #[command(flatten)]
    pub(crate) size: Size,
    /// Messages a second of the open loop.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Messages under way in each pair of the closed loop.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) window: u32,
    /// Messages for each receiver that is away; there are as many as pairs.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    pub(crate) per: u32,
    /// A CQL server that runs already; without it the third way is left out, and the report says so.
    #[arg(long)]
    pub(crate) cql: Option<String>,
    /// Where the report goes; it is printed as well.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}
