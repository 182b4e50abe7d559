//! TLS between the processes of a deployment: both ends show a certificate of its own authority. Renewed files are
//! taken while the process runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;

use crate::{Chassis, Clock};

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The PEM files of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities whose certificates are good.
    ca: PathBuf,
    /// This process's certificate, and those between it and the authority.
    cert: PathBuf,
    /// Its key.
    key: PathBuf,
}

impl Files {
    /// From settings: all three or none.
    ///
    /// # Errors
    /// When some are missing.
    pub fn of(ca: &str, cert: &str, key: &str) -> Result<Option<Self>, &'static str> {
        match [ca, cert, key].iter().filter(|file| !file.is_empty()).count() {
            0 => Ok(None),
            3 => Ok(Some(Self { ca: ca.into(), cert: cert.into(), key: key.into() })),
            _ => Err("internal.ca_file, internal.cert_file and internal.key_file: all of them or none"),
        }
    }

    fn read(&self) -> Result<Content, TlsError> {
        let read = |setting: &'static str, path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| TlsError::new(setting, format!("{}: {error}", path.display())))
        };
        Ok(Content {
            ca: read("internal.ca_file", &self.ca)?,
            cert: read("internal.cert_file", &self.cert)?,
            key: read("internal.key_file", &self.key)?,
        })
    }
}

/// Files that can't be used: the setting, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct TlsError {
    setting: &'static str,
    why: String,
}

impl TlsError {
    fn new(setting: &'static str, why: impl Into<String>) -> Self {
        Self { setting, why: why.into() }
    }
}

/// What the files held.
#[derive(PartialEq, Eq)]
struct Content {
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// What new connections are made with.
struct Loaded {
    content: Content,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// What others say of our certificate, if they have the same authorities.
    judge: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
}

/// Time for the library, from our clock.
struct OurTime(Clock);

impl std::fmt::Debug for OurTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OurTime")
    }
}

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(time(&self.0))
    }
}

fn time(clock: &Clock) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(clock.now().0))
}

impl Loaded {
    fn of(content: Content, clock: &Clock) -> Result<Self, TlsError> {
        let ca = |why: &dyn ToString| TlsError::new("internal.ca_file", why.to_string());
        let cert = |why: &dyn ToString| TlsError::new("internal.cert_file", why.to_string());
        let key = |why: &dyn ToString| TlsError::new("internal.key_file", why.to_string());
        let mut roots = RootCertStore::empty();
        for root in certificates(&content.ca).map_err(|why| ca(&why))? {
            roots.add(root).map_err(|error| ca(&error))?;
        }
        let (roots, chain) = (Arc::new(roots), certificates(&content.cert).map_err(|why| cert(&why))?);
        let secret = || PrivateKeyDer::from_pem_slice(&content.key).map_err(|error| key(&error));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let judge = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let judge = judge.build().map_err(|error| ca(&error))?;
        let versions = &[&rustls::version::TLS13];
        let now = || Arc::new(OurTime(clock.clone()));
        // The last step of both finds a key that is not the certificate's.
        let mut server = ServerConfig::builder_with_details(provider.clone(), now())
            .with_protocol_versions(versions)
            .map_err(|error| key(&error))?
            .with_client_cert_verifier(judge.clone())
            .with_single_cert(chain.clone(), secret()?)
            .map_err(|error| key(&error))?;
        let mut client = ClientConfig::builder_with_details(provider, now())
            .with_protocol_versions(versions)
            .map_err(|error| key(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), secret()?)
            .map_err(|error| key(&error))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols.clone_from(&server.alpn_protocols);
        // Whoever resumes a session shows no certificate: that of a peer may be void by now.
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        Ok(Self { content, server: Arc::new(server), client: Arc::new(client), judge, chain })
    }

    fn problem(&self, clock: &Clock) -> Option<String> {
        let (own, between) = self.chain.split_first()?;
        let verdict = self.judge.verify_client_cert(own, between, time(clock));
        verdict.err().map(|error| format!("internal.cert_file: our own certificate is not good: {error}"))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("no certificate in it".into()),
        all => all.map_err(|error| error.to_string()),
    }
}

/// The name that a server's certificate must have.
pub(crate) fn name_of(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(host.to_owned())
}

/// What this process shows others, and believes of them. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    clock: Clock,
    loaded: watch::Receiver<Arc<Loaded>>,
}

impl Tls {
    /// Reads the files, and again whenever they change. What is new and no good is told in the log, and what was before
    /// stays.
    ///
    /// # Errors
    /// [`TlsError`] when the files can't be used; a certificate that is out of its time is told in the log alone.
    pub fn open(chassis: &Chassis, files: Files) -> Result<Self, TlsError> {
        let loaded = Arc::new(Loaded::of(files.read()?, &chassis.clock)?);
        let (sender, receiver) = watch::channel(loaded);
        let keeper = Keeper { chassis: chassis.clone(), files, loaded: sender, refused: None, told: None };
        chassis.tasks.spawn("internal tls", keeper.run());
        Ok(Self { clock: chassis.clock.clone(), loaded: receiver })
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.loaded.borrow().server.clone()
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.loaded.borrow().client.clone()
    }

    /// Why nobody will take our own certificate, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        self.loaded.borrow().problem(&self.clock)
    }
}

/// Looks at the files.
struct Keeper {
    chassis: Chassis,
    files: Files,
    loaded: watch::Sender<Arc<Loaded>>,
    /// What was no good when it was last looked at.
    refused: Option<Result<Content, TlsError>>,
    /// The problem of our certificate that was told last.
    told: Option<String>,
}

impl Keeper {
    async fn run(mut self) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            let problem = self.problem();
            if let Some(problem) = problem.as_ref().filter(|_| self.told.is_none()) {
                tracing::error!("{problem}; internal calls fail until the file is renewed");
            }
            self.told = problem;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.chassis.clock.sleep(LOOK_EVERY) => {}
            }
            let files = self.files.clone();
            let read = self.chassis.blocking.run(move || files.read()).await;
            self.take(read);
        }
    }

    fn problem(&self) -> Option<String> {
        self.loaded.borrow().problem(&self.chassis.clock)
    }

    fn take(&mut self, read: Result<Content, TlsError>) {
        if read.as_ref().is_ok_and(|content| *content == self.loaded.borrow().content) {
            self.refused = None;
            return;
        }
        if self.refused.as_ref() == Some(&read) {
            return;
        }
        match read {
            Err(error) => {
                tracing::error!(%error, "the files of internal TLS can't be read: what was read before stays");
                self.refused = Some(Err(error));
            }
            Ok(content) => self.consider(content),
        }
    }

    fn consider(&mut self, content: Content) {
        let again = Content { ca: content.ca.clone(), cert: content.cert.clone(), key: content.key.clone() };
        let clock = &self.chassis.clock;
        // Nothing good is given for something that nobody would take.
        let judged = Loaded::of(content, clock).and_then(|new| match new.problem(clock) {
            Some(problem) if self.problem().is_none() => Err(TlsError::new("internal TLS", problem)),
            _ => Ok(new),
        });
        match judged {
            Ok(new) => {
                tracing::info!("the files of internal TLS are new: connections from now on use them");
                self.refused = None;
                self.loaded.send_replace(Arc::new(new));
            }
            Err(error) => {
                tracing::error!(%error, "the files of internal TLS are no good: what was read before stays");
                self.refused = Some(Ok(again));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate that is its own authority, good until the 2nd of January of a year.
    fn content(until: i32) -> Content {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 2);
        let cert = params.self_signed(&key).expect("signed").pem().into_bytes();
        Content { ca: cert.clone(), cert, key: key.serialize_pem().into_bytes() }
    }

    fn with(content: &Content, change: impl FnOnce(&mut Content)) -> Content {
        let mut changed =
            Content { ca: content.ca.clone(), cert: content.cert.clone(), key: content.key.clone() };
        change(&mut changed);
        changed
    }

    #[test]
    fn what_is_no_good_does_not_take_the_place_of_what_is() {
        // Its clock stands in January 2026.
        let chassis = Chassis::for_tests(1);
        let (first, second) = (content(2030), content(2031));
        let loaded = Arc::new(Loaded::of(with(&first, |_| {}), &chassis.clock).expect("good"));
        let (sender, receiver) = watch::channel(loaded);
        let files = Files { ca: "a".into(), cert: "b".into(), key: "c".into() };
        let mut keeper = Keeper { chassis, files, loaded: sender, refused: None, told: None };
        let now_has = |content: &Content| receiver.borrow().content == *content;
        for bad in [
            with(&first, |content| content.cert = b"half a cert".to_vec()),
            with(&first, |content| content.ca.clear()),
            // The certificate is written before its key.
            with(&first, |content| content.cert.clone_from(&second.cert)),
            // Its time is over.
            content(2025),
        ] {
            keeper.take(Ok(bad));
            assert!(now_has(&first));
            assert!(keeper.refused.is_some());
        }
        keeper.take(Err(TlsError::new("internal.ca_file", "gone")));
        assert!(now_has(&first));
        keeper.take(Ok(with(&first, |_| {})));
        assert!(keeper.refused.is_none(), "what was read before is there again");
        keeper.take(Ok(with(&second, |_| {})));
        assert!(now_has(&second));
    }

    #[test]
    fn what_is_no_good_is_told_once() {
        let chassis = Chassis::for_tests(1);
        let loaded = Arc::new(Loaded::of(content(2030), &chassis.clock).expect("good"));
        let files = Files { ca: "a".into(), cert: "b".into(), key: "c".into() };
        let (loaded, _receiver) = watch::channel(loaded);
        let mut keeper = Keeper { chassis, files, loaded, refused: None, told: None };
        let old = content(2025);
        let lines = logged(|| {
            for _ in 0..3 {
                keeper.take(Ok(with(&old, |_| {})));
            }
        });
        assert_eq!(lines.matches("ERROR").count(), 1, "{lines}");
        assert!(lines.contains("our own certificate is not good") && lines.contains("expired"), "{lines}");
    }

    /// What is written to the log meanwhile.
    fn logged(what: impl FnOnce()) -> String {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let writer = file.reopen().expect("the file");
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.try_clone().expect("a writer"));
        tracing::subscriber::with_default(log.finish(), what);
        std::fs::read_to_string(file.path()).expect("text")
    }
}
