//! Configuration: compiled-in defaults, a file over them, the environment over that. Unknown keys are refused.

use std::path::Path;

use config::{Environment, File, FileFormat};
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
}
