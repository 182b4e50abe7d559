//! What a process stands on and may have to wait for: the store, the bus.

use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_bus::{Bus, BusError};
use dialtone_chassis::{Backoff, Chassis};
use dialtone_store::scylla::Scylla;
use dialtone_store::{StoreError, StoreUrl};

use crate::settings::Settings;
use crate::system::{SCHEMAS, first_secrets};

/// How long a dependency that is not there is waited for the first time until it is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// The longest that it is waited for.
const RETRY_MOST: Duration = Duration::from_secs(5);

/// The store, as soon as it is there and its schema is the one that this program knows. Meanwhile the process is not
/// ready, and says why.
///
/// # Errors
/// What waiting does not mend: files that can't be read, a schema of a later program, servers that are not safe.
pub(crate) async fn store(settings: &Settings, chassis: &Chassis) -> Result<StoreUrl> {
    let Some(config) = settings.store.scylla() else {
        return StoreUrl::parse(&settings.store.url).context("store.url");
    };
    let ready = chassis.ready.register("store");
    let mut backoff = Backoff::new(RETRY, RETRY_MOST);
    let mut is_new = false;
    loop {
        let opened = async {
            let replicas = settings.store.replicas;
            if settings.store.migrate && Scylla::migrate(&config, SCHEMAS, replicas, chassis).await? {
                is_new = true;
            }
            let scylla = Scylla::open(&config).await?;
            scylla.check_schemas(SCHEMAS).await?;
            Ok(scylla)
        };
        match opened.await {
            Ok(scylla) => {
                if is_new {
                    first_secrets(settings, chassis)?;
                }
                ready.set_ready();
                return Ok(StoreUrl::Scylla(scylla));
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

/// Whether it may be there later: what somebody else is about to start or to migrate.
fn may_mend(error: &StoreError) -> bool {
    match error {
        StoreError::WrongSchema { found, wanted, .. } => found < wanted,
        StoreError::Unreachable { .. }
        | StoreError::NoKeyspace { .. }
        | StoreError::Read { .. }
        | StoreError::Unknown { .. } => true,
        _ => false,
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
        match Bus::connect(&settings.bus.config(), chassis).await {
            Ok(bus) => {
                ready.set_ready();
                return Ok(bus);
            }
            Err(error @ BusError::Unreachable(_)) => {
                tracing::warn!(%error, "waiting for the bus");
                ready.set_missing(error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
        chassis.clock.sleep(backoff.pause(&chassis.rng)).await;
    }
}
