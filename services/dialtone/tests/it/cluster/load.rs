//! Pairs of phones that write to each other all the time, and what they saw.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dialtone::handsets::{Handsets, code_in};
use dialtone_chassis::Chassis;
use dialtone_client::{
    Api, CodeOutcome, Credentials, Event, Options, PendingFlow, Session, SharedJournal, text, to,
};
use dialtone_proto::presence::v1::Availability;
use dialtone_proto::types::v1::{IfOffline, Policy};
use dialtone_vocab::{NodeId, UserId};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::at_all::Told;
use super::front::before;
use super::seen::Seen;
use crate::weather::content;

/// Phones; each writes to its neighbour, who is at the other gateway.
pub(crate) const PHONES: usize = 20;
/// Between two messages of a phone.
const EVERY: Duration = Duration::from_millis(300);
/// The phone that can be frozen.
pub(crate) const FROZEN: usize = 0;
/// Messages that each phone sends at once in a burst: a thousand in all.
const BURST: usize = 50;
/// How long an SMS, or the first of anything, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a phone saw, shared with those who follow it.
pub(crate) type Shared = Arc<Mutex<Seen>>;

pub(crate) fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The phones, online and writing.
pub(crate) struct Load {
    runtime: Runtime,
    users: Vec<UserId>,
    phones: Vec<Shared>,
    sessions: Vec<Session>,
    is_ending: Arc<AtomicBool>,
    /// Messages that each phone is to send at once.
    bursts: Vec<Arc<AtomicUsize>>,
}

impl Load {
    /// Registers all, opens their sessions, waits until each sees its peer online, and begins to send.
    pub(crate) fn begin(gateways: [String; 2], handsets: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let chassis = Chassis::real(NodeId::new("phones"));
        let phones: Vec<Shared> = (0..PHONES).map(|_| Shared::default()).collect();
        let (users, sessions) = runtime.block_on(async {
            let listens = gateways.map(|url| url.trim_start_matches("http://").parse().expect("an address"));
            let [first, second] = listens;
            let fronts = [before(vec![first, second]).await, before(vec![second, first]).await];
            let apis = fronts.map(|url| Api::lazy(&url).expect("a URL"));
            let handsets = Handsets::at(handsets).expect("a URL");
            let known = futures::future::join_all(
                (0..PHONES).map(|place| register(&chassis, &apis[gateway_of(place)], &handsets, place)),
            );
            let known = known.await;
            let users: Vec<UserId> = known.iter().map(|credentials| credentials.user).collect();
            let mut sessions = Vec::new();
            for (place, credentials) in known.into_iter().enumerate() {
                let api = apis[gateway_of(place)].clone();
                let journal = SharedJournal::default();
                let opened = Session::open(&chassis, api, credentials, journal, Options::default());
                let (session, events) = opened.expect("a session");
                let (own, peer) = (phones[place].clone(), phones[peer_of(place)].clone());
                tokio::spawn(follow(events, own, peer, users[peer_of(place)]));
                sessions.push(session);
            }
            (users, sessions)
        });
        let bursts = (0..PHONES).map(|_| Arc::default()).collect();
        let load = Self { runtime, users, phones, sessions, is_ending: Arc::default(), bursts };
        load.wait("all connected", |seen| seen.connects > 0);
        for (place, session) in load.sessions.iter().enumerate() {
            load.runtime.block_on(session.watch(1, &[load.users[peer_of(place)]])).expect("open");
        }
        load.wait("all seen online", |seen| seen.peer_was_online);
        load.phones.iter().for_each(|phone| lock(phone).offline_told.clear());
        for (place, session) in load.sessions.iter().enumerate() {
            let (own, is_ending) = (load.phones[place].clone(), load.is_ending.clone());
            let burst = load.bursts[place].clone();
            let sending = send(session.clone(), own, load.users[peer_of(place)], is_ending, burst);
            load.runtime.spawn(sending);
        }
        assert!(load.flows_since(Instant::now()).is_some(), "nothing arrives before anything has happened");
        load
    }

    /// One phone takes nothing any more, though its stream is open, and all send a lot at once.
    pub(crate) fn freeze_and_burst(&self) {
        self.runtime.block_on(self.sessions[FROZEN].freeze(true)).expect("open");
        self.bursts.iter().for_each(|burst| burst.store(BURST, Ordering::Relaxed));
        while self.bursts.iter().any(|burst| burst.load(Ordering::Relaxed) > 0) {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.runtime.block_on(self.sessions[FROZEN].freeze(false)).expect("open");
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let began = Instant::now();
        while !self.phones.iter().all(|phone| is_so(&lock(phone))) {
            assert!(began.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until each phone has been shown a message that was sent after `then`: how long after. `None` if that takes
    /// too long for any test.
    pub(crate) fn flows_since(&self, then: Instant) -> Option<Duration> {
        let waited = Instant::now();
        loop {
            let arrived = (0..PHONES).map(|place| self.arrived_since(place, then));
            if let Some(times) = arrived.collect::<Option<Vec<_>>>() {
                return times.into_iter().max();
            }
            if waited.elapsed() > PATIENCE {
                return None;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Who has not been shown a message that was sent after `then`.
    pub(crate) fn waiting_since(&self, then: Instant) -> Vec<usize> {
        (0..PHONES).filter(|place| self.arrived_since(*place, then).is_none()).collect()
    }

    fn arrived_since(&self, sender: usize, then: Instant) -> Option<Duration> {
        let first = lock(&self.phones[sender]).sent.partition_point(|at| *at < then);
        let seen = lock(&self.phones[peer_of(sender)]);
        seen.shown.iter().find(|shown| shown.number >= first).map(|shown| shown.at - then)
    }

    /// The longest that a message sent after `then` was under way, of those that have arrived.
    pub(crate) fn slowest_since(&self, then: Instant) -> Duration {
        let of_sender = |sender: usize| {
            let sent = lock(&self.phones[sender]).sent.clone();
            let seen = lock(&self.phones[peer_of(sender)]);
            let times = seen.shown.iter().filter_map(|shown| {
                let sent = sent.get(shown.number).filter(|at| **at >= then)?;
                Some(shown.at - *sent)
            });
            times.max().unwrap_or_default()
        };
        (0..PHONES).map(of_sender).max().unwrap_or_default()
    }

    /// How often each phone has connected.
    pub(crate) fn connects(&self) -> Vec<usize> {
        self.phones.iter().map(|phone| lock(phone).connects).collect()
    }

    /// Why a phone lost its streams.
    pub(crate) fn why_lost(&self, place: usize) -> Vec<String> {
        lock(&self.phones[place]).lost.clone()
    }

    /// Who was told that its peer is offline, which it was not, since this was asked last.
    pub(crate) fn told_offline(&self, during: &str) -> Vec<String> {
        let told = self.phones.iter().enumerate().flat_map(|(place, phone)| {
            let told = std::mem::take(&mut lock(phone).offline_told);
            told.into_iter().map(move |is_snapshot| {
                let how = if is_snapshot { "in a snapshot" } else { "as a change" };
                format!("{during}: phone {place} was told {how} that its peer is offline")
            })
        });
        told.collect()
    }

    /// Ends the sending, waits until everything that was accepted is shown, and says what is wrong, and what the phones
    /// were told.
    pub(crate) fn end(self) -> (Vec<String>, Vec<Told>) {
        self.is_ending.store(true, Ordering::Relaxed);
        let began = Instant::now();
        let is_done = || (0..PHONES).all(|place| self.is_through(place));
        while !is_done() && began.elapsed() < PATIENCE {
            std::thread::sleep(LOOK_EVERY);
        }
        // What is shown twice comes after what is shown once.
        std::thread::sleep(2 * EVERY);
        let wrongs = (0..PHONES).flat_map(|place| {
            let (sender, receiver) = (lock(&self.phones[place]).clone(), &self.phones[peer_of(place)]);
            let wrongs = sender.wrongs(&lock(receiver));
            wrongs.into_iter().map(move |wrong| format!("phone {place}: {wrong}"))
        });
        let wrongs = wrongs.collect();
        let told = self.users.iter().zip(&self.phones).map(|(user, phone)| lock(phone).told(*user));
        let told = told.collect();
        for session in self.sessions {
            self.runtime.block_on(session.close());
        }
        (wrongs, told)
    }

    fn is_through(&self, sender: usize) -> bool {
        let (sent, accepted) = {
            let seen = lock(&self.phones[sender]);
            (seen.sent.len(), seen.accepted.len())
        };
        accepted >= sent && lock(&self.phones[peer_of(sender)]).shown.len() >= accepted
    }
}

/// The gateway that a phone connects to, if it answers: 0 or 1.
pub(crate) fn gateway_of(place: usize) -> usize {
    place % 2
}

fn peer_of(place: usize) -> usize {
    place ^ 1
}

async fn register(chassis: &Chassis, api: &Api, handsets: &Handsets, place: usize) -> Credentials {
    let number = format!("+141555501{place:02}");
    let mut flow = PendingFlow::register(api, &number).await.expect("a flow");
    let (service, intent) = flow.start_mo().await.expect("what to text");
    let before = handsets.last_id(&number).await.expect("a handset");
    handsets.send(&number, &service, &intent).await.expect("texted");
    let sms = handsets.wait(chassis, &number, before, PATIENCE).await.expect("a code");
    let code = code_in(&sms.text).expect("a code in the SMS");
    let CodeOutcome::Passed(_) = flow.check_code(&code).await.expect("checked") else {
        panic!("the code was refused")
    };
    flow.complete(chassis, "phone", "").await.expect("registered")
}

async fn send(
    session: Session,
    own: Shared,
    peer: UserId,
    is_ending: Arc<AtomicBool>,
    burst: Arc<AtomicUsize>,
) {
    let policy = Policy { if_offline: IfOffline::Store.into(), ..Default::default() };
    while !is_ending.load(Ordering::Relaxed) {
        let number = {
            let mut seen = lock(&own);
            seen.sent.push(Instant::now());
            seen.sent.len() - 1
        };
        if session.send(to::user(peer), text(number.to_string()), policy).await.is_err() {
            return;
        }
        if burst.load(Ordering::Relaxed) > 0 {
            burst.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn follow(mut events: mpsc::Receiver<Event>, own: Shared, peer: Shared, peer_id: UserId) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected(_) => lock(&own).connected(),
            Event::Disconnected(why) => lock(&own).disconnected(why),
            Event::Ended(go_away) => lock(&own).ended.push(go_away.reason),
            Event::Refused(_, refused, _) => lock(&own).refused.push(refused.reason),
            Event::Accepted(_, accepted, request) => {
                let number = content(request.body).parse().unwrap_or(usize::MAX);
                lock(&own).accepted.push((accepted.sent_idx, number));
            }
            Event::Message(message) => {
                let number = content(message.body).parse().unwrap_or(usize::MAX);
                lock(&own).shows(message.idx, number);
            }
            Event::Presence(presence) => {
                let is_peer = |user: &dialtone_proto::types::v1::UserRef| user.id == peer_id.to_vec();
                for state in presence.changes.iter().filter(|state| state.user.as_ref().is_some_and(is_peer))
                {
                    let (is_online, may_be_away) =
                        (state.availability() == Availability::Online, lock(&peer).may_be_away());
                    lock(&own).peer_is(is_online, may_be_away, presence.snapshot);
                }
            }
            _ => {}
        }
    }
}
