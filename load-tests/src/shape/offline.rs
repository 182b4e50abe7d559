//! Messages for users who are away; then all of them come at once.

use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use futures::future::try_join_all;

use super::{Crowd, room, sender};
use crate::args::Offline;
use crate::drive::{Caller, connect, level};
use crate::line::{Sender, Shared, Window};
use crate::report::Report;
use crate::tally::Tally;

/// Messages of one sender that are not accepted yet.
const UNDER_WAY: u32 = 16;
/// Longer than any run: everything counts.
const ALL: Duration = Duration::from_secs(24 * 3_600);
/// How long a message may wait for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(60);

/// Runs the scenario: what storing costs, and what fetching does,
/// in one report.
///
/// # Errors
/// What can't be started or reached. Lost messages are no error here: the report tells them.
pub(crate) async fn run(chassis: &Chassis, plan: &Offline) -> Result<Report> {
    let crowd = Crowd::gather(chassis, &plan.target, plan.receivers).await?;
    let (gateway, meter) = (crowd.system.gateway(), crowd.meter());
    let began = chassis.clock.instant();
    let shared = Shared::new(Tally::new(
        began.into_std(),
        chassis.rng.u64(),
        Duration::ZERO..ALL,
        plan.receivers as usize,
    ));
    let lines = connect(chassis, &gateway, half(&crowd.callers, 0), &shared).await?;
    let mut senders: Vec<(Sender, Window)> = Vec::new();
    for (pair, line) in lines.into_iter().enumerate() {
        let room = Some(room(UNDER_WAY));
        let place = (pair, plan.body);
        senders.push((sender(chassis, line, &crowd.callers, &shared, place, room.clone()), room));
    }

    eprintln!("{} messages for each of {} who are away …", plan.per, plan.receivers);
    let began = chassis.clock.instant();
    shared.lock().begin(began.into_std());
    let running = meter.begin(chassis).await?;
    try_join_all(senders.iter_mut().map(|pair| send_all(chassis, pair, plan.per))).await?;
    let stored = meter.end(chassis, running, &shared).await?;

    eprintln!("they come …");
    let running = meter.begin(chassis).await?;
    let lines = connect(chassis, &gateway, half(&crowd.callers, 1), &shared).await?;
    for (pair, line) in lines.into_iter().enumerate() {
        line.receive_at(chassis, &shared, pair, None);
    }
    level(chassis, &shared).await;
    let fetched = meter.end(chassis, running, &shared).await?;
    let mut report = Report::new("offline", &plan.target, plan.receivers * 2, plan.body, &fetched);
    report.stored_before(&stored);
    crowd.system.stop().await?;
    Ok(report)
}

/// Those who write, or those who are written to.
fn half(callers: &[Caller], which: usize) -> impl Iterator<Item = &Caller> {
    callers.iter().skip(which).step_by(2)
}

/// Sends all and waits until all are accepted.
async fn send_all(chassis: &Chassis, (sender, window): &mut (Sender, Window), count: u32) -> Result<()> {
    let window = window.as_ref().context("a sender has a window")?;
    let began = chassis.clock.instant();
    let within = |permits| chassis.clock.timeout(TURN_WITHIN, window.acquire_many(permits));
    for _ in 0..count {
        within(1).await.ok().context("a message was not accepted in time")??.forget();
        sender.send(chassis.clock.instant() - began);
    }
    within(UNDER_WAY).await.ok().context("messages were not accepted in time")?.map(drop).map_err(Into::into)
}
