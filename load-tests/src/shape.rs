//! The shapes of load.

mod offline;
mod one_to_one;
mod pairs;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dialtone::handsets::Handsets;
use dialtone_chassis::Chassis;
use dialtone_client::Api;
use tokio::sync::Semaphore;

pub(crate) use offline::run as offline;
pub(crate) use one_to_one::run as one_to_one;
pub(crate) use pairs::run as pairs;

use crate::args::Target;
use crate::crowd;
use crate::drive::{Caller, Meter, connect};
use crate::line::{Line, Sender, Shared, Window};
use crate::machine;
use crate::system::System;

/// Between the last stream's opening and the look at the server's memory, and then the load.
const SETTLE: Duration = Duration::from_secs(2);

/// A system with users on it.
struct Crowd {
    system: System,
    callers: Vec<Caller>,
}

impl Crowd {
    /// Two users for each pair: the first writes to the second.
    async fn gather(chassis: &Chassis, target: &Target, pairs: u32) -> Result<Self> {
        let system = System::start(chassis, target).await?;
        let users = pairs as usize * 2;
        eprintln!("{}: registering {users} users …", target.way.name());
        let (api, handsets) = (Api::lazy(&system.gateway())?, Handsets::at(&system.centre())?);
        let people = crowd::register(chassis, &api, &handsets, users).await?;
        Ok(Self { system, callers: people.iter().map(Caller::user).collect() })
    }

    fn meter(&self) -> Meter {
        Meter { watched: self.system.watched(), stores: self.system.stores() }
    }

    /// Memory of all processes measured.
    fn memory(&self) -> Result<Option<u64>> {
        let watched = self.system.watched();
        let all = watched.values().map(|pid| machine::memory(*pid)).sum::<Result<u64>>()?;
        Ok((!watched.is_empty()).then_some(all))
    }
}

/// Opens the streams of all pairs.
async fn open_pairs(
    chassis: &Chassis,
    gateway: &str,
    callers: &[Caller],
    shared: &Shared,
    body: u32,
    mut window: impl FnMut() -> Window,
) -> Result<Vec<(Sender, Window)>> {
    eprintln!("opening {} connections …", callers.len());
    let mut lines = connect(chassis, gateway, callers, shared).await?.into_iter();
    let mut senders = Vec::new();
    while let (Some(from), Some(at)) = (lines.next(), lines.next()) {
        let pair = senders.len();
        let window = window();
        senders.push((sender(chassis, from, callers, shared, (pair, body), None), window.clone()));
        at.receive_at(chassis, shared, pair, window);
    }
    Ok(senders)
}

/// The sender of a pair.
fn sender(
    chassis: &Chassis,
    line: Line,
    callers: &[Caller],
    shared: &Shared,
    (pair, body): (usize, u32),
    window: Window,
) -> Sender {
    let name = callers[pair * 2 + 1].name.clone();
    line.send_from(chassis, shared, pair, name, body as usize, window)
}

/// Room for so many messages.
fn room(messages: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(messages as usize))
}
