//! Putting a load on and measuring what it costs.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use dialtone_chassis::Chassis;
use dialtone_client::{Api, Credentials, to};
use dialtone_proto::types::v1::Recipient;
use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use crate::line::{Line, Shared};
use crate::machine::{Burnt, Cpu, Watched};
use crate::scrape::{self, Scrape};

/// Streams opened at a time.
const OPEN_AT_ONCE: usize = 32;
/// How long what was sent may take to arrive after the end.
const GRACE: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a phase of load came to.
pub(crate) struct Measured {
    pub(crate) shared: Shared,
    pub(crate) seconds: f64,
    /// By the processes measured, if there are any.
    pub(crate) burnt: Option<Burnt>,
    pub(crate) scraped: [Scrape; 2],
}

/// What is measured.
#[derive(Default)]
pub(crate) struct Meter {
    pub(crate) watched: Watched,
    /// Operations ports with the commits of the embedded store.
    pub(crate) stores: Vec<String>,
}

/// Measures from one moment on.
pub(crate) struct Running {
    began: Instant,
    cpu: Option<Cpu>,
    scraped: Scrape,
}

impl Meter {
    pub(crate) async fn begin(&self, chassis: &Chassis) -> Result<Running> {
        let scraped = scrape::scrape_all(&self.stores).await?;
        Ok(Running { began: chassis.clock.instant(), cpu: self.cpu()?, scraped })
    }

    pub(crate) async fn end(&self, chassis: &Chassis, running: Running, shared: &Shared) -> Result<Measured> {
        let seconds = (chassis.clock.instant() - running.began).as_secs_f64();
        let burnt = self.cpu()?.zip(running.cpu).map(|(now, then)| now.since(&then));
        let scraped = [running.scraped, scrape::scrape_all(&self.stores).await?];
        Ok(Measured { shared: shared.clone(), seconds, burnt, scraped })
    }

    fn cpu(&self) -> Result<Option<Cpu>> {
        (!self.watched.is_empty()).then(|| Cpu::of(&self.watched)).transpose()
    }
}

/// From the end of the warm-up on.
pub(crate) fn window(warm_up: u32, seconds: u32) -> Range<Duration> {
    let from = Duration::from_secs(u64::from(warm_up));
    from..from + Duration::from_secs(u64::from(seconds))
}

/// Who opens a stream, and how others name it.
pub(crate) struct Caller {
    pub(crate) token: String,
    pub(crate) name: Recipient,
}

impl Caller {
    pub(crate) fn user(credentials: &Credentials) -> Self {
        Self { token: credentials.tokens.access.clone(), name: to::user(credentials.user) }
    }

    /// For the floor, which knows no users.
    pub(crate) fn nth(nth: usize) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(nth as u64).to_be_bytes());
        Self { token: nth.to_string(), name: to::user(dialtone_vocab::UserId::new(id)) }
    }
}

/// Opens a connection and a stream for every caller.
pub(crate) async fn connect<'a>(
    chassis: &Chassis,
    gateway: &str,
    callers: impl IntoIterator<Item = &'a Caller>,
    shared: &Shared,
) -> Result<Vec<Line>> {
    let opening = futures::stream::iter(callers).map(|caller| async move {
        let api = Api::lazy(gateway)?.with_token(&caller.token);
        Line::open(chassis, &api, shared).await
    });
    opening.buffered(OPEN_AT_ONCE).try_collect().await
}

/// Waits until everything has arrived and was answered. What has not by then is told as lost.
pub(crate) async fn level(chassis: &Chassis, shared: &Shared) {
    let level = async {
        while !shared.lock().is_level() {
            chassis.clock.sleep(LOOK_EVERY).await;
        }
    };
    let _level_or_not = chassis.clock.timeout(GRACE, level).await;
}
