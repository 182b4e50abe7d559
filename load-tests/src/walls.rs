//! What each wall costs: the same shapes in one process, over NATS, and over NATS and a CQL server.

use anyhow::Result;
use dialtone_chassis::Chassis;
use serde::Serialize;

use crate::args::{Offline, OneToOne, Pairs, Size, Target, Walls, Way};
use crate::driver_alone::{self, DriverAlone};
use crate::report::Report;
use crate::shape;

/// Bus hops of a message: to routing and its answer, to offline and its answer, the push and its ack, the receipt to
/// routing and to the sender.
const HOPS: f64 = 8.0;
/// What a hop may cost, in CPU seconds per 100,000 messages.
const HOP_CPU: f64 = 0.5;
/// How much more than in one process a message may cost beside its hops.
const SPLIT_FACTOR: f64 = 1.35;

/// All reports of a run, and what they come to.
#[derive(Debug, Serialize)]
pub(crate) struct WallsReport {
    /// What was not measured, and why.
    left_out: Vec<&'static str>,
    one_to_one: Vec<Report>,
    pairs: Vec<Report>,
    offline: Vec<Report>,
    driver_alone: Option<DriverAlone>,
    /// CPU seconds per 100,000 messages split over NATS, beyond what one process takes, for each of the hops.
    cpu_s_per_100k_and_hop: Option<f64>,
    /// The same figure over what it may be: 1.35 of one process and half a second a hop.
    split_over_aim: Option<f64>,
    /// Messages a second of the closed loop over CQL servers, for each row a second of the driver alone.
    messages_per_row: Option<f64>,
    /// Delivery at p99 over CQL servers beyond twice the p99 of the driver alone, in ms.
    p99_beyond_driver_ms: Option<f64>,
}

impl WallsReport {
    pub(crate) fn reports(&self) -> Vec<&Report> {
        self.one_to_one.iter().chain(&self.pairs).chain(&self.offline).collect()
    }
}

/// Runs all of it, one after the other.
///
/// # Errors
/// What can't be started or reached.
pub(crate) async fn run(chassis: &Chassis, plan: &Walls) -> Result<WallsReport> {
    let size = plan.size;
    let mut ways = vec![Way::OneProcess, Way::Nats];
    let mut left_out = Vec::new();
    match plan.cql {
        Some(_) => ways.push(Way::NatsCql),
        None => left_out.push("nats-cql: no --cql"),
    }
    let (mut one_to_one, mut pairs, mut offline) = (Vec::new(), Vec::new(), Vec::new());
    for way in ways {
        let target = target(plan, way);
        let open = OneToOne { target: target.clone(), size, rate: plan.rate };
        one_to_one.push(shape::one_to_one(chassis, &open, way == Way::OneProcess).await?);
        let closed = Pairs { target: target.clone(), size, window: plan.window };
        pairs.push(shape::pairs(chassis, &closed).await?);
        let away = Offline { target, receivers: size.pairs, per: plan.per, body: size.body };
        offline.push(shape::offline(chassis, &away).await?);
    }
    let driver_alone = match &plan.cql {
        Some(server) => Some(alone(chassis, server, plan).await?),
        None => None,
    };
    let cpu = |way: usize| one_to_one.get(way).and_then(|report: &Report| report.server_cpu_s_per_100k);
    let split = cpu(1).zip(cpu(0));
    let over_cql = driver_alone.as_ref().zip(pairs.get(2));
    Ok(WallsReport {
        cpu_s_per_100k_and_hop: split.map(|(split, one)| (split - one) / HOPS),
        split_over_aim: split.map(|(split, one)| split / (SPLIT_FACTOR * one + HOP_CPU * HOPS)),
        messages_per_row: over_cql.map(|(alone, pairs)| pairs.delivered_per_s / alone.rows_per_s()),
        p99_beyond_driver_ms: over_cql
            .and_then(|(alone, pairs)| Some(pairs.delivery?.p99_ms - 2.0 * alone.p99_ms())),
        left_out,
        one_to_one,
        pairs,
        offline,
        driver_alone,
    })
}

async fn alone(chassis: &Chassis, server: &str, plan: &Walls) -> Result<DriverAlone> {
    let Size { pairs, body, seconds, .. } = plan.size;
    eprintln!("the driver alone …");
    driver_alone::measure(chassis, server, pairs * plan.window, body, seconds).await
}

fn target(plan: &Walls, way: Way) -> Target {
    Target {
        own: true,
        way,
        cql: plan.cql.clone().unwrap_or_default(),
        gateway: None,
        sms_centre: None,
        json: None,
    }
}
