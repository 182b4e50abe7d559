//! `[store]` and `[lease]`.

use std::path::PathBuf;

use dialtone_shards::lease::CheckBy;
use dialtone_store::StoreUrl;
use dialtone_store::scylla::ScyllaConfig;
use serde::Deserialize;

/// What begins the address of CQL servers.
const SCYLLA: &str = "scylla://";
/// The longest name of a keyspace: the servers' own limit.
const KEYSPACE_CHARS: usize = 48;
/// The most replicas that are asked for.
const REPLICAS: u32 = 9;

/// `[store]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `embedded:FOLDER`, `embedded:memory` or `scylla://host:port,…`.
    pub url: String,
    /// The keyspace on CQL servers.
    pub keyspace: String,
    /// Whose replicas are asked; empty: those of the server that answers first.
    pub data_center: String,
    /// Whom to log in as, if there is a password.
    pub user: String,
    /// A file with the password; empty: none is wanted.
    pub password_file: String,
    /// A file with the certificates of who signs the servers'; empty: no TLS.
    pub ca_file: String,
    /// Refuse servers that may forget what they acknowledged.
    pub strict: bool,
    /// Make keyspace and tables at the start if they are missing.
    pub migrate: bool,
    /// Replicas of a keyspace that is made.
    pub replicas: u32,
}

/// `[lease]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// How a process sees after a write that it still is the owner: `clock` or `read`.
    pub check: String,
}

impl Store {
    pub(super) fn check(&self) -> Result<(), String> {
        let Some(nodes) = self.url.strip_prefix(SCYLLA) else {
            return StoreUrl::parse(&self.url).map(drop).map_err(|error| format!("store.url: {error}"));
        };
        if !nodes.split(',').all(dialtone_chassis::config::is_host_port) {
            return Err("store.url: scylla://host:port, more of them after commas".into());
        }
        let is_name = |name: &str| {
            let first = |c: char| c.is_ascii_lowercase();
            name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit() || c == '_')
        };
        if !is_name(&self.keyspace) || self.keyspace.len() > KEYSPACE_CHARS {
            return Err(
                "store.keyspace: a letter, then letters, digits and _, all lower case, at most 48".into()
            );
        }
        if !self.data_center.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
            return Err("store.data_center: letters, digits, _, - and .".into());
        }
        if !(1..=REPLICAS).contains(&self.replicas) {
            return Err("store.replicas: 1 to 9".into());
        }
        Ok(())
    }

    /// How to reach the CQL servers, if that is where the store is.
    pub fn scylla(&self) -> Option<ScyllaConfig> {
        let nodes = self.url.strip_prefix(SCYLLA)?;
        let file = |path: &str| (!path.is_empty()).then(|| PathBuf::from(path));
        Some(ScyllaConfig {
            nodes: nodes.split(',').map(str::to_owned).collect(),
            keyspace: self.keyspace.clone(),
            data_center: self.data_center.clone(),
            user: self.user.clone(),
            password_file: file(&self.password_file),
            ca_file: file(&self.ca_file),
            strict: self.strict,
        })
    }
}

impl Lease {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.by().map(drop).ok_or("lease.check: `clock` or `read`")
    }

    /// As the leases want it.
    pub fn by(&self) -> Option<CheckBy> {
        match self.check.as_str() {
            "clock" => Some(CheckBy::Clock),
            "read" => Some(CheckBy::Read),
            _ => None,
        }
    }
}
