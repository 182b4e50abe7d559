//! `[internal]`.

use std::net::SocketAddr;

use dialtone_chassis::Network;
use dialtone_chassis::tls::Files;
use dialtone_shards::MAX_ADDRESS;
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
        self.check_advertise(has_tls)
    }

    /// What others are told must lead them here.
    fn check_advertise(&self, has_tls: bool) -> Result<(), String> {
        if self.advertise.is_empty() {
            let listen = self.listen;
            return match listen.ip().is_unspecified() {
                true => Err(format!(
                    "internal.advertise: nobody reaches this process at {listen}, where internal.listen is; set the \
                     URL by which others do"
                )),
                false => Ok(()),
            };
        }
        if self.advertise.contains(',') || self.advertise.len() > MAX_ADDRESS {
            return Err(format!("internal.advertise: one URL of at most {MAX_ADDRESS} bytes"));
        }
        Network::check(&self.advertise, has_tls).map_err(|error| format!("internal.advertise: {error}"))
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

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    const TLS: [(&str, &str); 9] = [
        ("CA_FILE", "ca.pem"),
        ("CERT_FILE", "cert.pem"),
        ("KEY_FILE", "key.pem"),
        ("IDENTITY", "https://a:1"),
        ("CONTACTS", "https://a:1"),
        ("PRESENCE", "https://a:1"),
        ("ROUTING", "https://a:1"),
        ("OFFLINE", "https://a:1"),
        ("SMS", "https://a:1"),
    ];

    fn check(listen: &str, advertise: &str) -> Result<(), String> {
        let own = [("LISTEN", listen), ("ADVERTISE", advertise)];
        let environment = TLS.iter().chain(&own);
        let environment =
            environment.map(|(name, value)| (format!("DIALTONE__INTERNAL__{name}"), (*value).to_owned()));
        Settings::load(None, environment).map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn what_others_are_told_leads_them_here() {
        let long = |bytes: usize| format!("https://{}", "x".repeat(bytes - "https://".len()));
        for (listen, advertise) in [
            ("10.0.0.7:9100", ""),
            ("127.0.0.1:9100", ""),
            ("0.0.0.0:9100", "https://routing-1:9100"),
            ("[::]:9100", &long(512)),
        ] {
            assert_eq!(check(listen, advertise), Ok(()), "{listen} {advertise}");
        }
        for (listen, advertise) in [
            ("0.0.0.0:9100", ""),
            ("[::]:9100", ""),
            ("10.0.0.7:9100", "https://a:1,https://b:1"),
            ("10.0.0.7:9100", &long(513)),
            ("10.0.0.7:9100", "http://a:1"),
        ] {
            let error = check(listen, advertise).expect_err(listen);
            assert!(error.contains("internal.advertise"), "{listen} {advertise}: {error}");
        }
    }
}
