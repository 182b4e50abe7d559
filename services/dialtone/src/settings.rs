//! Every setting of every service, checked before a port is bound.

mod bus;
mod internal;
mod store;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use dialtone_bus::subjects;
use dialtone_chassis::config::{self, ConfigError};
use dialtone_chassis::telemetry;
use dialtone_vocab::NodeId;
use serde::Deserialize;

pub use bus::Bus;
pub use internal::Internal;
pub use store::{Lease, Store};

/// The defaults, which are the reference.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// What may live in a process.
pub const SERVICES: [&str; 8] =
    ["gateway", "identity", "contacts", "presence", "routing", "offline", "sms", "centre"];

/// The longest time that a shutdown may take, in seconds.
const DRAIN_MAX: u64 = 3_600;

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
    /// Leases of what is in a store that processes share.
    pub lease: Lease,
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
        if subjects::is_taken(&NodeId::new(&self.node.name)) {
            return Err(ConfigError::new("node.name: a subject of the bus has this name; take another"));
        }
        self.store.check().map_err(ConfigError::new)?;
        if !(1..=DRAIN_MAX).contains(&self.node.drain_seconds) {
            return Err(ConfigError::new("node.drain_seconds: 1 to 3600"));
        }
        self.bus.check().map_err(ConfigError::new)?;
        let listens = [self.gateway.listen, self.ops.listen, self.internal.listen, self.centre.listen];
        let fixed: Vec<_> = listens.iter().filter(|addr| addr.port() != 0).collect();
        if fixed.iter().collect::<BTreeSet<_>>().len() != fixed.len() {
            return Err(ConfigError::new(
                "gateway.listen, ops.listen, internal.listen and centre.listen must differ",
            ));
        }
        self.internal.check().map_err(ConfigError::new)?;
        self.check_rooms().map_err(ConfigError::new)
    }

    /// What each room says of its own settings.
    fn check_rooms(&self) -> Result<(), &'static str> {
        self.telemetry.check()?;
        self.lease.check()?;
        self.identity.check()?;
        self.contacts.check()?;
        self.presence.check()?;
        self.routing.check()?;
        self.offline.check()?;
        self.sms.check()?;
        self.centre.check()
    }

    /// What depends on which services live in the process.
    ///
    /// # Errors
    /// [`ConfigError`], naming the settings.
    pub fn check_for(&self, services: &[String]) -> Result<(), ConfigError> {
        self.check_bus(services)?;
        let lives = |service: &str| services.iter().any(|name| name == service);
        if !lives("sms") {
            return Ok(());
        }
        if !lives("centre") {
            return match self.sms.provider.as_str() {
                "" => Err(ConfigError::new(
                    "sms.provider: empty means the SMS centre of this process, and `centre` does not run in it; \
                     set DIALTONE__SMS__PROVIDER=host:port",
                )),
                _ => Ok(()),
            };
        }
        if self.sms.binds_to(&self.centre) && self.sms.password != self.centre.password {
            return Err(ConfigError::new(
                "sms.password and centre.password must agree: the bridge binds to the centre of this process",
            ));
        }
        Ok(())
    }

    /// Whoever is not in this process can't be reached over a bus that is. The centre needs no bus.
    fn check_bus(&self, services: &[String]) -> Result<(), ConfigError> {
        let lives = |service: &&str| services.iter().any(|name| name == service);
        let on_bus = SERVICES.iter().copied().filter(|service| *service != "centre");
        let (here, missing): (Vec<_>, Vec<_>) = on_bus.partition(lives);
        if !self.bus.is_local() || here.is_empty() || missing.is_empty() {
            return Ok(());
        }
        Err(ConfigError::new(format!(
            "bus.url: `local` reaches no other process, and {} would not run in this one; run them here too, or set \
             DIALTONE__BUS__URL=nats://host:port",
            missing.join(", ")
        )))
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
            ("NODE__NAME", "Node 1", "node.name"),
            ("STORE__URL", "sqlite:x", "store.url"),
            ("GATEWAY__LISTEN", "127.0.0.1:9090", "ops.listen"),
            ("INTERNAL__LISTEN", "0.0.0.0:7000", "internal.listen"),
            ("GATEWAY__COLOUR", "red", "colour"),
            ("TELEMETRY__FORMAT", "xml", "telemetry.format: `text` or `json`"),
        ] {
            let error = load(&[(&format!("DIALTONE__{key}"), value)]).expect_err(key);
            assert!(error.contains(named), "{key}: {error}");
        }
    }

    /// Setting, values at its boundaries, values beyond them.
    const RANGES: &[(&str, &[&str], &[&str])] = &[
        ("node.name", &["node-1", "sms", "sender"], &["", "Node", "send", "fact"]),
        ("node.drain_seconds", &["1", "3600"], &["0", "3601"]),
        (
            "bus.url",
            &["local", "nats://host", "nats://127.0.0.1:4222"],
            &["", "nats://", "nats://:1", "kafka://x"],
        ),
        (
            "telemetry.log",
            &["off", "warn", "info,dialtone_routing=debug"],
            &["loud", "info,=", "info,a=loud"],
        ),
        (
            "store.url",
            &["embedded:memory", "embedded:x", "scylla://127.0.0.1:9042", "scylla://a:1,b:2"],
            &["", "scylla://", "scylla://a", "scylla://a:1,", "scylla://a:1,b", "mysql://a:1"],
        ),
        ("lease.check", &["clock", "read"], &["", "never"]),
        ("telemetry.otlp", &["", "http://127.0.0.1:4317"], &["127.0.0.1:4317", "http://"]),
        ("internal.identity", &["http://identity:9100"], &["", "identity:9100"]),
        ("internal.contacts", &["http://contacts"], &["http://", "ftp://contacts"]),
        ("internal.presence", &["http://[::1]:9100"], &["presence"]),
        ("internal.routing", &["http://routing:1"], &["http://routing:x"]),
        ("internal.offline", &["http://offline"], &["http:// offline"]),
        ("internal.sms", &["http://sms"], &["sms"]),
        ("identity.service_number", &["+1234567", "+123456789012345"], &["", "18005550100", "+123456"]),
        ("identity.prefix_sms_per_hour", &["1", "4294967295"], &["0", "4294967296"]),
        ("contacts.new_numbers_per_30_days", &["1"], &["0"]),
        ("presence.table_peers", &["1", "1024"], &["0", "1025", "5000"]),
        ("routing.fallback_after_ms", &["5000", "86400000"], &["1", "4999", "86400001"]),
        ("offline.kept_per_user", &["1"], &["0"]),
        (
            "sms.provider",
            &["", "10.0.0.1:2775", "smsc.example:1"],
            &["smsc.example", "smsc:0", "smpp://smsc:1"],
        ),
        ("sms.system_id", &["a", "123456789012345"], &["", "1234567890123456", "böse"]),
        ("sms.password", &["secret"], &["123456789", "schlüs"]),
        ("sms.sender_id", &["a", "Dialtone 11", "+123456789012345"], &["", "Dialtone 12x", "+12", "Größe"]),
        ("sms.per_hour", &["1"], &["0"]),
        ("sms.price_micros", &["0", "1000000000000"], &["1000000000001"]),
        ("sms.currency", &["EUR"], &["", "euro", "EU", "eur"]),
        ("centre.password", &["secret"], &["123456789"]),
    ];

    #[test]
    fn values_at_their_boundaries_are_taken_and_beyond_them_refused_by_name() {
        for (setting, good, bad) in RANGES {
            let key = format!("DIALTONE__{}", setting.to_uppercase().replace('.', "__"));
            for value in *good {
                assert_eq!(load(&[(&key, value)]).err(), None, "{setting} = {value:?}");
            }
            for value in *bad {
                let error = load(&[(&key, value)]).expect_err(value);
                assert!(error.contains(setting), "{setting} = {value:?}: {error}");
            }
        }
    }

    #[test]
    fn lists_of_numbers_are_checked_one_by_one() {
        for (table, other) in [("sms", "centre"), ("centre", "sms")] {
            let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
            let numbers = "service_numbers = [\"+18005550101\", \"8005550102\"]";
            std::fs::write(file.path(), format!("[{table}]\n{numbers}\n")).expect("written");
            let error = Settings::load(Some(file.path()), []).expect_err("refused").to_string();
            assert!(error.contains(&format!("{table}.service_numbers")), "{error}");
            assert!(!error.contains(other), "{error}");
        }
    }

    fn check(pairs: &[(&str, &str)], services: &[&str]) -> Result<(), String> {
        let services: Vec<String> = services.iter().map(|name| (*name).to_owned()).collect();
        load(pairs).expect("in order").check_for(&services).map_err(|error| error.to_string())
    }

    const NATS: (&str, &str) = ("DIALTONE__BUS__URL", "nats://127.0.0.1:4222");

    #[test]
    fn a_local_bus_needs_every_service_here() {
        let but_centre = SERVICES.map(|name| if name == "centre" { "sms" } else { name });
        let operator = ("DIALTONE__SMS__PROVIDER", "10.0.0.1:2775");
        assert_eq!(check(&[operator], &but_centre), Ok(()), "an operator has its own centre");
        assert_eq!(check(&[], &["centre"]), Ok(()), "the centre needs no bus");
        let but_presence = but_centre.map(|name| if name == "presence" { "centre" } else { name });
        for (services, missing) in [
            (&but_presence[..], "and presence would"),
            (&["identity", "contacts", "centre"], "and gateway, presence, routing, offline, sms would"),
        ] {
            let error = check(&[], services).expect_err("half a system");
            assert!(error.contains("bus.url") && error.contains(missing), "{error}");
            assert!(error.contains("DIALTONE__BUS__URL"), "{error}");
            assert_eq!(check(&[NATS], services), Ok(()));
        }
    }

    #[test]
    fn the_bridge_needs_a_centre_here_or_an_address_and_its_password() {
        let elsewhere = ("DIALTONE__SMS__PROVIDER", "10.0.0.1:2775");
        let word = ("DIALTONE__SMS__PASSWORD", "other");
        assert_eq!(check(&[], &SERVICES), Ok(()));
        assert_eq!(check(&[NATS, elsewhere], &["sms"]), Ok(()));
        assert_eq!(check(&[NATS], &["gateway", "centre"]), Ok(()), "no bridge, nothing to bind");
        let error = check(&[NATS], &["sms"]).expect_err("bound to nothing");
        assert!(error.contains("DIALTONE__SMS__PROVIDER"), "{error}");

        for here in ["", "127.0.0.1:2775", "localhost:2775"] {
            let error = check(&[word, ("DIALTONE__SMS__PROVIDER", here)], &SERVICES).expect_err(here);
            assert!(error.contains("sms.password") && error.contains("centre.password"), "{error}");
        }
        assert_eq!(check(&[word, elsewhere], &SERVICES), Ok(()), "an operator has its own password");
        let both = [word, ("DIALTONE__CENTRE__PASSWORD", "other")];
        assert_eq!(check(&both, &SERVICES), Ok(()));
    }
}
