//! Where a nats-server is and how to log in to it.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use async_nats::rustls;
use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions};

use crate::{BusError, users};

/// Where the bus is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BusConfig {
    /// `local`, or `nats://host:port`.
    pub url: String,
    /// Whom to log in as; `None`: the server lets anybody in.
    pub login: Option<Login>,
    /// A file with the certificates, PEM, of who may sign the server's own; `None`: no TLS.
    pub ca_file: Option<PathBuf>,
}

/// A user of a nats-server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// A file with the password and nothing else but white space around it.
    pub password_file: PathBuf,
}

impl BusConfig {
    /// A bus that lets anybody in, or one in this process.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// What the client needs to know besides the address.
    pub(crate) fn options(&self) -> Result<ConnectOptions, BusError> {
        let mut options = ConnectOptions::new();
        if let Some(Login { user, password_file }) = &self.login {
            options = options
                .user_and_password(user.clone(), password(password_file)?)
                .custom_inbox_prefix(users::inbox(user));
        }
        if let Some(path) = &self.ca_file {
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        Ok(options)
    }

    /// What it means that connecting failed: whether it may work later, or somebody has to change something.
    pub(crate) fn failure(&self, error: &ConnectError) -> BusError {
        let refused = BusError::Connect;
        if let Some(why) = tls_failure(error) {
            return refused(format!("bus.ca_file: no TLS with the server: {why}"));
        }
        match (error.kind(), &self.login) {
            (ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication, None) => refused(
                "bus.user: the server lets nobody in without a user; set bus.user and bus.password_file"
                    .into(),
            ),
            (ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication, Some(login)) => {
                refused(format!("bus.password_file: the server does not let {:?} in with it", login.user))
            }
            (ConnectErrorKind::Tls, _) => refused(format!("bus.ca_file: {error}")),
            _ => BusError::Unreachable(format!("bus.url: the server can't be reached: {error}")),
        }
    }
}

fn password(path: &Path) -> Result<String, BusError> {
    let bad = |why: String| BusError::Connect(format!("bus.password_file: {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    match text.trim() {
        "" => Err(bad("no password is in it".into())),
        password => Ok(password.to_owned()),
    }
}

/// What TLS complains about, if it is that: certificates that nobody trusted signed, a server that speaks no TLS.
fn tls_failure(error: &ConnectError) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match io {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
