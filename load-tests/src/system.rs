//! What is loaded: a system of one's own, in one process or split, or one that runs already.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dialtone::own::{Launch, OwnSystem, Process, free_ports, local};
use dialtone::settings::SERVICES;
use dialtone_chassis::Chassis;
use dialtone_store::scylla::{Scylla, ScyllaConfig};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::args::{Target, Way};
use crate::machine::{self, Watched};

/// How a process of the CQL server is named in reports.
pub(crate) const CQL: &str = "cql-server";
/// How long nats-server may take to listen.
const NATS_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A system under load.
pub(crate) enum System {
    /// Somebody else's.
    Running { gateway: String, centre: String },
    /// One process.
    One(OwnSystem),
    /// A process for each service.
    Split(Split),
}

/// Services in processes of their own over nats-server; all of it ends with this.
pub(crate) struct Split {
    gateway: u16,
    processes: Vec<(&'static str, Process)>,
    nats: Child,
    cql: Option<(u32, Scylla)>,
    _folder: TempDir,
}

impl System {
    /// Starts it, if it is ours, and waits until it is ready.
    ///
    /// # Errors
    /// What can't be started or reached.
    pub(crate) async fn start(chassis: &Chassis, target: &Target) -> Result<Self> {
        match (target.own.then_some(target.way), &target.gateway, &target.sms_centre) {
            (Some(Way::OneProcess), ..) => {
                let launch = Launch { args: vec!["server".to_owned()], settings: settings(&[]) };
                Ok(Self::One(OwnSystem::start(chassis, launch).await?))
            }
            (Some(Way::Nats), ..) => Ok(Self::Split(Split::start(chassis, None).await?)),
            (Some(Way::NatsCql), ..) => Ok(Self::Split(Split::start(chassis, Some(&target.cql)).await?)),
            (None, Some(gateway), Some(centre)) => {
                Ok(Self::Running { gateway: gateway.clone(), centre: centre.clone() })
            }
            _ => anyhow::bail!("--self, or --gateway and --sms-centre"),
        }
    }

    /// URL of the gateway.
    pub(crate) fn gateway(&self) -> String {
        match self {
            Self::Running { gateway, .. } => gateway.clone(),
            Self::One(own) => own.gateway_url(),
            Self::Split(split) => format!("http://{}", local(split.gateway)),
        }
    }

    /// URL of the operations port where the handsets are.
    pub(crate) fn centre(&self) -> String {
        match self {
            Self::Running { centre, .. } => centre.clone(),
            Self::One(own) => own.centre_url(),
            Self::Split(split) => split.ops("centre").unwrap_or_default(),
        }
    }

    /// URLs of the operations ports that tell of commits of the embedded store.
    pub(crate) fn stores(&self) -> Vec<String> {
        match self {
            Self::Running { .. } => Vec::new(),
            Self::One(own) => vec![own.centre_url()],
            Self::Split(split) => ["routing", "offline"].iter().filter_map(|name| split.ops(name)).collect(),
        }
    }

    /// The processes that are ours to measure.
    pub(crate) fn watched(&self) -> Watched {
        let named = |name: &str, pid: Option<u32>| pid.map(|pid| (name.to_owned(), pid));
        match self {
            Self::Running { .. } => Watched::new(),
            Self::One(own) => named("dialtone", own.pid()).into_iter().collect(),
            Self::Split(split) => {
                let services = split.processes.iter().map(|(name, process)| named(name, process.pid()));
                let cql = split.cql.as_ref().map(|(pid, _)| *pid);
                services.chain([named("nats-server", split.nats.id()), named(CQL, cql)]).flatten().collect()
            }
        }
    }

    /// Ends what is ours.
    ///
    /// # Errors
    /// When it can't be ended.
    pub(crate) async fn stop(self) -> Result<()> {
        match self {
            Self::Running { .. } => Ok(()),
            Self::One(own) => own.stop().await,
            Self::Split(split) => split.stop().await,
        }
    }
}

/// Budgets that let a crowd register, and what else is said to a process.
fn settings(more: &[(&str, String)]) -> Vec<(String, String)> {
    let budgets = [("IDENTITY__PREFIX_SMS_PER_HOUR", "100000"), ("SMS__PER_HOUR", "1000000")];
    let budgets = budgets.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let all = budgets.chain(more.iter().cloned());
    all.map(|(name, value)| (format!("DIALTONE__{name}"), value)).collect()
}

impl Split {
    async fn start(chassis: &Chassis, cql: Option<&str>) -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let ports: [u16; 3 + 2 * SERVICES.len()] = free_ports()?;
        let ([nats_port, gateway, smpp], rest) = ports.split_first_chunk().context("three of them")?;
        let (internal, ops) = rest.split_at(SERVICES.len());
        let (nats_port, gateway, smpp) = (*nats_port, *gateway, *smpp);
        let nats = nats(chassis, nats_port).await?;
        let mut common = vec![
            ("BUS__URL", format!("nats://{}", local(nats_port))),
            ("GATEWAY__LISTEN", local(gateway)),
            ("CENTRE__LISTEN", local(smpp)),
            ("SMS__PROVIDER", local(smpp)),
            ("SECRETS__FOLDER", folder.path().join("keys").display().to_string()),
        ];
        let cql = match cql {
            Some(server) => Some(keyspace(chassis, server, &mut common).await?),
            None => {
                common.push(("STORE__URL", format!("embedded:{}", folder.path().join("data").display())));
                None
            }
        };
        let addresses: Vec<(String, String)> = SERVICES
            .iter()
            .zip(internal)
            .filter(|(service, _)| dialtone::system::is_called(service))
            .map(|(service, port)| {
                (format!("INTERNAL__{}", service.to_uppercase()), format!("http://{}", local(*port)))
            })
            .collect();
        let mut processes = Vec::new();
        for (nth, service) in SERVICES.into_iter().enumerate() {
            let mut more = common.clone();
            more.push(("NODE__NAME", format!("{service}-1")));
            more.push(("INTERNAL__LISTEN", local(internal[nth])));
            more.extend(addresses.iter().map(|(name, url)| (name.as_str(), url.clone())));
            let launch =
                Launch { args: vec!["server".to_owned(), service.to_owned()], settings: settings(&more) };
            let log = folder.path().join(format!("{service}.log"));
            processes.push((service, Process::start(&launch, ops[nth], &log)?, log));
        }
        let mut ready = Vec::new();
        for (service, mut process, log) in processes {
            process.ready(chassis).await.with_context(|| format!("{service}: {}", last_line(&log)))?;
            ready.push((service, process));
        }
        Ok(Self { gateway, processes: ready, nats, cql, _folder: folder })
    }

    fn ops(&self, service: &str) -> Option<String> {
        self.processes.iter().find(|(name, _)| *name == service).map(|(_, process)| process.ops_url())
    }

    async fn stop(mut self) -> Result<()> {
        for (_, process) in &mut self.processes {
            process.kill().await?;
        }
        self.nats.kill().await.context("ending nats-server")?;
        match self.cql {
            Some((_, scylla)) => scylla.drop_keyspace().await.context("the keyspace"),
            None => Ok(()),
        }
    }
}

/// A keyspace of one's own on a CQL server that runs, and the server's process.
async fn keyspace(
    chassis: &Chassis,
    server: &str,
    settings: &mut Vec<(&'static str, String)>,
) -> Result<(u32, Scylla)> {
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let pid = machine::listener(port.context("--cql is given as host:port")?)?;
    let pid = pid.with_context(|| format!("no process of this machine listens at {server}"))?;
    let keyspace = format!("load_{:016x}", chassis.rng.u64());
    let config =
        ScyllaConfig { nodes: vec![server.to_owned()], keyspace: keyspace.clone(), ..Default::default() };
    Scylla::migrate(&config, dialtone::system::SCHEMAS, 1, chassis, || false).await?;
    settings.extend([
        ("STORE__URL", format!("scylla://{server}")),
        ("STORE__KEYSPACE", keyspace),
        ("STORE__MIGRATE", "true".to_owned()),
    ]);
    Ok((pid, Scylla::open(&config).await?))
}

async fn nats(chassis: &Chassis, port: u16) -> Result<Child> {
    let child = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("nats-server is not in the PATH: deploy/local/nats-server says how to get it")?;
    let listens = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            chassis.clock.sleep(LOOK_EVERY).await;
        }
    };
    ensure!(chassis.clock.timeout(NATS_WITHIN, listens).await.is_ok(), "nats-server does not listen");
    Ok(child)
}

fn last_line(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    said.lines().last().unwrap_or_default().to_owned()
}
