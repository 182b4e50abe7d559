//! `[internal]`.

use std::net::SocketAddr;

use dialtone_chassis::Network;
use dialtone_chassis::tls::Files;
use serde::Deserialize;

/// `[internal]`: only used by processes that do not hold every service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Internal {
    /// Where this process serves the services it holds to other processes. Loopback without TLS.
    pub listen: SocketAddr,
    /// The URL by which others reach that; empty: as it listens.
    pub advertise: String,
    /// Certificates of the authorities whose certificates are good; empty, as the next two: no TLS.
    pub ca_file: String,
    /// This process's certificate.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// URLs of the processes with identity.
    pub identity: String,
    /// URLs of the processes with contacts.
    pub contacts: String,
    /// URLs of the processes with presence.
    pub presence: String,
    /// URLs of the processes with routing.
    pub routing: String,
    /// URLs of the processes with offline.
    pub offline: String,
    /// URLs of the processes with sms.
    pub sms: String,
}

impl Internal {
    pub(super) fn check(&self) -> Result<(), String> {
        let has_tls = self.tls()?.is_some();
        if !has_tls && !self.listen.ip().is_loopback() {
            return Err(
                "internal.listen: loopback only, unless internal.ca_file, cert_file and key_file are set"
                    .into(),
            );
        }
        for (name, urls) in [
            ("identity", &self.identity),
            ("contacts", &self.contacts),
            ("presence", &self.presence),
            ("routing", &self.routing),
            ("offline", &self.offline),
            ("sms", &self.sms),
        ] {
            Network::check(urls, has_tls).map_err(|error| format!("internal.{name}: {error}"))?;
        }
        if !self.advertise.is_empty() {
            Network::check(&self.advertise, has_tls)
                .map_err(|error| format!("internal.advertise: {error}"))?;
        }
        Ok(())
    }

    /// The files of internal TLS.
    ///
    /// # Errors
    /// When some are missing.
    pub fn tls(&self) -> Result<Option<Files>, &'static str> {
        Files::of(&self.ca_file, &self.cert_file, &self.key_file)
    }

    /// The URL by which others reach a listener of this process.
    pub fn address(&self, listener: SocketAddr) -> String {
        let scheme = if self.ca_file.is_empty() { "http" } else { "https" };
        if self.advertise.is_empty() { format!("{scheme}://{listener}") } else { self.advertise.clone() }
    }
}
