//! Certificates for tests: an authority and what it signs, in the files of a process.

use std::path::Path;

use dialtone_chassis::tls::Files;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for this name, good until the 2nd of January of a year, and its key.
    pub(crate) fn signs(&self, name: &str, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 2);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }
}

/// The files of a process.
pub(crate) struct Desk(TempDir);

impl Desk {
    /// What is signed by `own` for `name`, in a process that believes `trusted`.
    pub(crate) fn new(trusted: &Authority, own: &Authority, name: &str, until: i32) -> Self {
        let desk = Self(tempfile::tempdir().expect("a folder"));
        desk.write("ca.pem", &trusted.pem);
        desk.renew(own, name, until);
        desk
    }

    pub(crate) fn renew(&self, own: &Authority, name: &str, until: i32) {
        let (cert, key) = own.signs(name, until);
        self.write("cert.pem", &cert);
        self.write("key.pem", &key);
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).expect("written");
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.0.path().join(file)
    }

    pub(crate) fn files(&self) -> Files {
        let text = |file| Path::to_str(&self.path(file)).expect("text").to_owned();
        let files = Files::of(&text("ca.pem"), &text("cert.pem"), &text("key.pem"));
        files.expect("all three").expect("all three")
    }
}
