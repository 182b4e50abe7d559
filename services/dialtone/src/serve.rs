//! `dialtone` and `dialtone run`: a process with some services, until it is told to stop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_bus::Bus;
use dialtone_chassis::listen::ListenError;
use dialtone_chassis::tls::Tls;
use dialtone_chassis::{Chassis, Network, Secrets, listen, ops, server, telemetry};
use dialtone_sms::centre::Centre;
use dialtone_store::StoreUrl;
use dialtone_vocab::NodeId;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ground;
use crate::settings::{SERVICES, Settings};
use crate::system::{self, Ground, System};

/// After this process says that it is not ready, whoever balances gets so long to notice.
const NOTICE: Duration = Duration::from_millis(100);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What can't be started, naming the setting.
pub async fn serve(settings: Settings, services: &[String]) -> Result<()> {
    // Before anybody can see that this process is there: a signal that comes first would kill it without a stop.
    let mut told = Told::listen()?;
    let telemetry = telemetry::init(&settings.telemetry)?;
    let chassis = Chassis::real(NodeId::new(&settings.node.name));
    // Ports first: a port in use must not leave a store behind that was only just made.
    let lives = |service: &str| services.iter().any(|name| name == service);
    let ops_listener = listen::bind(settings.ops.listen, "ops.listen").await?;
    let public_listener = bind_if(lives("gateway"), settings.gateway.listen, "gateway.listen").await?;
    let centre_listener = bind_if(lives("centre"), settings.centre.listen, "centre.listen").await?;
    // Others call what lives here, unless everything does, or nothing that is called.
    let is_called = services.len() < SERVICES.len() && services.iter().any(|name| system::is_called(name));
    let internal_listener = bind_if(is_called, settings.internal.listen, "internal.listen").await?;
    let centre = lives("centre").then(|| Centre::new(&chassis, &settings.centre));
    let handsets = centre.as_ref().map(Centre::handsets).unwrap_or_default();
    // From now on anybody can see what the process waits for.
    listen::serve(
        &chassis,
        ops_listener,
        ops::routes(telemetry.registry.clone(), chassis.ready.clone(), handsets),
        "ops",
    );
    let starting = chassis.ready.register("start");
    starting.set_missing("starting");
    let dial = match (settings.sms.provider.as_str(), &centre_listener) {
        ("", Some(listener)) => Some(dialtone_sms::tcp(way_to(listener.local_addr()?).to_string())),
        _ => None,
    };
    let Some((bus, store, secrets)) = told.unless(depend(&settings, services, &chassis)).await.transpose()?
    else {
        return Ok(());
    };
    let tls = settings.internal.tls().map_err(anyhow::Error::msg)?;
    let tls = tls.map(|files| Tls::open(&chassis, files)).transpose()?;
    let address = match &internal_listener {
        Some(listener) => settings.internal.address(listener.local_addr()?),
        None => String::new(),
    };
    let network = Network::new(&chassis, tls.clone());
    let sabotage = system::Sabotage::default();
    let ground = Ground { chassis: chassis.clone(), bus, store, secrets, network, address, dial, sabotage };
    let System { public, internal } = system::start(&settings, services, &ground).await?;
    if let (Some(listener), Some(centre)) = (centre_listener, &centre) {
        centre.listen(listener);
    }
    if let (Some(listener), Some(routes)) = (public_listener, public) {
        listen::serve(&chassis, listener, routes, "gateway");
    }
    if let Some(listener) = internal_listener {
        listen::serve_internal(&chassis, listener, server::join(internal), tls.as_ref());
    }
    starting.set_ready();
    greet(&settings, services);
    told.wait().await;
    println!("stopping …");
    stop(&chassis, &settings).await;
    chassis.blocking.run(move || telemetry.flush()).await;
    Ok(())
}

/// The bus, the store and the keys, however long that takes.
async fn depend(
    settings: &Settings,
    services: &[String],
    chassis: &Chassis,
) -> Result<(Bus, Option<StoreUrl>, Secrets)> {
    let bus = ground::bus(settings, chassis).await?;
    let store = ground::store(settings, services, chassis).await?;
    let secrets = ground::secrets(settings, store.as_ref(), chassis).await?;
    Ok((bus, store, secrets))
}

async fn bind_if(
    wanted: bool,
    addr: SocketAddr,
    setting: &'static str,
) -> Result<Option<TcpListener>, ListenError> {
    if wanted { listen::bind(addr, setting).await.map(Some) } else { Ok(None) }
}

/// Where to reach a listener of this process: one on every interface is reached by loopback.
fn way_to(mut listener: SocketAddr) -> SocketAddr {
    match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listener.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listener.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listener
}

/// The signals that stop a process.
struct Told {
    interrupt: Signal,
    terminate: Signal,
}

impl Told {
    fn listen() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate()).context("SIGTERM")? })
    }

    /// What comes of a future, or nothing if the process is told to stop before.
    async fn unless<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.wait() => None,
            outcome = future => Some(outcome),
        }
    }

    async fn wait(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Not ready, then every stream is told to go, then tasks end, within the deadline.
async fn stop(chassis: &Chassis, settings: &Settings) {
    chassis.ready.register("stopping").set_missing("stopping");
    chassis.clock.sleep(NOTICE).await;
    if !chassis.tasks.shutdown(Duration::from_secs(settings.node.drain_seconds)).await {
        tracing::warn!("some tasks had not ended in time");
    }
}

fn greet(settings: &Settings, services: &[String]) {
    let (gateway, ops) = (settings.gateway.listen, settings.ops.listen);
    if services.len() < SERVICES.len() {
        println!(
            "Dialtone runs {} as node {:?}; operations on http://{ops}.",
            services.join(", "),
            settings.node.name
        );
        return;
    }
    println!(
        "Dialtone runs: every service in this process, store {}.\n\
         \x20 clients      http://{gateway}  gRPC and gRPC-Web, reflection and health\n\
         \x20 operations   http://{ops}  /metrics /healthz /readyz, the handsets\n\
         \x20 SMS centre   {}  SMPP 3.4, embedded\n\n\
         Try next, each in a terminal of its own:\n\
         \x20 cargo run -- phone +14155550101\n\
         \x20 cargo run -- phone +14155550102\n\
         \x20 cargo run -- tour\n\n\
         Ctrl-C stops it.",
        settings.store.url, settings.centre.listen,
    );
}
