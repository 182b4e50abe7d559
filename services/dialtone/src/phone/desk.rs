//! The phone in use: lines in, events and SMS out.

use anyhow::{Context, Result};
use dialtone_chassis::Chassis;
use dialtone_client::{Api, ClientError, Credentials, Event, Options, Session, text, to};
use dialtone_numbers::normalise;
use dialtone_proto::contacts::v1::{AckTokenRequest, SyncRequest, Verdict};
use dialtone_proto::edge::v1::Receipt;
use dialtone_proto::presence::v1::{Availability, PeerState, SetStatusRequest};
use dialtone_proto::routing::v1::{PlanSendRequest, Way};
use dialtone_proto::sms::sim::v1::Sms;
use dialtone_proto::types::v1::{
    Channel, ConversationRef, IfOffline, Policy, Recipient, TypedNumber, conversation_ref::With,
};
use dialtone_vocab::UserId;
use tokio::sync::mpsc;

use super::commands::{Command, HELP, parse};
use super::profile::{Contact, Profile};
use super::screen::Screen;
use super::{REGION, words};
use crate::handsets::Handsets;

pub(super) struct Desk {
    chassis: Chassis,
    gateway: String,
    api: Api,
    handsets: Handsets,
    screen: Screen,
    lines: mpsc::Receiver<String>,
    profile: Profile,
    credentials: Credentials,
    session: Option<(Session, mpsc::Receiver<Event>)>,
    /// Whether the owner was told that the connection is lost.
    is_lost: bool,
    sms: mpsc::Receiver<Sms>,
    with: Option<(String, Recipient)>,
    sms_if_offline: bool,
    watch_version: u64,
}

impl Desk {
    pub(super) async fn open(
        chassis: &Chassis,
        gateway: String,
        api: Api,
        handsets: Handsets,
        profile: Profile,
        credentials: Credentials,
    ) -> Result<Self> {
        let sms = handsets.follow(chassis, &profile.number.to_string()).await?;
        let session = Some(go_online(chassis, &api, &credentials, &profile)?);
        // Last: from here on only the end of the lines ends the phone.
        let (screen, lines) = Screen::open(chassis)?;
        Ok(Self {
            chassis: chassis.clone(),
            gateway,
            api,
            handsets,
            screen,
            lines,
            profile,
            credentials,
            session,
            is_lost: false,
            sms,
            with: None,
            sms_if_offline: false,
            watch_version: chassis.clock.now().0,
        })
    }

    pub(super) async fn run(mut self) -> Result<()> {
        self.screen.say(format!("{} is logged in. /help says what it can do.", self.profile.number));
        loop {
            let events = async {
                match &mut self.session {
                    Some((_, events)) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                line = self.lines.recv() => {
                    let Some(line) = line else { break };
                    match parse(&line) {
                        Command::Quit => break,
                        command => if let Err(error) = self.command(command).await {
                            self.screen.say(format!("! {}", words::problem(&error, &self.gateway)));
                        }
                    }
                }
                event = events => match event {
                    Some(event) => self.event(event),
                    None => self.session = None,
                },
                Some(sms) = self.sms.recv() => {
                    self.screen.say(format!("[SMS from {}] {}", sms.from, sms.text));
                }
            }
        }
        if let Some((session, _)) = self.session.take() {
            session.close().await;
        }
        Ok(())
    }

    /// The session, or an error that says how to get one.
    fn session(&self) -> Result<&Session> {
        self.session
            .as_ref()
            .map(|(session, _)| session)
            .context("you are offline; /online opens the session")
    }

    /// The API with a token that holds.
    async fn authorised(&mut self) -> Result<Api> {
        if self.credentials.is_stale(self.chassis.clock.now()) {
            self.credentials.renew(&self.api).await?;
        }
        Ok(self.api.with_token(&self.credentials.tokens.access))
    }

    async fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Say(body) => self.send(&body, Channel::Auto).await,
            Command::Sms(body) => self.send(&body, Channel::Sms).await,
            Command::Plan(body) => self.plan(&body).await,
            Command::To(whom) => self.talk_to(&whom),
            Command::Contacts => self.list(),
            Command::Add { name, number } => self.add(&name, &number).await,
            Command::Remove { name } => self.remove(&name).await,
            Command::IfOffline { sms } => {
                self.sms_if_offline = sms;
                self.screen.say(if sms {
                    "offline receivers get an SMS"
                } else {
                    "messages wait for offline receivers"
                });
                Ok(())
            }
            Command::Offline => self.go_offline().await,
            Command::Online => self.go_online(),
            Command::Status(status) => self.status(status).await,
            Command::Watch(names) => self.watch(&names).await,
            Command::Text { to, text } => self.text(&to, &text).await,
            Command::Help => {
                self.screen.say(HELP);
                Ok(())
            }
            Command::Wrong(how) => {
                self.screen.say(format!("? {how}"));
                Ok(())
            }
            Command::Nothing | Command::Quit => Ok(()),
        }
    }

    fn go_online(&mut self) -> Result<()> {
        if self.session.is_none() {
            self.is_lost = false;
            self.session = Some(go_online(&self.chassis, &self.api, &self.credentials, &self.profile)?);
        }
        Ok(())
    }

    async fn go_offline(&mut self) -> Result<()> {
        if let Some((session, _)) = self.session.take() {
            session.close().await;
            self.screen.say("offline; SMS still arrive");
        }
        Ok(())
    }

    async fn status(&mut self, text: String) -> Result<()> {
        let said = if text.is_empty() {
            "your status is empty".to_owned()
        } else {
            format!("your status is “{text}”")
        };
        let mut presence = self.authorised().await?.presence();
        let request = SetStatusRequest { text, invisible: false };
        presence.set_status(request).await.map_err(ClientError::from)?;
        self.screen.say(said);
        Ok(())
    }

    /// From the bare handset, without Dialtone.
    async fn text(&self, to: &str, text: &str) -> Result<()> {
        let number = match self.profile.book().get(to) {
            Some(contact) => contact.number.clone(),
            None => normalise(to, REGION).with_context(|| format!("{to} is not in the book"))?.to_string(),
        };
        self.handsets.send(&self.profile.number.to_string(), &number, text).await?;
        self.screen.say(format!("SMS sent to {to}"));
        Ok(())
    }

    fn policy(&self, channel: Channel) -> Policy {
        let if_offline = if self.sms_if_offline { IfOffline::Sms } else { IfOffline::Store };
        Policy { channel: channel.into(), if_offline: if_offline.into(), fallback_after_ms: 0 }
    }

    fn receiver(&self) -> Result<&(String, Recipient)> {
        self.with.as_ref().context("with whom? /to NAME or /to NUMBER")
    }

    async fn send(&mut self, body: &str, channel: Channel) -> Result<()> {
        let (_, recipient) = self.receiver()?.clone();
        self.session()?.send(recipient, text(body), self.policy(channel)).await?;
        Ok(())
    }

    async fn plan(&mut self, body: &str) -> Result<()> {
        let (name, recipient) = self.receiver()?.clone();
        let policy = Some(self.policy(Channel::Auto));
        let request = PlanSendRequest { to: Some(recipient), body: Some(text(body)), policy };
        let mut messages = self.authorised().await?.messages();
        let plan = messages.plan_send(request).await.map_err(ClientError::from)?.into_inner();
        self.screen.say(format!("to {name}: {}", words::plan(&plan)));
        Ok(())
    }

    fn talk_to(&mut self, whom: &str) -> Result<()> {
        let recipient = match self.profile.book().get(whom) {
            Some(contact) => to::number(contact.number.clone(), REGION),
            None if whom.contains(|c: char| c.is_ascii_digit()) => to::number(whom, REGION),
            None => anyhow::bail!("{whom} is not in the book, and no number either"),
        };
        self.screen.say(format!("talking with {whom}"));
        self.with = Some((whom.to_owned(), recipient));
        Ok(())
    }

    fn list(&self) -> Result<()> {
        if self.profile.book().is_empty() {
            self.screen.say("the book is empty; /contacts add NAME NUMBER");
        }
        for (name, contact) in self.profile.book() {
            let kind = if contact.user.is_some() { "user and friend" } else { "not a user: SMS" };
            self.screen.say(format!("{name:<12} {:<18} {kind}", contact.number));
        }
        Ok(())
    }

    /// Sends what changed, and only that.
    async fn sync(
        &mut self,
        added: Vec<String>,
        removed: Vec<String>,
    ) -> Result<Vec<(Verdict, String, Option<String>)>> {
        let typed = |texts: Vec<String>| {
            texts.into_iter().map(|text| TypedNumber { text, region: String::new() }).collect()
        };
        let base_token = self.profile.book_token();
        let request = SyncRequest {
            base_token,
            added: typed(added),
            removed: typed(removed),
            region: REGION.into(),
            more: false,
        };
        let mut contacts = self.authorised().await?.contacts();
        let answer = contacts.sync(request).await.map_err(ClientError::from)?.into_inner();
        let token = answer.next_token.clone();
        contacts.ack_token(AckTokenRequest { token: token.clone() }).await.map_err(ClientError::from)?;
        self.profile.synced(&token)?;
        let verdict = |entry: dialtone_proto::contacts::v1::EntryVerdict| {
            let verdict = entry.verdict();
            (verdict, entry.number, entry.user.map(|user| hex::encode(user.id)))
        };
        Ok(answer.verdicts.into_iter().map(verdict).collect())
    }

    async fn add(&mut self, name: &str, number: &str) -> Result<()> {
        // A phone whose server forgot its book sends the whole of it.
        let mut numbers = vec![number.to_owned()];
        if self.profile.book_token().is_empty() {
            numbers.extend(self.profile.book().values().map(|contact| contact.number.clone()));
        }
        let verdicts = self.sync(numbers, Vec::new()).await?;
        let Some((verdict, read, user)) = verdicts.into_iter().next() else { return Ok(()) };
        match verdict {
            Verdict::Matched => self.screen.say(format!("{name} is a user: you are friends")),
            Verdict::NotUser => self.screen.say(format!("{name} is not a user: reached by SMS")),
            other => {
                self.screen.say(words::not_kept(number, other));
                return Ok(());
            }
        }
        self.profile.set(name, Contact { number: read, user })
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        let contact = self.profile.book().get(name).with_context(|| format!("{name} is not in the book"))?;
        let number = contact.number.clone();
        self.sync(Vec::new(), vec![number]).await?;
        self.profile.remove(name)?;
        self.screen.say(format!("{name} is no longer in the book"));
        Ok(())
    }

    async fn watch(&mut self, names: &[String]) -> Result<()> {
        let mut peers = Vec::new();
        for name in names {
            let user = self.profile.book().get(name).and_then(|contact| contact.user.as_deref());
            let user = user.with_context(|| format!("{name} is no user in the book"))?;
            peers.push(UserId::from_slice(&hex::decode(user)?)?);
        }
        self.watch_version += 1;
        self.session()?.watch(self.watch_version, &peers).await?;
        self.screen.say(if names.is_empty() {
            "watching nobody".to_owned()
        } else {
            format!("watching {}", names.join(", "))
        });
        Ok(())
    }

    /// The name one knows a conversation by.
    fn name_of(&self, conversation: Option<&ConversationRef>, number: &str) -> String {
        let by_user = match conversation.and_then(|conversation| conversation.with.as_ref()) {
            Some(With::User(user)) => Some(hex::encode(&user.id)),
            _ => None,
        };
        let known =
            self.profile.book().iter().find(|(_, contact)| {
                contact.number == number || (by_user.is_some() && contact.user == by_user)
            });
        known.map_or_else(|| number.to_owned(), |(name, _)| name.clone())
    }

    fn event(&mut self, event: Event) {
        let line = match event {
            Event::Connected(_) if std::mem::take(&mut self.is_lost) => "online again".to_owned(),
            Event::Connected(_) => "online".to_owned(),
            // The session tries again by itself, and says so each time.
            Event::Disconnected(_) if std::mem::replace(&mut self.is_lost, true) => return,
            Event::Disconnected(_) => "connection lost, trying again".to_owned(),
            Event::Accepted(_, accepted, _) => match accepted.way() {
                Way::Sms => "✓ accepted, goes as SMS".to_owned(),
                _ => "✓ accepted".to_owned(),
            },
            Event::Refused(_, refused, _) => words::refused(&refused),
            Event::Progress(progress) => match words::fate(progress.fate.unwrap_or_default().kind()) {
                Some(words) => format!("  {words}"),
                None => return,
            },
            Event::Receipt(receipt) => match self.receipt(&receipt) {
                Some(line) => line,
                None => return,
            },
            Event::Message(message) => {
                let name = self.name_of(message.conversation.as_ref(), &message.from_number);
                self.read(&message);
                let body = message.body.unwrap_or_default();
                let by_sms = if message.by_sms { " (SMS)" } else { "" };
                format!("{name}{by_sms}: {}", String::from_utf8_lossy(&body.content))
            }
            Event::Gone(_) => "(a message was withdrawn)".to_owned(),
            Event::Presence(presence) => {
                return presence.changes.iter().for_each(|state| self.show_state(state));
            }
            Event::Contact(contact) => format!("{} joined", self.name_of(None, &contact.number)),
            Event::Ended(go_away) => words::ended(&go_away),
            Event::CaughtUp => return,
        };
        self.screen.say(line);
    }

    /// The server tells how far things are at every login; the owner hears what is new.
    fn receipt(&mut self, receipt: &Receipt) -> Option<String> {
        match self.profile.receipt(receipt) {
            Ok((_, true)) => Some("✓✓ read".to_owned()),
            Ok((true, false)) => Some("✓✓ delivered".to_owned()),
            Ok((false, false)) => None,
            Err(error) => Some(format!("! {error:#}")),
        }
    }

    /// What is on the screen counts as read.
    fn read(&self, message: &dialtone_proto::offline::v1::Message) {
        if let (Some((session, _)), Some(conversation)) = (&self.session, message.conversation.clone()) {
            let (session, idx) = (session.clone(), message.idx);
            self.chassis.tasks.spawn("phone read", async move {
                // A session that closed meanwhile tells nobody: the next one may.
                let _closed = session.read(conversation, idx).await;
            });
        }
    }

    fn show_state(&self, state: &PeerState) {
        let user = state.user.clone().unwrap_or_default();
        let conversation = ConversationRef { with: Some(With::User(user)) };
        let name = self.name_of(Some(&conversation), "somebody");
        let availability = match state.availability() {
            Availability::Online => "online",
            Availability::Away => "away",
            _ => "offline",
        };
        let typing = if state.typing { ", typing …" } else { "" };
        let status = if state.status.is_empty() { String::new() } else { format!(" “{}”", state.status) };
        self.screen.say(format!("· {name} is {availability}{typing}{status}"));
    }
}

fn go_online(
    chassis: &Chassis,
    api: &Api,
    credentials: &Credentials,
    profile: &Profile,
) -> Result<(Session, mpsc::Receiver<Event>)> {
    Ok(Session::open(chassis, api.clone(), credentials.clone(), profile.journal(), Options::default())?)
}
