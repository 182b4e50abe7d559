//! What the server is, and whether it keeps what it acknowledges.

use super::{Kind, Scylla};
use crate::StoreError;

/// What to set when acknowledged writes are not on disk.
const ADVICE: &str = "an acknowledged write may be lost with the machine: set commitlog_sync to `group` (Cassandra) or \
    `batch` (ScyllaDB)";

impl Scylla {
    /// Looks at version and commit log; warns, or refuses in strict mode.
    pub(super) async fn check_server(&self) -> Result<(), StoreError> {
        let version = self.prepare("SELECT release_version FROM system.local", Kind::Read).await?;
        let version: Option<(String,)> = self.row(&version, ()).await?;
        let sync = self.commit_log_sync().await;
        let version = version.map_or_else(String::new, |(version,)| version);
        tracing::info!(version, sync = sync.as_deref().unwrap_or("unknown"), "CQL server");
        match sync.as_deref() {
            Some("batch" | "group") => Ok(()),
            Some(_) if self.0.config.strict => Err(StoreError::Unsafe { why: ADVICE }),
            Some(_) => {
                tracing::warn!("{ADVICE}");
                Ok(())
            }
            None if self.0.config.strict => {
                Err(StoreError::Unsafe { why: "it does not say how its commit log is synced" })
            }
            None => {
                tracing::warn!("the CQL server does not say how its commit log is synced");
                Ok(())
            }
        }
    }

    /// As Cassandra says it, or else as ScyllaDB does.
    async fn commit_log_sync(&self) -> Option<String> {
        for text in [
            "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'",
            "SELECT value FROM system.config WHERE name = 'commitlog_sync'",
        ] {
            let Ok(statement) = self.prepare(text, Kind::Read).await else { continue };
            if let Ok(Some((value,))) = self.row::<(Option<String>,)>(&statement, ()).await {
                return value.map(|value| value.trim_matches('"').to_owned());
            }
        }
        None
    }
}
