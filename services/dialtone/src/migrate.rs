//! `dialtone migrate`: makes a store on CQL servers, and the keys that belong to it.

use anyhow::{Context, Result, bail};
use dialtone_chassis::Chassis;
use dialtone_store::scylla::Scylla;
use dialtone_vocab::NodeId;

use crate::settings::Settings;
use crate::system::{self, SCHEMAS};

/// Makes keyspace and tables if they are missing; with a new store new keys, if there are none.
///
/// # Errors
/// When the servers can't be used, or hold the tables of a later program.
pub(crate) async fn migrate(settings: &Settings) -> Result<()> {
    let chassis = Chassis::real(NodeId::new(&settings.node.name));
    let Some(config) = settings.store.scylla() else {
        bail!("store.url: only a store on CQL servers (scylla://…) is migrated; others are by being opened");
    };
    let mut keys = None;
    let complete = || keys.insert(system::first_secrets(settings, &chassis)).is_ok();
    Scylla::migrate(&config, SCHEMAS, settings.store.replicas, &chassis, complete).await.context("store")?;
    match keys {
        Some(folder) => {
            println!(
                "made the keyspace {} and its tables; keys are in {}",
                config.keyspace,
                folder?.display()
            );
        }
        None => println!("the keyspace {} has the tables of this program", config.keyspace),
    }
    Ok(())
}
