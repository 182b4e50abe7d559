//! Configuration: compiled-in defaults, a file over them, the environment over that. Unknown keys are refused.

use std::path::Path;

use config::{Environment, File, FileFormat};
use http::Uri;
use http::uri::Authority;
use serde::de::DeserializeOwned;

/// Settings from the environment begin with this; parts are separated by two underscores.
pub const ENV_PREFIX: &str = "DIALTONE";

/// A setting that is wrong: which, and why.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// A check of our own failed.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        Self(error.to_string())
    }
}

/// Reads `defaults` (TOML), then `overlay` if given, then `environment`.
///
/// Values of the environment stay text and become numbers or switches only where the setting is one: a phone number
/// keeps its `+` and its zeros.
///
/// # Errors
/// [`ConfigError`] naming the key or the file.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    overlay: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut builder = config::Config::builder().add_source(File::from_str(defaults, FileFormat::Toml));
    if let Some(path) = overlay {
        builder = builder.add_source(File::from(path).format(FileFormat::Toml).required(true));
    }
    let ours: std::collections::HashMap<_, _> =
        environment.into_iter().filter(|(key, _)| key.starts_with("DIALTONE__")).collect();
    let environment =
        Environment::with_prefix(ENV_PREFIX).prefix_separator("__").separator("__").source(Some(ours));
    Ok(builder.add_source(environment).build()?.try_deserialize()?)
}

/// Whether this is a URL of one of these schemes, with a host.
pub fn is_url(text: &str, schemes: &[&str]) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        let is_known = uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme));
        is_known && uri.authority().is_some_and(|authority| has_host(authority) && port_is_right(authority))
    })
}

/// Whether this is `host:port`.
pub fn is_host_port(text: &str) -> bool {
    text.parse::<Authority>().is_ok_and(|authority| {
        let has_port = authority.port_u16().is_some_and(|port| port > 0);
        has_port && has_host(&authority) && !text.contains('@')
    })
}

fn has_host(authority: &Authority) -> bool {
    !authority.host().is_empty()
}

/// The library reads a host with any rubbish after its colon.
fn port_is_right(authority: &Authority) -> bool {
    let after = authority.as_str().rsplit_once(authority.host()).map_or("", |(_, after)| after);
    after.is_empty() || authority.port_u16().is_some_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        sms: Sms,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sms {
        sender: String,
        window: u32,
    }

    const DEFAULTS: &str = "[sms]\nsender = \"Dialtone\"\nwindow = 16\n";

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_wins_and_numbers_keep_their_plus() {
        let environment =
            env(&[("DIALTONE__SMS__SENDER", "+0049151"), ("DIALTONE__SMS__WINDOW", "4"), ("PATH", "/")]);
        let settings: Settings = load(DEFAULTS, None, environment).expect("loads");
        assert_eq!(settings.sms, Sms { sender: "+0049151".into(), window: 4 });
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_named() {
        let unknown =
            load::<Settings>(DEFAULTS, None, env(&[("DIALTONE__SMS__COLOUR", "red")])).expect_err("refused");
        assert!(unknown.to_string().contains("colour"), "{unknown}");
        let wrong =
            load::<Settings>(DEFAULTS, None, env(&[("DIALTONE__SMS__WINDOW", "many")])).expect_err("refused");
        assert!(wrong.to_string().contains("window"), "{wrong}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let missing =
            load::<Settings>(DEFAULTS, Some(Path::new("/nowhere.toml")), Vec::new()).expect_err("refused");
        assert!(missing.to_string().contains("nowhere"), "{missing}");
    }

    #[test]
    fn urls_and_addresses_have_a_host_and_a_port_that_is_one() {
        for good in ["http://a", "http://127.0.0.1:9100", "nats://user:word@host:4222", "http://[::1]:1/"] {
            assert!(is_url(good, &["http", "nats"]), "{good}");
        }
        for bad in
            ["", "a", "a:1", "nats://", "http://:1", "http://a:x", "http://a:70000", "ftp://a", "http:// a"]
        {
            assert!(!is_url(bad, &["http", "nats"]), "{bad}");
        }
        for good in ["a:1", "10.0.0.1:65535", "sms_centre.example:2775", "[::1]:2775"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in
            ["", "a", "a:", ":1", "a:0", "a:65536", "::1:2775", "smpp://a:1", "a:1/b", "a b:1", "u@a:1"]
        {
            assert!(!is_host_port(bad), "{bad}");
        }
    }
}
