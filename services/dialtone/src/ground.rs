//! What a process stands on and may have to wait for: the store, its keys, the bus.

use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_bus::{Bus, BusError};
use dialtone_chassis::{Backoff, Chassis, Clock, ReadyHandle, Secrets, SecretsError};
use dialtone_store::scylla::Scylla;
use dialtone_store::{StoreError, StoreUrl};

use crate::settings::Settings;
use crate::system::{self, SCHEMAS, first_secrets};

/// How long a dependency that is not there is waited for the first time until it is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// The longest that it is waited for.
const RETRY_MOST: Duration = Duration::from_secs(5);
/// How often the store is asked whether it is still there.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// How often in a row it has no answer until it is said to be away.
const SILENT: u32 = 2;

/// The store, as soon as it is there and its schema is the one that this program knows; `None` if it is one on CQL
/// servers and no service here keeps anything in it. Meanwhile the process is not ready, and says why.
///
/// # Errors
/// What waiting does not mend: files that can't be read, a schema of a later program, servers that are not safe.
pub(crate) async fn store(
    settings: &Settings,
    services: &[String],
    chassis: &Chassis,
) -> Result<Option<StoreUrl>> {
    let Some(config) = settings.store.scylla() else {
        return StoreUrl::parse(&settings.store.url).map(Some).context("store.url");
    };
    if !services.iter().any(|service| system::has_store(service)) {
        return Ok(None);
    }
    let ready = chassis.ready.register("store");
    let mut backoff = Backoff::new(RETRY, RETRY_MOST);
    loop {
        let mut keys = Ok(());
        let opened = async {
            if settings.store.migrate {
                let complete = || {
                    keys = first_secrets(settings, chassis).map(drop);
                    keys.is_ok()
                };
                Scylla::migrate(&config, SCHEMAS, settings.store.replicas, chassis, complete).await?;
            }
            let scylla = Scylla::open(&config).await?;
            scylla.check_schemas(SCHEMAS).await?;
            Ok(scylla)
        };
        match opened.await {
            Ok(scylla) => {
                keys?;
                ready.set_ready();
                let (stop, watched) =
                    (chassis.tasks.stop_token(), watch(scylla.clone(), ready, chassis.clock.clone()));
                chassis.tasks.spawn("store watch", async move {
                    let _or_until_it_stops = stop.run_until_cancelled(watched).await;
                });
                return Ok(Some(StoreUrl::Scylla(scylla)));
            }
            Err(error) if may_mend(&error) => {
                tracing::warn!(%error, "waiting for the store");
                ready.set_missing(error.to_string());
            }
            Err(error) => return Err(error).context("store"),
        }
        chassis.clock.sleep(backoff.pause(&chassis.rng)).await;
    }
}

/// Says whether the store is still there, for those who have no lease to lose.
async fn watch(scylla: Scylla, ready: ReadyHandle, clock: Clock) {
    let mut silent = 0;
    loop {
        clock.sleep(ASKED_EVERY).await;
        match scylla.answers().await {
            Ok(()) if silent >= SILENT => {
                tracing::info!("the store answers again");
                ready.set_ready();
                silent = 0;
            }
            Ok(()) => silent = 0,
            Err(error) => {
                silent = silent.saturating_add(1);
                if silent == SILENT {
                    tracing::warn!(%error, "the store does not answer");
                    ready.set_missing(error.to_string());
                }
            }
        }
    }
}

/// Whether it may be there later: what somebody else is about to start or to migrate.
fn may_mend(error: &StoreError) -> bool {
    match error {
        StoreError::WrongSchema { found, .. } => *found == 0,
        StoreError::Unreachable { .. }
        | StoreError::NoKeyspace { .. }
        | StoreError::Read { .. }
        | StoreError::Unknown { .. } => true,
        _ => false,
    }
}

/// The keys. Those of a store that processes share are waited for: whoever makes the store makes them, after its tables.
///
/// # Errors
/// Keys that can't be read, or are missing beside a store that is there.
pub(crate) async fn secrets(
    settings: &Settings,
    store: Option<&StoreUrl>,
    chassis: &Chassis,
) -> Result<Secrets> {
    if let Some(store) = store.filter(|store| !store.is_shared()) {
        return system::secrets(settings, store, chassis);
    }
    let folder = system::keys_folder(settings, store);
    let ready = chassis.ready.register("keys");
    let mut backoff = Backoff::new(RETRY, RETRY_MOST);
    loop {
        match Secrets::open(&folder) {
            Err(error @ SecretsError::Lost { .. }) => {
                tracing::warn!(%error, "waiting for the keys");
                ready.set_missing(error.to_string());
            }
            opened => {
                ready.set_ready();
                return opened.context("secrets.folder");
            }
        }
        chassis.clock.sleep(backoff.pause(&chassis.rng)).await;
    }
}

/// The bus, as soon as it is there.
///
/// # Errors
/// An address that is none, a server that is too old or does not let this process in.
pub(crate) async fn bus(settings: &Settings, chassis: &Chassis) -> Result<Bus> {
    let ready = chassis.ready.register("bus");
    let mut backoff = Backoff::new(RETRY, RETRY_MOST);
    loop {
        match Bus::connect_saying(&settings.bus.config(), chassis, &ready).await {
            Ok(bus) => return Ok(bus),
            Err(error @ BusError::Unreachable(_)) => {
                tracing::warn!(%error, "waiting for the bus");
                ready.set_missing(error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        chassis.clock.sleep(backoff.pause(&chassis.rng)).await;
    }
}
