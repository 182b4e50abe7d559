//! Pairs of users, one of each writing to the other.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use dialtone::handsets::Handsets;
use dialtone::own::{Launch, OwnSystem};
use dialtone_chassis::Chassis;
use dialtone_client::{Api, Credentials, to};
use dialtone_proto::types::v1::Recipient;
use futures::{StreamExt, TryStreamExt};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::OneToOne;
use crate::line::{Line, Sender, Shared};
use crate::machine::{self, Burnt, Cpu};
use crate::pace::{self, Arrivals};
use crate::report::Report;
use crate::scrape::{self, Scrape};
use crate::tally::Tally;
use crate::{crowd, store_alone};

/// Streams opened at a time.
const OPEN_AT_ONCE: usize = 32;
/// Between the last stream's opening and the look at the server's memory, and then the load.
const SETTLE: Duration = Duration::from_secs(2);
/// How long what was sent may take to arrive after the end.
const GRACE: Duration = Duration::from_secs(15);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The floor is measured for at most so long.
const FLOOR_SECONDS: u32 = 10;

/// What a phase of load came to.
pub(crate) struct Measured {
    pub(crate) shared: Shared,
    pub(crate) seconds: u32,
    /// Of the process measured, if it is ours.
    pub(crate) burnt: Option<Burnt>,
    pub(crate) scraped: [Scrape; 2],
}

/// What is measured.
struct Target<'a> {
    pid: Option<u32>,
    /// The operations port.
    ops: Option<&'a str>,
}

/// Runs the scenario.
///
/// # Errors
/// What can't be started or reached. Lost messages are no error here: the report tells them.
pub(crate) async fn run(chassis: &Chassis, plan: &OneToOne) -> Result<Report> {
    let mut own = match plan.own {
        true => Some(OwnSystem::start(chassis, server()).await?),
        false => None,
    };
    let (gateway, ops) = match (&own, &plan.gateway, &plan.sms_centre) {
        (Some(own), ..) => (own.gateway_url(), own.centre_url()),
        (None, Some(gateway), Some(centre)) => (gateway.clone(), centre.clone()),
        _ => anyhow::bail!("--self, or --gateway and --sms-centre"),
    };
    let pid = own.as_ref().and_then(OwnSystem::pid);
    let users = plan.pairs as usize * 2;
    eprintln!("registering {users} users …");
    let people = crowd::register(chassis, &Api::lazy(&gateway)?, &Handsets::at(&ops)?, users).await?;

    eprintln!("opening {users} connections …");
    let shared = Shared::new(Tally::new(
        chassis.clock.instant().into_std(),
        chassis.rng.u64(),
        window(plan.warm_up, plan.seconds),
        plan.pairs as usize,
    ));
    let memory_before = pid.map(machine::memory).transpose()?;
    let callers: Vec<Caller> = people.iter().map(Caller::user).collect();
    let senders = connect(chassis, &gateway, &callers, &shared, plan.body as usize).await?;
    chassis.clock.sleep(SETTLE).await;
    let memory_after = pid.map(machine::memory).transpose()?;

    eprintln!("{} messages a second for {} + {} s …", plan.rate, plan.warm_up, plan.seconds);
    let target = Target { pid, ops: own.is_some().then_some(ops.as_str()) };
    let measured = drive(chassis, plan, plan.seconds, senders, &shared, &target).await?;
    let mut report = Report::new(plan, &measured);
    if let (Some(before), Some(after)) = (memory_before, memory_after) {
        report.idle_connections(after.saturating_sub(before), users as u64);
    }
    if let Some(own) = own.take() {
        own.stop().await?;
        eprintln!("the floor …");
        let floor = floor(chassis, plan).await?;
        eprintln!("the store alone …");
        let group = report.group();
        let body = plan.body as usize;
        let store = chassis.blocking.run(move || store_alone::measure(body, group)).await?;
        report.compare(&floor, store);
    }
    Ok(report)
}

/// This program as the server, with budgets that let the crowd register.
fn server() -> Launch {
    let settings =
        [("DIALTONE__IDENTITY__PREFIX_SMS_PER_HOUR", "100000"), ("DIALTONE__SMS__PER_HOUR", "1000000")];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    Launch { args: vec!["server".to_owned()], settings }
}

fn window(warm_up: u32, seconds: u32) -> std::ops::Range<Duration> {
    let from = Duration::from_secs(u64::from(warm_up));
    from..from + Duration::from_secs(u64::from(seconds))
}

/// Who opens a stream, and how others name it.
struct Caller {
    token: String,
    name: Recipient,
}

impl Caller {
    fn user(credentials: &Credentials) -> Self {
        Self { token: credentials.tokens.access.clone(), name: to::user(credentials.user) }
    }

    /// For the floor, which knows no users.
    fn nth(nth: usize) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(nth as u64).to_be_bytes());
        Self { token: nth.to_string(), name: to::user(dialtone_vocab::UserId::new(id)) }
    }
}

/// Opens a connection and a stream for every caller; those with even numbers write to their successors.
async fn connect(
    chassis: &Chassis,
    gateway: &str,
    callers: &[Caller],
    shared: &Shared,
    body: usize,
) -> Result<Vec<Sender>> {
    let opening = futures::stream::iter(callers).map(|caller| async move {
        let api = Api::lazy(gateway)?.with_token(&caller.token);
        Line::open(chassis, &api, shared).await
    });
    let mut lines = opening.buffered(OPEN_AT_ONCE).try_collect::<Vec<_>>().await?.into_iter();
    let mut senders = Vec::new();
    while let (Some(from), Some(at)) = (lines.next(), lines.next()) {
        let pair = senders.len();
        let name = callers[pair * 2 + 1].name.clone();
        senders.push(from.send_from(chassis, shared, pair, name, body));
        at.receive_at(chassis, shared, pair);
    }
    Ok(senders)
}

/// Puts the load on, measures within the window, and waits until everything has arrived or may be given up.
async fn drive(
    chassis: &Chassis,
    plan: &OneToOne,
    seconds: u32,
    mut senders: Vec<Sender>,
    shared: &Shared,
    target: &Target<'_>,
) -> Result<Measured> {
    let window = window(plan.warm_up, seconds);
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
        let (cpu, scraped) = (sample(target)?, scrape_if(target).await?);
        chassis.clock.sleep_until(began + window.end).await;
        let burnt = sample(target)?.zip(cpu).map(|(now, then)| now.since(then));
        anyhow::Ok((burnt, [scraped, scrape_if(target).await?]))
    };
    // The senders are kept until the end: dropping one closes its stream.
    let (senders, measured) = tokio::join!(sending, measuring);
    let (burnt, scraped) = measured?;
    let level = async {
        while !shared.lock().is_level() {
            chassis.clock.sleep(LOOK_EVERY).await;
        }
    };
    // What has not arrived by then is told as lost.
    let _level_or_not = chassis.clock.timeout(GRACE, level).await;
    drop(senders);
    Ok(Measured { shared: shared.clone(), seconds, burnt, scraped })
}

fn sample(target: &Target<'_>) -> Result<Option<Cpu>> {
    target.pid.map(Cpu::of).transpose()
}

async fn scrape_if(target: &Target<'_>) -> Result<Scrape> {
    match target.ops {
        Some(url) => scrape::scrape(url).await,
        None => Ok(Scrape::default()),
    }
}

/// The same load on the bare relay.
async fn floor(chassis: &Chassis, plan: &OneToOne) -> Result<Measured> {
    let (relay, url) = relay().await?;
    let seconds = plan.seconds.min(FLOOR_SECONDS);
    let pairs = plan.pairs as usize;
    let shared = Shared::new(Tally::new(
        chassis.clock.instant().into_std(),
        chassis.rng.u64(),
        window(plan.warm_up, seconds),
        pairs,
    ));
    let callers: Vec<Caller> = (0..pairs * 2).map(Caller::nth).collect();
    let senders = connect(chassis, &url, &callers, &shared, plan.body as usize).await?;
    let target = Target { pid: relay.id(), ops: None };
    drive(chassis, plan, seconds, senders, &shared, &target).await
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
