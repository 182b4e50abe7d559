//! Where the servers are and how to log in.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::StoreError;

/// What is needed to reach a CQL server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScyllaConfig {
    /// `host:port` of servers to begin with; the others are heard of.
    pub nodes: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// Whose replicas are asked; empty: those of whichever answers.
    pub data_center: String,
    /// Whom to log in as, if there is a password.
    pub user: String,
    /// A file with the password and nothing else but white space around it; `None`: the server wants none.
    pub password_file: Option<PathBuf>,
    /// A file with the certificates, PEM, of who may sign the servers' own; `None`: no TLS.
    pub ca_file: Option<PathBuf>,
    /// Refuse a server that may forget what it acknowledged, instead of warning.
    pub strict: bool,
}

impl ScyllaConfig {
    pub(super) fn password(&self) -> Result<Option<String>, StoreError> {
        let Some(path) = &self.password_file else { return Ok(None) };
        let read = std::fs::read_to_string(path);
        let password =
            read.map_err(|error| StoreError::BadFile { path: path.clone(), why: error.to_string() })?;
        Ok(Some(password.trim().to_owned()))
    }

    pub(super) fn tls(&self) -> Result<Option<Arc<ClientConfig>>, StoreError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let bad = |why: String| StoreError::BadFile { path: path.clone(), why };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
            let certificate = certificate.map_err(|error| bad(error.to_string()))?;
            roots.add(certificate).map_err(|error| bad(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(bad("no certificate is in it".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Arc::new(config)))
    }
}
