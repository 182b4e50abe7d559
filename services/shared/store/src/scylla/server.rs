//! What the servers are, and whether they keep what they acknowledge.

use std::sync::Arc;

use ::scylla::cluster::Node;
use ::scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};

use super::{Kind, Scylla};
use crate::StoreError;

/// What to set when acknowledged writes are not on disk.
const UNSYNCED: &str = "an acknowledged write may be lost with the machine: set commitlog_sync to `group` (Cassandra) or \
    `batch` (ScyllaDB)";
const SILENT: &str = "it does not say how its commit log is synced";
const OLD: &str = "it is older than Apache Cassandra 5.0 and ScyllaDB 2025.1, and was never tried";

/// The oldest versions that somebody tries, or names in what is deployed.
const CASSANDRA: (u32, u32) = (5, 0);
const SCYLLA: (u32, u32) = (2025, 1);

impl Scylla {
    /// Looks at version and commit log of every server that is there; warns, or refuses in strict mode.
    pub(super) async fn check_servers(&self) -> Result<(), StoreError> {
        for node in self.0.session.get_cluster_state().get_nodes_info() {
            if node.is_connected() {
                self.check_server(node).await?;
            }
        }
        Ok(())
    }

    async fn check_server(&self, node: &Arc<Node>) -> Result<(), StoreError> {
        let (version, is_old) = self.version(node).await;
        let sync = self.commit_log_sync(node).await;
        let server = node.address;
        tracing::info!(%server, version, sync = sync.as_deref().unwrap_or("unknown"), "CQL server");
        let weak = is_old.then_some(OLD).into_iter().chain(weakness(sync.as_deref()));
        for why in weak {
            if self.0.config.strict {
                return Err(StoreError::Unsafe { why });
            }
            tracing::warn!(%server, "the CQL server is not safe: {why}");
        }
        Ok(())
    }

    /// What it calls itself, and whether that is too old. ScyllaDB has a name of its own, beside that of the Cassandra
    /// that it was like once.
    async fn version(&self, node: &Arc<Node>) -> (String, bool) {
        let own: Option<String> =
            self.of(node, "SELECT version FROM system.versions WHERE key = 'local'").await;
        let (version, oldest) = match own {
            Some(version) => (version, SCYLLA),
            None => {
                let said = self.of(node, "SELECT release_version FROM system.local").await;
                (said.unwrap_or_default(), CASSANDRA)
            }
        };
        let is_old = parsed(&version).is_none_or(|version| version < oldest);
        (version, is_old)
    }

    /// As Cassandra says it, or else as ScyllaDB does.
    async fn commit_log_sync(&self, node: &Arc<Node>) -> Option<String> {
        for text in [
            "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'",
            "SELECT value FROM system.config WHERE name = 'commitlog_sync'",
        ] {
            if let Some(value) = self.of(node, text).await {
                let value: String = value;
                return Some(value.trim_matches('"').to_owned());
            }
        }
        None
    }

    /// What this server says of itself; `None` if it knows no such table.
    async fn of(&self, node: &Arc<Node>, text: &str) -> Option<String> {
        let mut statement = self.prepare(text, Kind::Read).await.ok()?;
        let only = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(Arc::clone(node)), None);
        statement.0.set_load_balancing_policy(Some(only));
        self.row::<(Option<String>,)>(&statement, ()).await.ok()??.0
    }
}

/// Why a server that syncs so may forget what it acknowledged.
fn weakness(sync: Option<&str>) -> Option<&'static str> {
    match sync {
        Some("batch" | "group") => None,
        Some(_) => Some(UNSYNCED),
        None => Some(SILENT),
    }
}

/// The first two numbers of a version.
fn parsed(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (version, found) in [
            ("5.0.6", Some((5, 0))),
            ("5.0-rc1", Some((5, 0))),
            ("4.1.3", Some((4, 1))),
            ("2025.1.2-0.20250601.abc", Some((2025, 1))),
            ("6.2.0~rc3", Some((6, 2))),
            ("5", None),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(parsed(version), found, "{version}");
        }
        assert!(parsed("4.1.3") < Some(CASSANDRA) && parsed("10.0") > Some(CASSANDRA));
        assert!(parsed("6.2.0") < Some(SCYLLA) && parsed("2025.4") > Some(SCYLLA));
    }

    #[test]
    fn only_what_waits_for_the_disk_is_safe() {
        assert_eq!([weakness(Some("group")), weakness(Some("batch"))], [None, None]);
        assert_eq!([weakness(Some("periodic")), weakness(None)], [Some(UNSYNCED), Some(SILENT)]);
    }
}
