//! Every setting of every service, checked before a port is bound.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use dialtone_chassis::config::{self, ConfigError};
use dialtone_chassis::telemetry;
use dialtone_store::StoreUrl;
use dialtone_vocab::NodeId;
use serde::Deserialize;

/// The defaults, which are the reference.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// What may live in a process.
pub const SERVICES: [&str; 8] =
    ["gateway", "identity", "contacts", "presence", "routing", "offline", "sms", "centre"];

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// This process.
    pub node: Node,
    /// The bus.
    pub bus: Bus,
    /// The store.
    pub store: Store,
    /// The keys.
    pub secrets: Secrets,
    /// Logs, traces.
    pub telemetry: telemetry::Config,
    /// The operations port.
    pub ops: Ops,
    /// Where services listen and find each other when they are in several processes.
    pub internal: Internal,
    /// The door.
    pub gateway: dialtone_gateway::Config,
    /// Who you are.
    pub identity: dialtone_identity::Config,
    /// Whom you know.
    pub contacts: dialtone_contacts::Config,
    /// Who is there.
    pub presence: dialtone_presence::Config,
    /// What becomes of what I send.
    pub routing: dialtone_routing::Config,
    /// What waits for me.
    pub offline: dialtone_offline::Config,
    /// The old network.
    pub sms: dialtone_sms::Config,
    /// The embedded SMS centre.
    pub centre: dialtone_sms::centre::Config,
}

/// `[node]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The process's name on the bus: lower case letters, digits, `-`.
    pub name: String,
    /// How long a shutdown may take, in seconds.
    pub drain_seconds: u64,
}

/// `[bus]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// `local` or `nats://host:port`.
    pub url: String,
}

/// `[store]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `embedded:FOLDER` or `embedded:memory`.
    pub url: String,
}

/// `[secrets]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// Folder of the key files; empty: beside the store's folder, with `.keys` added to its name.
    pub folder: String,
}

/// `[ops]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ops {
    /// Metrics, health, and the embedded centre's handsets.
    pub listen: SocketAddr,
}

/// `[internal]`: only used by processes that do not hold every service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Internal {
    /// Where this process serves the services it holds to other processes. Loopback until internal TLS exists.
    pub listen: SocketAddr,
    /// URL of the process with identity.
    pub identity: String,
    /// URL of the process with contacts.
    pub contacts: String,
    /// URL of the process with presence.
    pub presence: String,
    /// URL of the process with routing.
    pub routing: String,
    /// URL of the process with offline.
    pub offline: String,
    /// URL of the process with sms.
    pub sms: String,
}

impl Settings {
    /// Defaults, then the file, then the environment; all of it checked.
    ///
    /// # Errors
    /// [`ConfigError`], naming the setting.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let settings: Self = config::load(DEFAULTS, file, environment)?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !NodeId::is_valid(&self.node.name) {
            return Err(ConfigError::new("node.name: 1 to 63 of a-z, 0-9 and -"));
        }
        StoreUrl::parse(&self.store.url).map_err(|error| ConfigError::new(format!("store.url: {error}")))?;
        if self.bus.url != "local" && !self.bus.url.starts_with("nats://") {
            return Err(ConfigError::new("bus.url: `local` or `nats://host:port`"));
        }
        let listens = [self.gateway.listen, self.ops.listen, self.internal.listen, self.centre.listen];
        let fixed: Vec<_> = listens.iter().filter(|addr| addr.port() != 0).collect();
        if fixed.iter().collect::<BTreeSet<_>>().len() != fixed.len() {
            return Err(ConfigError::new(
                "gateway.listen, ops.listen, internal.listen and centre.listen must differ",
            ));
        }
        if !self.internal.listen.ip().is_loopback() {
            return Err(ConfigError::new(
                "internal.listen: loopback only, internal calls are not encrypted yet",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Settings::load(None, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_in_order() {
        let settings = load(&[]).expect("in order");
        assert_eq!(settings.gateway.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.ops.listen.to_string(), "127.0.0.1:9090");
        assert_eq!(settings.centre.listen.to_string(), "127.0.0.1:2775");
    }

    #[test]
    fn wrong_settings_are_named() {
        for (key, value, named) in [
            ("DIALTONE__NODE__NAME", "Node 1", "node.name"),
            ("DIALTONE__STORE__URL", "sqlite:x", "store.url"),
            ("DIALTONE__BUS__URL", "kafka://x", "bus.url"),
            ("DIALTONE__GATEWAY__LISTEN", "127.0.0.1:9090", "ops.listen"),
            ("DIALTONE__INTERNAL__LISTEN", "0.0.0.0:7000", "internal.listen"),
            ("DIALTONE__GATEWAY__COLOUR", "red", "colour"),
        ] {
            let error = load(&[(key, value)]).expect_err(key);
            assert!(error.contains(named), "{key}: {error}");
        }
    }
}
