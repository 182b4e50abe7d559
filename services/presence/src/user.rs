//! The actor of a user: keeps the pure state, does what it asks for.

use dialtone_attach::SessionKey;
use dialtone_chassis::Error;
use dialtone_proto::bus::v1 as bus;
use dialtone_proto::edge::v1::{Contact, Watch};
use dialtone_shards::{Resident, Rest};
use dialtone_vocab::{UnixMillis, UserId};
use tokio::sync::oneshot;

use crate::handle::{Question, Shared};
use crate::limits::UNSURE;
use crate::state::{Effect, Judged, State, View};
use crate::store::Status;
use crate::{error, metrics};

/// The way back to who asked; who has gone is not told.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// What happens to a user.
pub(crate) enum ToUser {
    Attach(SessionKey, Box<bus::Attach>),
    Detach(SessionKey),
    Beat(SessionKey, bus::SessionBeat),
    Watch(SessionKey, Watch),
    Typing(SessionKey, UserId),
    ClientState(SessionKey, i32),
    Contact(Contact),
    Subscribe(bus::PeerSubscribe),
    Update(bus::PeerUpdate),
    PeerTyping(UserId),
    Judged(Vec<Judged>),
    SetStatus { text: String, invisible: bool, answer: Answer<()> },
    Get(Answer<View>),
}

/// A user to whom something happens.
pub(crate) struct User {
    shared: Shared,
    user: UserId,
    state: State,
}

impl Resident for User {
    type Message = ToUser;
    type Shared = Shared;

    async fn open(shared: &Shared, user: UserId) -> Option<Self> {
        // Else one that was just dropped would come back with the next message, and know of no session.
        if shared.out.is_elsewhere(user, &shared.chassis.node) {
            return None;
        }
        let row = shared.store.status(user).await.map_err(|error| error::store(&error)).ok()?;
        let (chassis, clock) = (&shared.chassis, &shared.chassis.clock);
        let mut state = State::new(user, chassis.node.clone(), row, shared.table, clock.now());
        let since = shared.out.unmoved_since().map_or(shared.began, |since| since.max(shared.began));
        let unmoved = clock.boot().saturating_sub(since);
        state.unsure_until(clock.now().plus(UNSURE.saturating_sub(unmoved)));
        Some(Self { shared: shared.clone(), user, state })
    }

    /// Whose user has moved keeps quiet: its sessions are attached elsewhere, and would seem to end here.
    fn is_current(&self) -> bool {
        !self.shared.out.is_elsewhere(self.user, &self.shared.chassis.node)
    }

    async fn handle(&mut self, message: ToUser) {
        let now = self.shared.chassis.clock.now();
        match message {
            ToUser::Attach(key, attach) => self.state.attach(key, &attach, now),
            ToUser::Detach(key) => self.state.detach(&key, now),
            ToUser::Beat(key, beat) => self.state.beat(&key, &beat, now),
            ToUser::Watch(key, watch) => self.state.watch(&key, &watch, now),
            ToUser::Typing(key, to) => self.state.typing(&key, to, now),
            ToUser::ClientState(key, state) => self.state.client_state(&key, state, now),
            ToUser::Contact(contact) => self.state.contact(&contact),
            ToUser::Subscribe(ask) => self.state.subscribe(&ask, now),
            ToUser::Update(update) => self.state.update(update, now),
            ToUser::PeerTyping(typist) => self.state.peer_typing(typist, now),
            ToUser::Judged(judged) => self.state.judged(&judged, now),
            ToUser::SetStatus { text, invisible, answer } => {
                let _gone = answer.send(self.set_status(text, invisible, now).await);
            }
            ToUser::Get(answer) => {
                let _gone = answer.send(Ok(self.state.view(now)));
            }
        }
        self.act().await;
    }

    async fn tick(&mut self) -> Rest {
        self.state.tick(self.shared.chassis.clock.now());
        self.act().await;
        match self.state.is_calm() {
            true if self.state.is_quiet() => Rest::MayLeave,
            true => Rest::Calm,
            false => Rest::Restless,
        }
    }
}

impl User {
    async fn set_status(&mut self, text: String, invisible: bool, now: UnixMillis) -> Result<(), Error> {
        let row = Status { text, invisible, seen: self.state.seen_if(invisible, now) };
        self.shared.store.put_status(self.user, &row).await.map_err(|error| error::store(&error))?;
        self.state.set_row(row, now);
        Ok(())
    }

    async fn act(&mut self) {
        for effect in self.state.effects() {
            match effect {
                Effect::Gateway(key, item) => self.shared.out.gateway(&key, item),
                Effect::Subscribe(ask) => self.shared.out.subscribe(ask),
                Effect::Update(node, update) => self.shared.out.update(&node, update),
                Effect::Typing(typing) => self.shared.out.typing(typing),
                Effect::AskMaySee(peers) => {
                    let question = Question { viewer: self.user, peers };
                    if self.shared.asks.try_send(question).is_err() {
                        metrics::judged("later");
                    }
                }
                // Coarse and only for display: what is lost here is noted again with the next change.
                Effect::Seen(at) => {
                    if let Err(error) = self.shared.store.note_seen(self.user, at).await {
                        tracing::warn!(%error, "when a user was seen is not kept");
                    }
                }
            }
        }
    }
}
