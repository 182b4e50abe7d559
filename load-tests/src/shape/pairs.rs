//! Pairs of users with so many messages under way in each: closed loop.

use std::time::Duration;

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use futures::future::join_all;

use super::{Crowd, open_pairs, room};
use crate::args::Pairs;
use crate::drive::{level, window};
use crate::line::{Sender, Shared, Window};
use crate::report::Report;
use crate::tally::Tally;

/// Runs the scenario.
///
/// # Errors
/// What can't be started or reached. Lost messages are no error here: the report tells them.
pub(crate) async fn run(chassis: &Chassis, plan: &Pairs) -> Result<Report> {
    let size = plan.size;
    let crowd = Crowd::gather(chassis, &plan.target, size.pairs).await?;
    let window = window(size.warm_up, size.seconds);
    let began = chassis.clock.instant().into_std();
    let shared = Shared::new(Tally::new(began, chassis.rng.u64(), window.clone(), size.pairs as usize));
    let gateway = crowd.system.gateway();
    let rooms = || Some(room(plan.window));
    let mut senders = open_pairs(chassis, &gateway, &crowd.callers, &shared, size.body, rooms).await?;

    eprintln!("{} × {} under way for {} + {} s …", size.pairs, plan.window, size.warm_up, size.seconds);
    let (began, meter) = (chassis.clock.instant(), crowd.meter());
    shared.lock().begin(began.into_std());
    let sending = join_all(senders.iter_mut().map(|pair| keep_full(chassis, pair, window.end)));
    let measuring = async {
        chassis.clock.sleep_until(began + window.start).await;
        let running = meter.begin(chassis).await?;
        chassis.clock.sleep_until(began + window.end).await;
        meter.end(chassis, running, &shared).await
    };
    let (_, measured) = tokio::join!(sending, measuring);
    level(chassis, &shared).await;
    let mut report = Report::new("pairs", &plan.target, size.pairs * 2, size.body, &measured?);
    report.window = Some(plan.window);
    crowd.system.stop().await?;
    Ok(report)
}

/// Sends whenever there is room, until then.
async fn keep_full(
    chassis: &Chassis,
    (sender, window): &mut (Sender, Window),
    until: Duration,
) -> Result<()> {
    let window = window.as_ref().context("a closed loop has a window")?;
    let began = chassis.clock.instant();
    let sending = async {
        while let Ok(permit) = window.acquire().await {
            permit.forget();
            sender.send(chassis.clock.instant() - began);
        }
    };
    let _until_then = chassis.clock.timeout(until, sending).await;
    Ok(())
}
