//! One connection to the centre: bound, then served. Garbage ends it and nothing else.

use std::collections::BTreeMap;

use dialtone_chassis::Chassis;
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use rusmpp::pdus::{BindTransceiverResp, SubmitSmResp};
use rusmpp::tokio_codec::CommandCodec;
use rusmpp::types::COctetString;
use rusmpp::{Command, CommandStatus, Pdu};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::handsets::{Network, Outgoing};
use crate::limits::{BIND_WITHIN, DELIVER_WITHIN, SILENT_MOST, WINDOW};
use crate::pdu;

struct Bind<W> {
    chassis: Chassis,
    network: Network,
    frames: Framed<W, CommandCodec>,
    sequence: u32,
    /// Delivers without an answer.
    window: BTreeMap<u32, (Outgoing, Instant)>,
    heard: Instant,
}

/// Serves a connection until it ends; what it had not answered goes out again.
pub(super) async fn serve<W: AsyncRead + AsyncWrite + Unpin + Send>(
    chassis: Chassis,
    network: Network,
    password: String,
    wire: W,
) {
    let heard = chassis.clock.instant();
    let frames = Framed::new(wire, CommandCodec::new());
    let mut bind = Bind { chassis, network, frames, sequence: 0, window: BTreeMap::new(), heard };
    let why = match bind.accept(&password).await {
        Ok(()) => bind.run().await,
        Err(why) => why,
    };
    tracing::debug!(why, "a connection to the SMS centre ended");
    for (_, (outgoing, _)) in bind.window.into_iter().rev() {
        bind.network.back(outgoing).await;
    }
}

impl<W: AsyncRead + AsyncWrite + Unpin + Send> Bind<W> {
    async fn accept(&mut self, password: &str) -> Result<(), &'static str> {
        let clock = self.chassis.clock.clone();
        let first = clock.timeout(BIND_WITHIN, self.frames.next()).await.map_err(|_| "no bind in time")?;
        let Some(Ok(first)) = first else { return Err("no bind") };
        let sequence = first.sequence_number();
        let Some(Pdu::BindTransceiver(request)) = first.pdu() else {
            let _closing = self.say(CommandStatus::EsmeRinvbndsts, sequence, Pdu::GenericNack).await;
            return Err("something else than a bind came first");
        };
        let right = request.password.as_str() == password;
        let status = if right { CommandStatus::EsmeRok } else { CommandStatus::EsmeRbindfail };
        let system_id = COctetString::from_string("dialtone-centre".to_owned()).unwrap_or_default();
        let answer = BindTransceiverResp::builder().system_id(system_id).build();
        self.say(status, sequence, answer).await?;
        if right { Ok(()) } else { Err("wrong password") }
    }

    async fn say(
        &mut self,
        status: CommandStatus,
        sequence: u32,
        pdu: impl Into<Pdu>,
    ) -> Result<(), &'static str> {
        self.frames.send(Command::new(status, sequence, pdu)).await.map_err(|_| "connection lost")
    }

    async fn run(&mut self) -> &'static str {
        let (clock, network, stop) =
            (self.chassis.clock.clone(), self.network.clone(), self.chassis.tasks.stop_token());
        let mut next: BoxFuture<'static, Option<Outgoing>> = Box::pin(async move { network.next().await });
        loop {
            let outcome = tokio::select! {
                biased;
                () = stop.cancelled() => Err("stopping"),
                frame = self.frames.next() => match frame {
                    Some(Ok(command)) => self.frame(command).await,
                    Some(Err(_)) => {
                        let _closing = self.say(CommandStatus::EsmeRinvcmdid, 0, Pdu::GenericNack).await;
                        Err("garbage")
                    }
                    None => Err("closed"),
                },
                outgoing = &mut next, if self.window.len() < WINDOW => {
                    let network = self.network.clone();
                    next = Box::pin(async move { network.next().await });
                    match outgoing {
                        Some(outgoing) => self.deliver(outgoing).await,
                        None => Err("stopping"),
                    }
                },
                () = clock.sleep(DELIVER_WITHIN) => self.look_after().await,
            };
            if let Err(why) = outcome {
                return why;
            }
        }
    }

    async fn deliver(&mut self, outgoing: Outgoing) -> Result<(), &'static str> {
        self.sequence = if self.sequence >= 0x7fff_ffff { 1 } else { self.sequence + 1 };
        let deliver = pdu::deliver(&outgoing.short, outgoing.receipt);
        self.window.insert(self.sequence, (outgoing, self.chassis.clock.instant()));
        self.say(CommandStatus::EsmeRok, self.sequence, deliver).await
    }

    async fn frame(&mut self, command: Command) -> Result<(), &'static str> {
        self.heard = self.chassis.clock.instant();
        let sequence = command.sequence_number();
        match command.pdu() {
            Some(Pdu::SubmitSm(submit)) => {
                let (status, id) = match self.network.submit(pdu::read_submit(submit)).await {
                    Some(id) => (CommandStatus::EsmeRok, id),
                    None => (CommandStatus::EsmeRsubmitfail, String::new()),
                };
                let id = COctetString::from_string(id).unwrap_or_default();
                self.say(status, sequence, SubmitSmResp::builder().message_id(id).build()).await
            }
            Some(Pdu::DeliverSmResp(_)) => {
                let answered = self.window.remove(&sequence);
                if let Some((outgoing, _)) =
                    answered.filter(|_| command.status() == CommandStatus::EsmeRxTAppn)
                {
                    self.chassis.clock.sleep(std::time::Duration::from_millis(200)).await;
                    self.network.back(outgoing).await;
                }
                Ok(())
            }
            Some(Pdu::EnquireLink) => self.say(CommandStatus::EsmeRok, sequence, Pdu::EnquireLinkResp).await,
            Some(Pdu::EnquireLinkResp | Pdu::GenericNack) => Ok(()),
            Some(Pdu::Unbind) => {
                self.say(CommandStatus::EsmeRok, sequence, Pdu::UnbindResp).await?;
                Err("unbound")
            }
            _ => self.say(CommandStatus::EsmeRinvcmdid, sequence, Pdu::GenericNack).await,
        }
    }

    /// Delivers that were never answered go out again; a silent bind ends.
    async fn look_after(&mut self) -> Result<(), &'static str> {
        let now = self.chassis.clock.instant();
        if now - self.heard >= SILENT_MOST {
            return Err("silent");
        }
        let late: Vec<u32> = self
            .window
            .iter()
            .filter(|(_, (_, since))| now - *since >= DELIVER_WITHIN)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in late {
            if let Some((outgoing, _)) = self.window.remove(&sequence) {
                self.network.back(outgoing).await;
            }
        }
        Ok(())
    }
}
