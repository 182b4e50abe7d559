//! `[bus]`.

use std::path::PathBuf;

use dialtone_bus::{BusConfig, Login, users};
use dialtone_chassis::config;
use serde::Deserialize;

/// A bus within the process.
const LOCAL: &str = "local";

/// `[bus]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// `local` or `nats://host:port`.
    pub url: String,
    /// Whom to log in as; empty: the server lets anybody in.
    pub user: String,
    /// A file with the password of the user.
    pub password_file: String,
    /// A file with the certificates of who signs the server's; empty: no TLS.
    pub ca_file: String,
}

impl Bus {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_nats = config::is_url(&self.url, &["nats"]);
        if self.is_local() || is_nats {
            // The address is printed and logged.
            if self.url.contains('@') {
                return Err(
                    "bus.url: no user and no password in it; they belong into bus.user and bus.password_file",
                );
            }
        } else {
            return Err("bus.url: `local` or `nats://host:port`");
        }
        if !self.user.is_empty() && !users::is_user_name(&self.user) {
            return Err("bus.user: at most 63 of a-z, 0-9 and -");
        }
        if self.user.is_empty() != self.password_file.is_empty() {
            return Err("bus.user and bus.password_file: both, or neither");
        }
        if self.is_local() && !(self.user.is_empty() && self.ca_file.is_empty()) {
            return Err("bus.user and bus.ca_file: nobody is logged in to with bus.url = \"local\"");
        }
        Ok(())
    }

    /// Whether it reaches no other process.
    pub fn is_local(&self) -> bool {
        self.url == LOCAL
    }

    /// How to reach it.
    pub fn config(&self) -> BusConfig {
        let login = Login { user: self.user.clone(), password_file: self.password_file.clone().into() };
        BusConfig {
            url: self.url.clone(),
            login: (!self.user.is_empty()).then_some(login),
            ca_file: (!self.ca_file.is_empty()).then(|| PathBuf::from(&self.ca_file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(url: &str, user: &str, password_file: &str, ca_file: &str) -> Bus {
        let text = |text: &str| text.to_owned();
        Bus { url: text(url), user: text(user), password_file: text(password_file), ca_file: text(ca_file) }
    }

    #[test]
    fn who_logs_in_has_a_name_and_a_password_and_somewhere_to_go() {
        const NATS: &str = "nats://127.0.0.1:4222";
        for (url, user, password_file, ca_file) in [
            (LOCAL, "", "", ""),
            (NATS, "", "", ""),
            (NATS, "sms", "sms.password", ""),
            (NATS, "core-1", "p", "ca.pem"),
            (NATS, "", "", "ca.pem"),
        ] {
            assert_eq!(bus(url, user, password_file, ca_file).check(), Ok(()), "{url} {user}");
        }
        for (url, user, password_file, ca_file, named) in [
            (NATS, "sms", "", "", "bus.password_file"),
            (NATS, "", "p", "", "bus.user"),
            (NATS, "sms.>", "p", "", "bus.user"),
            (NATS, "Sms", "p", "", "bus.user"),
            (LOCAL, "sms", "p", "", "bus.user"),
            (LOCAL, "", "", "ca.pem", "bus.ca_file"),
            ("nats://sms:secret@host:4222", "", "", "", "bus.url"),
        ] {
            let error = bus(url, user, password_file, ca_file).check().expect_err(url);
            assert!(error.contains(named), "{url} {user}: {error}");
        }
    }

    #[test]
    fn what_is_empty_is_not_wanted() {
        assert_eq!(bus(LOCAL, "", "", "").config(), BusConfig::at(LOCAL));
        let all = bus("nats://a:1", "sms", "p", "ca.pem").config();
        assert_eq!(all.login, Some(Login { user: "sms".into(), password_file: "p".into() }));
        assert_eq!(all.ca_file, Some("ca.pem".into()));
    }
}
