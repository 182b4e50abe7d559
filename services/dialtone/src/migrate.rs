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
    let is_new =
        Scylla::migrate(&config, SCHEMAS, settings.store.replicas, &chassis).await.context("store")?;
    if is_new {
        let folder = system::first_secrets(settings, &chassis)?;
        Scylla::used(&config).await.context("store")?;
        println!("made the keyspace {} and its tables; keys are in {}", config.keyspace, folder.display());
    } else {
        println!("the keyspace {} has the tables of this program", config.keyspace);
    }
    Ok(())
}
