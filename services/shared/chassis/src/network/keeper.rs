//! Keeps the lines of a channel: looks names up again and again, and minds each address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, watch};

use super::dial::dial;
use super::lines::{Line, Lines, Place, Remote, State};
use super::target::Target;
use super::{MAX_ADDRESSES, Network, RESOLVE_EVERY, RESOLVE_SOON};
use crate::{Backoff, TaskHandle};

/// The first pause between dials of an address.
const DIAL_AGAIN: Duration = Duration::from_millis(50);
/// The longest.
const DIAL_AGAIN_MOST: Duration = Duration::from_secs(1);
/// After a connection that stood this long pauses begin anew.
const STEADY: Duration = Duration::from_secs(3);

/// What the keeper and the minders of its addresses share.
#[derive(Clone)]
struct Shared {
    network: Network,
    name: Arc<str>,
    lines: Arc<watch::Sender<Lines>>,
    /// An address can't be reached: names may stand for others by now.
    trouble: Arc<Notify>,
}

struct Keeper {
    shared: Shared,
    targets: Vec<Arc<Target>>,
    minders: BTreeMap<Place, TaskHandle>,
    count: u64,
}

/// Begins to keep lines to these targets, until nobody has the channel any more.
pub(super) fn start(network: &Network, name: &str, targets: Vec<Target>) -> Remote {
    let (sender, lines) = watch::channel(Lines::default());
    let (lines_of_all, trouble) = (Arc::new(sender), Arc::default());
    let shared = Shared { network: network.clone(), name: name.into(), lines: lines_of_all, trouble };
    let targets = targets.into_iter().map(Arc::new).collect();
    let keeper = Keeper { shared, targets, minders: BTreeMap::new(), count: 0 };
    network.chassis.tasks.spawn("channel", keeper.run());
    Remote::new(&network.chassis, name, lines)
}

impl Keeper {
    async fn run(mut self) {
        let (stop, lines) = (self.shared.network.chassis.tasks.stop_token(), self.shared.lines.clone());
        tokio::select! {
            biased;
            // Lines that stand go on: handlers that run still call others.
            () = stop.cancelled() => return,
            () = lines.closed() => {}
            () = self.keep() => {}
        }
        for minder in self.minders.values() {
            minder.abort();
        }
    }

    async fn keep(&mut self) {
        let clock = self.shared.network.chassis.clock.clone();
        let mut backoff = Backoff::new(RESOLVE_SOON, RESOLVE_EVERY);
        loop {
            let asked = clock.instant();
            let pause = match self.resolve().await {
                true => RESOLVE_EVERY,
                false => RESOLVE_SOON + backoff.pause(&self.shared.network.chassis.rng),
            };
            if pause == RESOLVE_EVERY {
                backoff.reset();
            }
            tokio::select! {
                () = clock.sleep_until(asked + pause) => {}
                () = self.shared.trouble.notified() => clock.sleep_until(asked + RESOLVE_SOON).await,
            }
        }
    }

    /// Looks all names up; false if one has no address. What can't be looked up keeps the addresses it had: they may
    /// be well.
    async fn resolve(&mut self) -> bool {
        let look = |target: &Arc<Target>| {
            let answer = (self.shared.network.resolver)(target.host.clone(), target.port);
            let host = target.host.clone();
            async move {
                match answer.await {
                    Ok(addrs) if addrs.is_empty() => Err(format!("{host} has no address")),
                    Ok(addrs) => Ok(addrs),
                    Err(error) => Err(format!("{host} can't be resolved: {error}")),
                }
            }
        };
        let answers = join_all(self.targets.iter().map(look)).await;
        let mut wanted = BTreeSet::new();
        for (n, answer) in answers.iter().enumerate() {
            match answer {
                Ok(addrs) => wanted.extend(addrs.iter().map(|addr| (*addr, n))),
                Err(_) => wanted.extend(self.minders.keys().filter(|place| place.1 == n)),
            }
        }
        if wanted.len() > MAX_ADDRESSES {
            tracing::warn!(channel = %self.shared.name, of = wanted.len(), "only {MAX_ADDRESSES} addresses are used");
        }
        self.change(&wanted.into_iter().take(MAX_ADDRESSES).collect());
        let unresolved = answers.into_iter().find_map(Result::err);
        let is_well = unresolved.is_none();
        self.shared.lines.send_modify(|lines| {
            if let Some(why) = unresolved.as_deref().filter(|_| lines.unresolved != unresolved) {
                tracing::warn!(channel = %self.shared.name, "{why}");
            }
            (lines.is_resolved, lines.unresolved) = (true, unresolved);
        });
        is_well
    }

    /// From now on these places and no others have lines.
    fn change(&mut self, wanted: &BTreeSet<Place>) {
        let gone: Vec<_> = self.minders.extract_if(.., |place, _| !wanted.contains(place)).collect();
        for (place, minder) in gone {
            tracing::info!(channel = %self.shared.name, addr = %place.0, "an address went");
            minder.abort();
            // Calls under way have their answers yet: the connection ends after them.
            self.shared.lines.send_modify(|lines| drop(lines.places.remove(&place)));
        }
        for place in wanted {
            if !self.minders.contains_key(place) {
                tracing::info!(channel = %self.shared.name, addr = %place.0, "an address came");
                self.count += 1;
                let state = (self.count, State::Dialing);
                self.shared.lines.send_modify(|lines| drop(lines.places.insert(*place, state)));
                let minder = Minder {
                    shared: self.shared.clone(),
                    target: self.targets[place.1].clone(),
                    place: *place,
                    number: self.count,
                };
                self.minders.insert(*place, self.shared.network.chassis.tasks.spawn("line", minder.run()));
            }
        }
    }
}

/// Keeps the line to one address.
struct Minder {
    shared: Shared,
    target: Arc<Target>,
    place: Place,
    number: u64,
}

impl Minder {
    async fn run(self) {
        let stop = self.shared.network.chassis.tasks.stop_token();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.mind() => {}
        }
    }

    async fn mind(&self) {
        let chassis = &self.shared.network.chassis;
        let mut backoff = Backoff::new(DIAL_AGAIN, DIAL_AGAIN_MOST);
        let mut told = String::new();
        loop {
            let (why, stood) = self.hold().await;
            if stood.is_some_and(|stood| stood >= STEADY) {
                backoff.reset();
            }
            let channel = &self.shared.name;
            if stood.is_some() {
                tracing::info!(%channel, addr = %self.addr(), "{why}");
                told.clear();
            } else if told != why {
                tracing::warn!(%channel, addr = %self.addr(), "{why}");
                told.clone_from(&why);
            }
            // What was there is likely there again at once.
            self.is(if stood.is_some() { State::Dialing } else { State::Down(why) });
            self.shared.trouble.notify_one();
            chassis.clock.sleep(backoff.pause(&chassis.rng)).await;
        }
    }

    /// Dials, and holds the line until it ends: why it did, and how long it stood, if it did.
    async fn hold(&self) -> (String, Option<Duration>) {
        let clock = &self.shared.network.chassis.clock;
        let connected = match dial(&self.shared.network, &self.target, self.addr()).await {
            Ok(connected) => connected,
            Err(why) => return (why, None),
        };
        let began = clock.instant();
        self.is(State::Up(Line::new(connected.sender, self.target.clone())));
        let why = connected.ended.await.unwrap_or_else(|_| "the connection was cut".to_owned());
        (format!("the connection ended: {why}"), Some(clock.instant() - began))
    }

    fn addr(&self) -> SocketAddr {
        self.place.0
    }

    fn is(&self, state: State) {
        self.shared.lines.send_modify(|lines| {
            if let Some(own) = lines.places.get_mut(&self.place).filter(|(number, _)| *number == self.number)
            {
                own.1 = state;
            }
        });
    }
}
