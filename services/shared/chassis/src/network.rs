//! The way to other processes: where they are, as names say it by now, and connections to all of them.
//!
//! ```text
//!   "http://a:9100,http://b:9100" ─► targets ── resolver, again and again ──► places (address and port)
//!                                                                              │ a minder each: dial, mind, dial again
//!   a call ─► Remote: of two lines the one with fewer calls ◄── lines ◄────────┘
//! ```

mod dial;
mod keeper;
mod lines;
mod target;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

pub use lines::Remote;
pub use target::UrlError;

use crate::tls::Tls;
use crate::{Channel, Chassis};

/// Longest wait for a connection to another service.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A ping on an idle connection, so that calls do not stay dead after a partition.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a ping may stay unanswered.
pub const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(5);
/// How often names are resolved while nothing is wrong.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// How soon they are resolved again when something is.
pub const RESOLVE_SOON: Duration = Duration::from_millis(500);
/// Addresses of one channel; more are left out.
pub const MAX_ADDRESSES: usize = 64;
/// URLs of one channel.
pub const MAX_URLS: usize = 16;

/// The addresses of a host's port, as DNS has them now.
pub type Resolver = Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// What channels to other processes are made of. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    chassis: Chassis,
    tls: Option<Tls>,
    resolver: Resolver,
}

impl Network {
    /// Names are resolved by the system. With `tls` both ends show certificates.
    pub fn new(chassis: &Chassis, tls: Option<Tls>) -> Self {
        Self { chassis: chassis.clone(), tls, resolver: Arc::new(|host, port| system(host, port).boxed()) }
    }

    /// As before, with names resolved by this: for tests.
    #[must_use]
    pub fn resolving_with(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    /// Whether a setting names services of other processes: URLs with commas between them, `https` with TLS, `http`
    /// without.
    ///
    /// # Errors
    /// [`UrlError`], which says what is wrong.
    pub fn check(urls: &str, has_tls: bool) -> Result<(), UrlError> {
        target::parse(urls, has_tls).map(drop)
    }

    /// To the services at these URLs, one or several with commas between them. Calls are spread over all addresses
    /// behind all names; addresses come and go while the channel is used. A name that is not known yet is no error:
    /// calls answer `PEER_UNAVAILABLE` until it is.
    ///
    /// # Errors
    /// [`UrlError`], as of [`Self::check`].
    pub fn channel(&self, urls: &str) -> Result<Channel, UrlError> {
        let targets = target::parse(urls, self.tls.is_some())?;
        Ok(Channel::Remote(keeper::start(self, urls, targets)))
    }
}

async fn system(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host.as_str(), port)).await?.collect())
}
