//! A phone of the tour: a number, a login, and a session while it is online.

use anyhow::{Context, Result, bail, ensure};
use dialtone_chassis::Chassis;
use dialtone_client::{
    Api, CodeOutcome, Credentials, Event, Options, PendingFlow, SendId, Session, SharedJournal, text,
};
use dialtone_proto::routing::v1::Accepted;
use dialtone_proto::types::v1::{Policy, Recipient};
use dialtone_vocab::UserId;
use tokio::sync::mpsc;

use super::teller::say;
use super::world::PATIENCE;
use crate::handsets::{Handsets, code_in};

pub(super) struct Phone {
    pub(super) name: &'static str,
    pub(super) number: String,
    pub(super) credentials: Option<Credentials>,
    /// What a sync is based on.
    pub(super) book_token: Vec<u8>,
    journal: SharedJournal,
    online: Option<Online>,
}

pub(super) struct Online {
    pub(super) session: Session,
    pub(super) events: mpsc::Receiver<Event>,
    /// Everything that came, in order.
    pub(super) seen: Vec<Event>,
}

impl Phone {
    pub(super) fn new(name: &'static str, number: String) -> Self {
        let journal = SharedJournal::default();
        Self { name, number, credentials: None, book_token: Vec::new(), journal, online: None }
    }

    pub(super) fn credentials(&self) -> Result<&Credentials> {
        self.credentials.as_ref().with_context(|| format!("{} is not registered", self.name))
    }

    pub(super) fn user(&self) -> Result<UserId> {
        Ok(self.credentials()?.user)
    }

    /// The API with this phone's token.
    pub(super) fn api(&self, api: &Api) -> Result<Api> {
        Ok(api.with_token(&self.credentials()?.tokens.access))
    }

    /// Registers by the MO flow: text, code by SMS, a wrong code first if asked for, then the right one.
    pub(super) async fn register(
        &mut self,
        chassis: &Chassis,
        api: &Api,
        handsets: &Handsets,
        wrong: bool,
    ) -> Result<()> {
        let mut flow = PendingFlow::register(api, &self.number).await?;
        let (service, intent) = flow.start_mo().await?;
        let before = handsets.last_id(&self.number).await?;
        handsets.send(&self.number, &service, &intent).await?;
        say(format!("{} texts \"{intent}\" from {} to {service}", self.name, self.number));
        let sms =
            handsets.wait(chassis, &self.number, before, PATIENCE).await.context("no code came by SMS")?;
        let code = code_in(&sms.text).context("the SMS has no code in it")?;
        say(format!("← SMS \"{}\"", sms.text));
        if wrong {
            let other = if code == "000000" { "000001" } else { "000000" };
            match flow.check_code(other).await? {
                CodeOutcome::NotPassed(left) => say(format!("a wrong code is refused: {left} tries left")),
                CodeOutcome::Passed(_) => bail!("a wrong code passed"),
            }
        }
        match flow.check_code(&code).await? {
            CodeOutcome::Passed(number) => ensure!(number == self.number, "another number was proven"),
            CodeOutcome::NotPassed(_) => bail!("the right code was refused"),
        }
        let nickname = if self.name == "Anna" { "" } else { self.name };
        self.credentials = Some(flow.complete(chassis, "tour phone", nickname).await?);
        let as_whom =
            if nickname.is_empty() { "without a nickname".to_owned() } else { format!("as {nickname:?}") };
        say(format!("{} is registered {as_whom}", self.name));
        Ok(())
    }

    /// Logs in by the device's key.
    pub(super) async fn log_in(&mut self, api: &Api) -> Result<()> {
        let known = self.credentials()?;
        let key = known.key.clone().context("no device key")?;
        self.credentials = Some(Credentials::by_key(api, known.number, known.device, key).await?);
        Ok(())
    }

    /// Opens the session and waits until it has caught up.
    pub(super) async fn go_online(&mut self, chassis: &Chassis, api: &Api) -> Result<()> {
        let credentials = self.credentials()?.clone();
        let (session, events) =
            Session::open(chassis, api.clone(), credentials, self.journal.clone(), Options::default())?;
        self.online = Some(Online { session, events, seen: Vec::new() });
        self.wait(chassis, "catching up", |event| matches!(event, Event::CaughtUp)).await?;
        Ok(())
    }

    /// Closes the session.
    pub(super) async fn go_offline(&mut self) {
        if let Some(online) = self.online.take() {
            online.session.close().await;
        }
    }

    pub(super) fn online(&mut self) -> Result<&mut Online> {
        let name = self.name;
        self.online.as_mut().with_context(|| format!("{name} is not online"))
    }

    /// Waits for an event that has not been waited for before.
    pub(super) async fn wait(
        &mut self,
        chassis: &Chassis,
        what: &str,
        is_it: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let name = self.name;
        let online = self.online()?;
        if let Some(place) = online.seen.iter().position(&is_it) {
            return Ok(online.seen.remove(place));
        }
        let waiting = async {
            while let Some(event) = online.events.recv().await {
                if is_it(&event) {
                    return Some(event);
                }
                online.seen.push(event);
            }
            None
        };
        let event = chassis.clock.timeout(PATIENCE, waiting).await;
        let event = event.ok().with_context(|| format!("{name} waited in vain for {what}"))?;
        event.with_context(|| format!("{name}'s session ended while waiting for {what}"))
    }

    /// Takes what has come so far, so that later waits see only what comes later.
    pub(super) fn settle(&mut self) -> Result<Vec<Event>> {
        let online = self.online()?;
        while let Ok(event) = online.events.try_recv() {
            online.seen.push(event);
        }
        Ok(std::mem::take(&mut online.seen))
    }

    /// Sends and waits until it is accepted.
    pub(super) async fn send(
        &mut self,
        chassis: &Chassis,
        to: Recipient,
        body: &str,
        policy: Policy,
    ) -> Result<(SendId, Accepted)> {
        let id = self.online()?.session.send(to, text(body), policy).await?;
        let answer = self.wait(
            chassis,
            "an answer to a send",
            |event| matches!(event, Event::Accepted(of, ..) | Event::Refused(of, ..) if *of == id),
        );
        match answer.await? {
            Event::Accepted(_, accepted, _) => Ok((id, accepted)),
            Event::Refused(_, refused, _) => bail!("the send was refused: {}", refused.reason),
            _ => bail!("neither accepted nor refused"),
        }
    }

    /// Waits for the message with this text.
    pub(super) async fn receives(
        &mut self,
        chassis: &Chassis,
        body: &str,
    ) -> Result<dialtone_proto::offline::v1::Message> {
        let is_it =
            |event: &Event| matches!(event, Event::Message(message) if content(message) == body.as_bytes());
        match self.wait(chassis, &format!("the message {body:?}"), is_it).await? {
            Event::Message(message) => Ok(message),
            _ => bail!("not a message"),
        }
    }
}

/// The content of a message.
pub(super) fn content(message: &dialtone_proto::offline::v1::Message) -> &[u8] {
    message.body.as_ref().map_or(&[], |body| &body.content)
}
