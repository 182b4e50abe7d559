//! The wiring: services, and the channels between them. The only place that names them all.

use std::path::PathBuf;

use anyhow::{Context, Result};
use dialtone_bus::Bus;
use dialtone_chassis::{Channel, Chassis, LocalRoutes, Network, Secrets};
use dialtone_shards::lease::CheckBy;
use dialtone_shards::{LEASES, Leases, Shards};
use dialtone_sms::Dial;
use dialtone_store::{Db, Schema, StoreUrl};
use tonic::service::Routes;

use crate::settings::Settings;

/// Deliberate defects, for the tests that prove that they are caught.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Sabotage {
    /// In offline.
    pub offline: dialtone_offline::Sabotage,
    /// In routing.
    pub routing: dialtone_routing::Sabotage,
}

/// What all rooms keep, for a store that is made for them.
pub const SCHEMAS: &[Schema] = &[
    LEASES,
    dialtone_identity::SCHEMA,
    dialtone_contacts::SCHEMA,
    dialtone_presence::SCHEMA,
    dialtone_routing::SCHEMA,
    dialtone_offline::SCHEMA,
    dialtone_sms::SCHEMA,
];

/// The services that own logs, and need leases for them in a store that processes share.
const OWNERS: [&str; 3] = ["routing", "offline", "sms"];

/// Where keys are that belong to no folder.
const KEYS: &str = "dialtone.keys";

/// What a system stands on: for a real process made from the settings, for a test by hand.
pub struct Ground {
    /// Time, randomness, tasks.
    pub chassis: Chassis,
    /// The bus.
    pub bus: Bus,
    /// The store; `None`: no service here keeps anything.
    pub store: Option<StoreUrl>,
    /// The keys.
    pub secrets: Secrets,
    /// The way to other processes.
    pub network: Network,
    /// The URL by which other processes reach this one; empty: they don't.
    pub address: String,
    /// The way to the operator; `None`: to `sms.provider` over TCP.
    pub dial: Option<Dial>,
    /// Deliberate defects.
    #[doc(hidden)]
    pub sabotage: Sabotage,
}

/// The services of this process, running.
pub struct System {
    /// What clients reach, if the gateway lives here.
    pub public: Option<Routes>,
    /// What other processes reach: the full names of gRPC services, and their routes.
    pub internal: Vec<(&'static [&'static str], LocalRoutes)>,
}

/// The services that gRPC calls go to; the others are reached by the bus alone.
const NEEDED: &[&str] = &["identity", "contacts", "presence", "routing", "offline", "sms"];

/// Whether other processes call this service by gRPC.
pub fn is_called(service: &str) -> bool {
    NEEDED.contains(&service)
}

/// Whether this service keeps anything in the store.
pub fn has_store(service: &str) -> bool {
    SCHEMAS.iter().any(|schema| schema.service == service)
}

/// The gRPC services of a service.
fn grpc_names(service: &str) -> &'static [&'static str] {
    match service {
        "identity" => &[
            "dialtone.identity.v1.Registration",
            "dialtone.identity.v1.Login",
            "dialtone.identity.v1.Account",
            "dialtone.identity.internal.v1.Directory",
        ],
        "contacts" => &["dialtone.contacts.v1.Contacts", "dialtone.contacts.internal.v1.Graph"],
        "presence" => &["dialtone.presence.v1.Presence"],
        "routing" => &["dialtone.routing.v1.Messages"],
        "offline" => &["dialtone.offline.v1.Inbox"],
        _ => &["dialtone.sms.internal.v1.Bridge"],
    }
}

/// The keys, made when nothing was stored yet: new keys to a store that has others would go unnoticed and lose what
/// depends on them.
///
/// # Errors
/// When a key file can't be read or made, or is missing beside a store that was used.
pub fn secrets(settings: &Settings, store: &StoreUrl, chassis: &Chassis) -> Result<Secrets> {
    let folder = keys_folder(settings, Some(store));
    let is_first = !store.was_used();
    let secrets =
        if is_first { Secrets::open_or_create(&folder, &chassis.rng) } else { Secrets::open(&folder) };
    secrets.context("secrets.folder")
}

/// Where the keys of a store are; of one on CQL servers without the store too.
pub fn keys_folder(settings: &Settings, store: Option<&StoreUrl>) -> PathBuf {
    match (settings.secrets.folder.as_str(), store) {
        ("", Some(StoreUrl::Folder(folder))) => folder.with_added_extension("keys"),
        ("", _) => PathBuf::from(KEYS),
        (folder, _) => PathBuf::from(folder),
    }
}

/// The keys of a store on CQL servers that was made just now, and where they are.
///
/// # Errors
/// When a key file can't be read or made.
pub fn first_secrets(settings: &Settings, chassis: &Chassis) -> Result<PathBuf> {
    let folder = keys_folder(settings, None);
    Secrets::open_or_create(&folder, &chassis.rng).context("secrets.folder")?;
    Ok(folder)
}

/// Channels to the services of this process, and to those elsewhere.
struct Channels<'a> {
    settings: &'a Settings,
    network: &'a Network,
    here: Vec<(&'static str, LocalRoutes)>,
}

impl Channels<'_> {
    fn to(&self, service: &'static str) -> Result<Channel> {
        if let Some((_, routes)) = self.here.iter().find(|(name, _)| *name == service) {
            return Ok(Channel::Local(routes.clone()));
        }
        let internal = &self.settings.internal;
        let url = match service {
            "identity" => &internal.identity,
            "contacts" => &internal.contacts,
            "presence" => &internal.presence,
            "routing" => &internal.routing,
            "offline" => &internal.offline,
            _ => &internal.sms,
        };
        self.network.channel(url).with_context(|| format!("internal.{service}"))
    }
}

/// Starts the services named, in an order in which whoever is asked is there first.
///
/// # Errors
/// The first thing that can't be started, with its setting.
#[expect(clippy::too_many_lines, reason = "one paragraph a service, read from top to bottom")]
pub async fn start(settings: &Settings, services: &[String], ground: &Ground) -> Result<System> {
    let Ground { chassis, bus, store, secrets, network, address, dial, sabotage } = ground;
    let lives = |service: &str| services.iter().any(|name| name == service);
    let store = || store.clone().context("store.url: a service of this process needs the store");
    // What has leases is served when they are about to be taken, and said then.
    let is_shared = ground.store.as_ref().is_some_and(StoreUrl::is_shared);
    let is_later = |name: &str| name == "centre" || is_shared && OWNERS.contains(&name);
    let own: Vec<&str> = services.iter().map(String::as_str).filter(|name| !is_later(name)).collect();
    let needed = if lives("gateway") { NEEDED } else { &[] };
    let shards = Shards::start_at(chassis, bus, &own, needed, address).await?;
    let shards = lease(settings, services, ground, shards).await?;
    let mut channels = Channels { settings, network, here: Vec::new() };
    if lives("identity") {
        let config = &settings.identity;
        let identity = dialtone_identity::start(chassis, bus, secrets, store()?, config).await?;
        channels.here.push(("identity", identity.routes));
    }
    if lives("contacts") {
        let peers = dialtone_contacts::Peers { identity: channels.to("identity")? };
        let contacts =
            dialtone_contacts::start(chassis, bus, &shards, secrets, store()?, &settings.contacts, peers)
                .await?;
        channels.here.push(("contacts", contacts.routes));
    }
    if lives("presence") {
        let peers = dialtone_presence::Peers { contacts: channels.to("contacts")? };
        let presence =
            dialtone_presence::start(chassis, bus, &shards, secrets, store()?, &settings.presence, peers)
                .await?;
        channels.here.push(("presence", presence.routes));
    }
    if lives("sms") {
        let dial = dial.clone().unwrap_or_else(|| dialtone_sms::tcp(settings.sms.provider.clone()));
        let sms = dialtone_sms::start(chassis, bus, &shards, secrets, store()?, &settings.sms, dial).await?;
        channels.here.push(("sms", sms.routes));
    }
    if lives("offline") {
        let peers = dialtone_offline::Peers { identity: channels.to("identity")? };
        let (config, sabotage) = (&settings.offline, sabotage.offline);
        let offline = dialtone_offline::start_sabotaged(
            chassis,
            bus,
            &shards,
            secrets,
            store()?,
            config,
            peers,
            sabotage,
        )
        .await?;
        channels.here.push(("offline", offline.routes));
    }
    if lives("routing") {
        let peers = dialtone_routing::Peers { identity: channels.to("identity")?, sms: channels.to("sms")? };
        let (config, sabotage) = (&settings.routing, sabotage.routing);
        let routing = dialtone_routing::start_sabotaged(
            chassis,
            bus,
            &shards,
            secrets,
            store()?,
            config,
            peers,
            sabotage,
        )
        .await?;
        channels.here.push(("routing", routing.routes));
    }
    let public = match lives("gateway") {
        true => Some(gateway(settings, ground, &shards, &channels).await?),
        false => None,
    };
    Ok(System {
        public,
        internal: channels.here.into_iter().map(|(name, routes)| (grpc_names(name), routes)).collect(),
    })
}

/// The leases of the services here that own logs, if the store is one that processes share.
async fn lease(settings: &Settings, services: &[String], ground: &Ground, shards: Shards) -> Result<Shards> {
    let Ground { chassis, bus, store, .. } = ground;
    let Some(store) = store.as_ref().filter(|store| store.is_shared()) else { return Ok(shards) };
    let here: Vec<_> = OWNERS.into_iter().filter(|owner| services.iter().any(|name| name == owner)).collect();
    if here.is_empty() {
        return Ok(shards);
    }
    let db = Db::open(store.clone(), LEASES, chassis).await?;
    let by = settings.lease.by().unwrap_or(CheckBy::Read);
    let leases = Leases::start(chassis, bus, &shards, db, by, here).await?;
    Ok(shards.with_leases(leases))
}

async fn gateway(
    settings: &Settings,
    ground: &Ground,
    shards: &Shards,
    channels: &Channels<'_>,
) -> Result<Routes> {
    let peers = dialtone_gateway::Peers {
        identity: channels.to("identity")?,
        contacts: channels.to("contacts")?,
        presence: channels.to("presence")?,
        routing: channels.to("routing")?,
        offline: channels.to("offline")?,
    };
    let gateway = dialtone_gateway::start(
        &ground.chassis,
        &ground.bus,
        shards,
        &ground.secrets,
        &settings.gateway,
        peers,
        &ground.network,
    );
    Ok(gateway.await?.routes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SERVICES;

    #[test]
    fn the_door_and_the_centre_alone_keep_nothing() {
        let without: Vec<_> = SERVICES.into_iter().filter(|service| !has_store(service)).collect();
        assert_eq!(without, ["gateway", "centre"]);
    }
}
