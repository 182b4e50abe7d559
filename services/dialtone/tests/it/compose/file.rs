//! `deploy/compose.yaml` as Docker Compose would read it: what we use of it, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole file. Keys that are not known here are refused: a misspelt one would be, too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compose {
    pub(super) name: String,
    /// What others begin with; checked where they use it.
    #[serde(rename = "x-dialtone")]
    _dialtone: serde::de::IgnoredAny,
    pub(super) services: BTreeMap<String, Container>,
    pub(super) secrets: BTreeMap<String, Secret>,
    pub(super) volumes: BTreeMap<String, Volume>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Container {
    pub(super) image: String,
    pub(super) build: Option<Build>,
    pub(super) user: Option<String>,
    pub(super) command: Vec<String>,
    pub(super) restart: String,
    pub(super) stop_grace_period: Option<String>,
    #[serde(default)]
    pub(super) depends_on: BTreeMap<String, After>,
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) volumes: Vec<String>,
    #[serde(default)]
    pub(super) secrets: Vec<UsedSecret>,
    #[serde(default)]
    pub(super) ports: Vec<String>,
    pub(super) healthcheck: Option<Health>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    pub(super) context: String,
    pub(super) dockerfile: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    pub(super) condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Condition {
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsedSecret {
    pub(super) source: String,
    pub(super) target: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secret {
    pub(super) file: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Volume {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    #[serde(default)]
    pub(super) test: Vec<String>,
    #[serde(default)]
    pub(super) disable: bool,
    #[serde(rename = "interval")]
    _interval: Option<String>,
    #[serde(rename = "timeout")]
    _timeout: Option<String>,
    #[serde(rename = "retries")]
    _retries: Option<u32>,
    #[serde(rename = "start_period")]
    _start_period: Option<String>,
}

impl Container {
    /// The services of Dialtone that it runs, if any.
    pub(super) fn runs(&self) -> &[String] {
        let at = self.command.iter().position(|word| word == "run");
        at.map_or(&[], |at| &self.command[at + 1..])
    }

    /// Whether it is Dialtone's own image.
    pub(super) fn is_ours(&self) -> bool {
        self.image.starts_with("dialtone:")
    }

    /// How it is asked whether it is healthy, if it is.
    pub(super) fn health(&self) -> Option<&[String]> {
        self.healthcheck.as_ref().filter(|health| !health.disable).map(|health| &health.test[..])
    }

    /// `host:container` of a published port.
    pub(super) fn published(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ports.iter().map(|port| port.rsplit_once(':').unwrap_or((port, port)))
    }
}

/// Reads the file with these variables, `NAME=value` in lines.
pub(super) fn read(text: &str, variables: &str) -> Result<Compose, String> {
    let text = filled_in(text, variables)?;
    serde_saphyr::from_str(&text).map_err(|error| error.to_string())
}

/// `${NAME}` and `${NAME:?why}` as their values; `$$` as a dollar.
fn filled_in(text: &str, variables: &str) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let inside = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let Some((name, after)) = inside else { return Err("a $ that begins no variable".to_owned()) };
        let name = name.split_once(":?").map_or(name, |(name, _)| name);
        let mut pairs = variables.lines().filter_map(|line| line.split_once('='));
        let value = pairs.find(|(other, _)| *other == name).map(|(_, value)| value);
        out.push_str(value.ok_or_else(|| format!("nobody sets {name}"))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
