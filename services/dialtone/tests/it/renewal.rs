//! A session outlives its access token, which is good for a quarter of an hour, and nobody notices.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialtone_client::{Api, Credentials, Event, Options, Session, SharedJournal, text, to};
use dialtone_proto::edge::v1::ClientState;
use dialtone_proto::identity::v1::ListSessionsRequest;
use dialtone_proto::presence::v1::{Availability, PeerState};
use dialtone_proto::types::v1::{IfOffline, Policy};
use tokio::sync::mpsc::Receiver;

use crate::weather::{content, number, register};
use crate::world::World;

/// How long they talk: longer than a token lives.
const TALK: Duration = Duration::from_secs(16 * 60);
/// Between two messages.
const EVERY: Duration = Duration::from_secs(20);
/// So long before its end a client renews a token.
const RENEWED_BEFORE: Duration = Duration::from_secs(30);
/// How long a renewal may take.
const RENEWING: Duration = Duration::from_secs(2);
/// From phone to server and back.
const FAR: Duration = Duration::from_millis(100);
/// Between two messages meanwhile: a receiver who is away between two streams gets an SMS.
const CLOSELY: Duration = Duration::from_millis(10);

/// What an application is told.
#[derive(Debug, Default, PartialEq)]
struct Told {
    connected: usize,
    shown: Vec<String>,
    /// What the peer it watches was, one after the other.
    peer: Vec<Availability>,
    /// What it should not hear.
    unexpected: Vec<String>,
}

struct Phone {
    api: Api,
    credentials: Credentials,
    session: Session,
    told: Arc<Mutex<Told>>,
}

impl Phone {
    /// Registers, and stays online.
    fn new(world: &mut World, place: usize) -> Self {
        let (centre, chassis, api) = (world.centre.clone(), world.chassis.clone(), world.api());
        let credentials = world.run(register(centre, chassis.clone(), api.clone(), number(place)));
        let (journal, options) = (SharedJournal::default(), Options::default());
        let opened =
            world.inside(|| Session::open(&chassis, api.clone(), credentials.clone(), journal, options));
        let (session, events) = opened.expect("a session");
        let told = Arc::default();
        world.spawn(follow(events, Arc::clone(&told)));
        Self { api, credentials, session, told }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sessions the server lists for this user.
    fn sessions(&self, world: &mut World) -> usize {
        let (api, mut credentials) = (self.api.clone(), self.credentials.clone());
        world.run(async move {
            credentials.renew(&api).await.expect("a token");
            let account = api.with_token(&credentials.tokens.access).account();
            let listed = { account }.list_sessions(ListSessionsRequest {}).await.expect("listed");
            listed.into_inner().sessions.len()
        })
    }
}

async fn follow(mut events: Receiver<Event>, told: Arc<Mutex<Told>>) {
    while let Some(event) = events.recv().await {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Connected(_) => told.connected += 1,
            Event::Message(message) if !message.by_sms => told.shown.push(content(message.body)),
            Event::Presence(presence) => {
                told.peer.extend(presence.changes.iter().map(PeerState::availability));
                told.peer.dedup();
            }
            Event::Accepted(..) | Event::Receipt(_) | Event::CaughtUp => {}
            other => told.unexpected.push(format!("{other:?}")),
        }
    }
}

/// Anna talks to Ben beyond the life of both their tokens, closely while they are renewed; what she says.
fn talk(world: &mut World, anna: &Phone, ben: &Phone) -> Vec<String> {
    let clock = world.chassis.clock.clone();
    let [until, renewed] = [clock.now().plus(TALK).0, ben.credentials.tokens.access_expires_ms];
    let renewing = renewed - u64::try_from(RENEWED_BEFORE.as_millis()).expect("short");
    let policy = Policy { if_offline: IfOffline::Sms.into(), ..Policy::default() };
    let mut said = Vec::new();
    while clock.now().0 < until {
        let words = format!("m{}", said.len());
        said.push(words.clone());
        let (session, receiver) = (anna.session.clone(), to::user(ben.credentials.user));
        world.spawn(async move {
            session.send(receiver, text(words), policy).await.expect("journalled");
        });
        let now = clock.now();
        world.pass(match renewing.checked_sub(now.0) {
            Some(left @ 1..) => EVERY.min(Duration::from_millis(left)),
            _ if now.since(dialtone_vocab::UnixMillis(renewing)) < RENEWING => CLOSELY,
            _ => EVERY,
        });
    }
    said
}

#[test]
fn a_session_outlives_its_access_token_unnoticed() {
    let mut world = World::calm(1, FAR);
    let anna = Phone::new(&mut world, 0);
    // Else she would be busy with her own token when his is renewed.
    world.pass(Duration::from_secs(10));
    let ben = Phone::new(&mut world, 1);
    let (watching, peer) = (anna.session.clone(), ben.credentials.user);
    world.run(async move { watching.watch(1, &[peer]).await.expect("named") });
    world.pass(Duration::from_secs(2));
    let away = ben.session.clone();
    world.run(async move { away.state(ClientState::Inactive).await.expect("told") });
    world.pass(Duration::from_secs(4));
    let said = talk(&mut world, &anna, &ben);
    world.pass(Duration::from_secs(5));

    let peer = vec![Availability::Online, Availability::Away];
    assert_eq!(*anna.told(), Told { connected: 1, peer, ..Told::default() });
    assert_eq!(*ben.told(), Told { connected: 1, shown: said, ..Told::default() });
    for (place, phone) in [&anna, &ben].into_iter().enumerate() {
        let (centre, number) = (world.centre.clone(), number(place));
        let sms = world.run(async move { centre.sms_of(&number).await });
        assert_eq!(sms.len(), 1, "more than the code of the registration: {sms:?}");
        assert_eq!(phone.sessions(&mut world), 1);
    }
}
