//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use dialtone_chassis::{Chassis, telemetry};
use dialtone_vocab::NodeId;

use crate::settings::{SERVICES, Settings};
use crate::{migrate, nats_config, phone, serve, tour};

/// A messaging backend whose only identity is the phone number.
///
/// Without a command every service runs in this process: the whole product.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// A TOML file over the compiled-in defaults.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run only these services in this process.
    Run {
        /// Of: gateway identity contacts presence routing offline sms centre.
        #[arg(required = true, value_parser = clap::builder::PossibleValuesParser::new(SERVICES))]
        services: Vec<String>,
    },
    /// Make keyspace and tables on the CQL servers of `store.url`, and new keys for a new store.
    Migrate,
    /// Print the configuration of a nats-server that others use too: users that may do what their services need.
    NatsConfig(nats_config::Wanted),
    /// A phone to play with, against a running system.
    Phone {
        /// Its number, as in +14155550101.
        number: String,
        /// Only its handset, as somebody without Dialtone has one: SMS in, SMS out.
        #[arg(long)]
        handset_only: bool,
        /// The gateway.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        gateway: String,
        /// The operations port of the process with the embedded SMS centre.
        #[arg(long, default_value = "http://127.0.0.1:9090")]
        sms_centre: String,
        /// Where phones keep their keys, books and journals.
        #[arg(long, default_value = "dialtone-phones")]
        home: PathBuf,
    },
    /// The story of the product, checked step by step.
    Tour {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
        /// Tell it against this running gateway (then nothing is killed).
        #[arg(long, requires = "sms_centre")]
        gateway: Option<String>,
        /// The operations port of the process with the embedded SMS centre.
        #[arg(long, requires = "gateway")]
        sms_centre: Option<String>,
        /// Only the step that kills the process, so many times.
        #[arg(long, value_name = "TIMES", conflicts_with = "gateway")]
        crashes: Option<u32>,
    },
    /// The configuration.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Print the defaults, which are the reference.
    Print,
    /// Check file and environment.
    Check,
}

/// Runs a command.
///
/// # Errors
/// What the user must be told.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        None => serve_all(cli.config, &SERVICES.map(str::to_owned)).await,
        Some(Command::Run { services }) => serve_all(cli.config, &services).await,
        Some(Command::Migrate) => {
            migrate::migrate(&Settings::load(cli.config.as_deref(), std::env::vars())?).await
        }
        Some(Command::NatsConfig(wanted)) => {
            print!("{}", nats_config::print(&wanted)?);
            Ok(())
        }
        Some(Command::Phone { number, handset_only, gateway, sms_centre, home }) => {
            let (chassis, setup) =
                (quiet_chassis("phone")?, phone::Setup { number, gateway, sms_centre, home });
            if handset_only {
                return phone::use_handset(&chassis, setup).await;
            }
            phone::use_phone(&chassis, setup).await
        }
        Some(Command::Tour { json, gateway, sms_centre, crashes }) => {
            let at = match (gateway, sms_centre) {
                (Some(gateway), Some(sms_centre)) => tour::Where::Running { gateway, sms_centre },
                _ => tour::Where::Own,
            };
            tour::tell(&quiet_chassis("tour")?, tour::Plan { at, json, only_crash: crashes }).await
        }
        Some(Command::Config { action: ConfigAction::Print }) => {
            print!("{}", crate::settings::DEFAULTS);
            Ok(())
        }
        Some(Command::Config { action: ConfigAction::Check }) => {
            let settings = Settings::load(cli.config.as_deref(), std::env::vars())?;
            settings.check_for(&SERVICES.map(str::to_owned))?;
            println!("the configuration is in order");
            Ok(())
        }
    }
}

/// For commands that are clients: they print for people and log nothing.
fn quiet_chassis(name: &str) -> Result<Chassis> {
    telemetry::metrics_only().context("metrics")?;
    Ok(Chassis::real(NodeId::new(name)))
}

async fn serve_all(config: Option<PathBuf>, services: &[String]) -> Result<()> {
    let settings = Settings::load(config.as_deref(), std::env::vars())?;
    settings.check_for(services)?;
    serve::serve(settings, services).await
}
