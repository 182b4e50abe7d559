//! The simulated network: handsets with their SMS, and what waits for whoever is bound.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dialtone_chassis::{Chassis, Clock, Error};
use dialtone_proto::sms::sim::v1::Sms;
use dialtone_vocab::Reason;
use rusmpp::CommandStatus;
use tokio::sync::{mpsc, oneshot};

use crate::limits::{CENTRE_MO, COMMANDS, HANDSET_PARTS, HANDSET_SMS, HANDSETS, THROTTLED_WITHIN};
use crate::parts::{Parts, Put};
use crate::pdu::{Short, receipt_text};
use crate::segment::{Encoding, segment, text};

/// Something for whoever is bound: a part of a text, or a receipt.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) short: Short,
    pub(super) receipt: bool,
}

enum Command {
    Submit(Short, oneshot::Sender<Result<String, CommandStatus>>),
    Send { from: String, to: String, text: String, done: oneshot::Sender<Result<(), Error>> },
    List(String, oneshot::Sender<Vec<Sms>>),
    Watch(String, u64, oneshot::Sender<mpsc::Receiver<Sms>>),
    Power(String, bool, oneshot::Sender<()>),
    Next(oneshot::Sender<Outgoing>),
    Back(Vec<Outgoing>),
}

/// The network. Cheap to clone.
#[derive(Clone)]
pub(super) struct Network(mpsc::Sender<Command>);

struct Handset {
    off: bool,
    sms: VecDeque<Sms>,
    last_id: u64,
    watchers: Vec<mpsc::Sender<Sms>>,
    parts: Parts<()>,
    /// What came while it was off; with the id for the receipt, if an operator submitted it.
    held: Vec<(Option<String>, Short)>,
}

struct State {
    chassis: Chassis,
    service_numbers: BTreeSet<String>,
    handsets: BTreeMap<String, Handset>,
    outgoing: VecDeque<Outgoing>,
    waiting: VecDeque<oneshot::Sender<Outgoing>>,
    last_message: u64,
    run: u64,
}

impl Network {
    pub(super) fn start(chassis: &Chassis, service_numbers: Vec<String>) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let state = State {
            chassis: chassis.clone(),
            service_numbers: service_numbers.into_iter().collect(),
            handsets: BTreeMap::new(),
            outgoing: VecDeque::new(),
            waiting: VecDeque::new(),
            last_message: 0,
            run: chassis.rng.u64(),
        };
        chassis.tasks.spawn("centre network", state.run(commands));
        Self(sender)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.0.send(command(sender)).await.ok()?;
        answer.await.ok()
    }

    /// A part for a handset; the centre's id for it, or why it is not taken.
    pub(super) async fn submit(&self, short: Short) -> Result<String, CommandStatus> {
        self.ask(|answer| Command::Submit(short, answer)).await.unwrap_or(Err(CommandStatus::EsmeRsyserr))
    }

    /// A handset texts.
    pub(super) async fn send(&self, from: String, to: String, text: String) -> Result<(), Error> {
        let sent = self.ask(|done| Command::Send { from, to, text, done }).await;
        sent.unwrap_or_else(|| Err(busy("the centre is stopping")))
    }

    pub(super) async fn list(&self, number: String) -> Vec<Sms> {
        self.ask(|answer| Command::List(number, answer)).await.unwrap_or_default()
    }

    pub(super) async fn watch(&self, number: String, after: u64) -> Option<mpsc::Receiver<Sms>> {
        self.ask(|answer| Command::Watch(number, after, answer)).await
    }

    pub(super) async fn power(&self, number: String, on: bool) {
        self.ask(|done| Command::Power(number, on, done)).await;
    }

    /// Where the next thing for whoever is bound will come. Whoever goes without it closes this and gives back what
    /// is in it.
    pub(super) async fn next(&self) -> Option<oneshot::Receiver<Outgoing>> {
        let (sender, next) = oneshot::channel();
        self.0.send(Command::Next(sender)).await.ok()?;
        Some(next)
    }

    /// They were not taken: they go out again, before everything else.
    pub(super) async fn back(&self, outgoing: Vec<Outgoing>) {
        let _stopping = self.0.send(Command::Back(outgoing)).await;
    }
}

impl State {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Submit(short, answer) => {
                let id = self.submit(short);
                let _bind_lost = answer.send(id);
            }
            Command::Send { from, to, text, done } => {
                let outcome = self.send(&from, &to, &text);
                let _caller_gone = done.send(outcome);
            }
            Command::List(number, answer) => {
                let sms = self.handsets.get(&number).map(|handset| handset.sms.iter().cloned().collect());
                let _caller_gone = answer.send(sms.unwrap_or_default());
            }
            Command::Watch(number, after, answer) => self.watch(&number, after, answer),
            Command::Power(number, on, done) => {
                self.power(&number, on);
                let _caller_gone = done.send(());
            }
            Command::Next(asker) => {
                self.waiting.push_back(asker);
                self.hand_out();
            }
            Command::Back(outgoing) => {
                outgoing.into_iter().rev().for_each(|outgoing| self.outgoing.push_front(outgoing));
                self.hand_out();
            }
        }
    }

    /// Gives what waits to whoever is bound, in order.
    fn hand_out(&mut self) {
        while !self.outgoing.is_empty()
            && let Some(asker) = self.waiting.pop_front()
            && let Some(next) = self.outgoing.pop_front()
        {
            if let Err(back) = asker.send(next) {
                self.outgoing.push_front(back);
            }
        }
    }

    fn handset(&mut self, number: &str) -> Option<&mut Handset> {
        if !self.handsets.contains_key(number) && self.handsets.len() >= HANDSETS {
            return None;
        }
        Some(self.handsets.entry(number.to_owned()).or_insert_with(Handset::new))
    }

    fn submit(&mut self, short: Short) -> Result<String, CommandStatus> {
        // Each is followed by a receipt.
        if self.outgoing.len() >= CENTRE_MO {
            return Err(CommandStatus::EsmeRmsgqful);
        }
        self.last_message += 1;
        let id = format!("{:08x}{:x}", self.run & 0xffff_ffff, self.last_message);
        let handset = self.handset(&short.to).ok_or(CommandStatus::EsmeRsubmitfail)?;
        if !handset.has_room(1) {
            return Err(CommandStatus::EsmeRmsgqful);
        }
        self.arrive(Some(id.clone()), short);
        self.hand_out();
        Ok(id)
    }

    /// A part reaches its handset, or waits until that is on; the text is shown when it is whole.
    fn arrive(&mut self, id: Option<String>, short: Short) {
        let Some(handset) = self.handsets.get_mut(&short.to) else { return };
        if handset.off {
            return handset.held.push((id, short));
        }
        if let Some(id) = id {
            self.outgoing.push_back(receipt(&id, &short));
        }
        handset.take(short, &self.chassis.clock);
    }

    fn send(&mut self, from: &str, to: &str, content: &str) -> Result<(), Error> {
        let too_long = || Error::new(Reason::TooLarge, "at most ten parts");
        let segments = segment(content).ok_or_else(too_long)?;
        if self.outgoing.len() + segments.parts.len() > CENTRE_MO {
            return Err(busy("too much waits for a bind"));
        }
        self.handset(from).ok_or_else(|| busy("too many handsets"))?;
        let to_phone = !self.service_numbers.contains(to);
        if to_phone
            && !self.handset(to).ok_or_else(|| busy("too many handsets"))?.has_room(segments.parts.len())
        {
            return Err(busy("too much waits for a phone that is off"));
        }
        self.last_message += 1;
        let reference = u16::from(self.last_message.to_be_bytes()[7]);
        let total = u8::try_from(segments.parts.len()).map_err(|_| too_long())?;
        for (place, octets) in (1..=total).zip(segments.parts) {
            let part = (total > 1).then_some((reference, total, place));
            let short =
                Short { from: from.to_owned(), to: to.to_owned(), encoding: segments.encoding, part, octets };
            if to_phone {
                self.arrive(None, short);
            } else {
                self.outgoing.push_back(Outgoing { short, receipt: false });
            }
        }
        self.hand_out();
        Ok(())
    }

    fn watch(&mut self, number: &str, after: u64, answer: oneshot::Sender<mpsc::Receiver<Sms>>) {
        let Some(handset) = self.handset(number) else { return };
        // A watcher that is slower is dropped and must look again.
        let (sender, receiver) = mpsc::channel(HANDSET_SMS);
        let waiting: Vec<_> = handset.sms.iter().filter(|sms| sms.id > after).cloned().collect();
        if waiting.into_iter().all(|sms| sender.try_send(sms).is_ok()) {
            handset.watchers.retain(|watcher| !watcher.is_closed());
            handset.watchers.push(sender);
        }
        let _caller_gone = answer.send(receiver);
    }

    fn power(&mut self, number: &str, on: bool) {
        let Some(handset) = self.handset(number) else { return };
        handset.off = !on;
        if on {
            for (id, short) in std::mem::take(&mut handset.held) {
                self.arrive(id, short);
            }
            self.hand_out();
        }
    }
}

/// What an operator hears when a part has arrived.
fn receipt(id: &str, short: &Short) -> Outgoing {
    let short = Short {
        from: short.to.clone(),
        to: short.from.clone(),
        encoding: Encoding::Gsm7,
        part: None,
        octets: receipt_text(id, true).into_bytes(),
    };
    Outgoing { short, receipt: true }
}

fn busy(why: &'static str) -> Error {
    Error::new(Reason::Busy, why)
}

impl Handset {
    fn new() -> Self {
        Self {
            off: false,
            sms: VecDeque::new(),
            last_id: 0,
            watchers: Vec::new(),
            parts: Parts::new(HANDSET_PARTS, HANDSET_PARTS, THROTTLED_WITHIN),
            held: Vec::new(),
        }
    }

    /// Whether so much more may wait for it, if it is off.
    fn has_room(&self, parts: usize) -> bool {
        !self.off || self.held.len() + parts <= HANDSET_SMS
    }

    /// Takes a part; the text is shown when all are there. A part for which there is no room is lost.
    fn take(&mut self, short: Short, clock: &Clock) {
        let (from, to, at_ms) = (short.from.clone(), short.to.clone(), clock.now().0);
        let Some(place) = short.part else {
            let shown = text(short.encoding, &short.octets);
            return self.show(from, to, shown, 1, at_ms);
        };
        let now = clock.instant();
        self.parts.expire(now);
        if let Put::Whole(shown, _) = self.parts.put(short, place, (), now) {
            self.show(from, to, shown, place.1.into(), at_ms);
        }
    }

    fn show(&mut self, from: String, to: String, text: String, parts: u32, at_ms: u64) {
        self.last_id += 1;
        let sms = Sms { id: self.last_id, from, to, text, parts, at_ms };
        self.watchers.retain(|watcher| watcher.try_send(sms.clone()).is_ok());
        self.sms.push_back(sms);
        if self.sms.len() > HANDSET_SMS {
            self.sms.pop_front();
        }
    }
}
