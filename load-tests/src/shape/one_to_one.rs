//! Pairs of users, one of each writing to the other: open loop.

use std::process::Stdio;

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Crowd, SETTLE, open_pairs};
use crate::args::OneToOne;
use crate::drive::{Caller, Measured, Meter, level, window};
use crate::line::{Sender, Shared};
use crate::machine::Watched;
use crate::pace::{self, Arrivals};
use crate::report::Report;
use crate::store_alone;
use crate::tally::Tally;

/// The floor is measured for at most so long.
const FLOOR_SECONDS: u32 = 10;

/// Runs the scenario.
///
/// # Errors
/// What can't be started or reached. Lost messages are no error here: the report tells them.
pub(crate) async fn run(chassis: &Chassis, plan: &OneToOne, with_floor: bool) -> Result<Report> {
    let size = plan.size;
    let crowd = Crowd::gather(chassis, &plan.target, size.pairs).await?;
    let memory_before = crowd.memory()?;
    let shared = tally(chassis, plan, size.seconds);
    let gateway = crowd.system.gateway();
    let senders = open_pairs(chassis, &gateway, &crowd.callers, &shared, size.body, || None).await?;
    chassis.clock.sleep(SETTLE).await;
    let memory_after = crowd.memory()?;

    eprintln!("{} messages a second for {} + {} s …", plan.rate, size.warm_up, size.seconds);
    let senders = senders.into_iter().map(|(sender, _)| sender).collect();
    let measured = drive(chassis, plan, size.seconds, senders, &shared, &crowd.meter()).await?;
    let mut report = Report::new("one-to-one", &plan.target, size.pairs * 2, size.body, &measured);
    report.rate = Some(plan.rate);
    if let (Some(before), Some(after)) = (memory_before, memory_after) {
        report.idle_connections(after.saturating_sub(before), u64::from(size.pairs) * 2);
    }
    let is_own = plan.target.own;
    crowd.system.stop().await?;
    if is_own && with_floor {
        let floor = floor(chassis, plan).await?;
        let store = store_floor(chassis, size.body, report.group()).await?;
        report.compare(&floor, store);
    }
    Ok(report)
}

/// The appends of the same messages on the bare engine, in CPU seconds per 100,000.
async fn store_floor(chassis: &Chassis, body: u32, group: usize) -> Result<f64> {
    eprintln!("the store alone …");
    chassis.blocking.run(move || store_alone::measure(body as usize, group)).await
}

fn tally(chassis: &Chassis, plan: &OneToOne, seconds: u32) -> Shared {
    let window = window(plan.size.warm_up, seconds);
    let now = chassis.clock.instant().into_std();
    Shared::new(Tally::new(now, chassis.rng.u64(), window, plan.size.pairs as usize))
}

/// Puts the load on, measures within the window, and waits until everything has arrived or may be given up.
async fn drive(
    chassis: &Chassis,
    plan: &OneToOne,
    seconds: u32,
    mut senders: Vec<Sender>,
    shared: &Shared,
    meter: &Meter,
) -> Result<Measured> {
    let window = window(plan.size.warm_up, seconds);
    let began = chassis.clock.instant();
    shared.lock().begin(began.into_std());
    let (rng, until) = (chassis.rng.clone(), window.end);
    let arrivals = Arrivals::new(chassis.rng.clone(), plan.rate);
    let sending = chassis.blocking.run(move || {
        let pairs = senders.len() as u64;
        pace::keep(began.into_std(), arrivals, until, |due| {
            let pair = usize::try_from(rng.below(pairs)).unwrap_or_default();
            senders[pair].send(due);
        });
        senders
    });
    let measuring = async {
        chassis.clock.sleep_until(began + window.start).await;
        let running = meter.begin(chassis).await?;
        chassis.clock.sleep_until(began + window.end).await;
        meter.end(chassis, running, shared).await
    };
    // The senders are kept until the end: dropping one closes its stream.
    let (senders, measured) = tokio::join!(sending, measuring);
    level(chassis, shared).await;
    drop(senders);
    measured
}

/// The same load on the bare relay.
async fn floor(chassis: &Chassis, plan: &OneToOne) -> Result<Measured> {
    eprintln!("the floor …");
    let (relay, url) = relay().await?;
    let seconds = plan.size.seconds.min(FLOOR_SECONDS);
    let shared = tally(chassis, plan, seconds);
    let callers: Vec<Caller> = (0..plan.size.pairs as usize * 2).map(Caller::nth).collect();
    let senders = open_pairs(chassis, &url, &callers, &shared, plan.size.body, || None).await?;
    let senders = senders.into_iter().map(|(sender, _)| sender).collect();
    let watched: Watched = relay.id().map(|pid| ("relay".to_owned(), pid)).into_iter().collect();
    let meter = Meter { watched, stores: Vec::new() };
    drive(chassis, plan, seconds, senders, &shared, &meter).await
}

async fn relay() -> Result<(Child, String)> {
    let exe = std::env::current_exe().context("this program's path")?;
    let mut child = Command::new(exe)
        .arg("relay")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting the relay")?;
    let stdout = child.stdout.take().context("the relay's output")?;
    let mut lines = BufReader::new(stdout).lines();
    let url = lines.next_line().await?.context("the relay ended at its start")?;
    Ok((child, url))
}
