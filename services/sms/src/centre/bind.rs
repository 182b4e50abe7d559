//! One connection to the centre: bound, then served. Garbage ends it and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;

use dialtone_chassis::Chassis;
use futures::StreamExt;
use rusmpp::pdus::{BindTransceiverResp, SubmitSmResp};
use rusmpp::types::COctetString;
use rusmpp::{Command, CommandId, CommandStatus, Pdu};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::codec::Framed;

use super::handsets::{Network, Outgoing};
use crate::codec::{Codec, Frame, Garbage, say};
use crate::limits::{AGAIN_AFTER, BIND_WITHIN, DELIVER_WITHIN, LOOK_EVERY, SILENT_MOST, WINDOW};
use crate::pdu;

struct Bind<W> {
    chassis: Chassis,
    network: Network,
    frames: Framed<W, Codec>,
    sequence: u32,
    /// Delivers without an answer.
    window: BTreeMap<u32, (Outgoing, Instant)>,
    /// Delivers that were refused for now, and when they are due.
    refused: VecDeque<(Instant, Outgoing)>,
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
    let frames = Framed::new(wire, Codec::default());
    let (window, refused) = (BTreeMap::new(), VecDeque::new());
    let mut bind = Bind { chassis, network, frames, sequence: 0, window, refused, heard };
    let why = match bind.accept(&password).await {
        Ok(()) => bind.run().await,
        Err(why) => why,
    };
    tracing::debug!(why, "a connection to the SMS centre ended");
    let refused = bind.refused.into_iter().map(|(_, outgoing)| outgoing);
    let back = refused.chain(bind.window.into_values().map(|(outgoing, _)| outgoing));
    bind.network.back(back.collect()).await;
}

impl<W: AsyncRead + AsyncWrite + Unpin + Send> Bind<W> {
    async fn accept(&mut self, password: &str) -> Result<(), &'static str> {
        let clock = self.chassis.clock.clone();
        let first = clock.timeout(BIND_WITHIN, self.frames.next()).await.map_err(|_| "no bind in time")?;
        let first = match first.ok_or("closed")? {
            Ok(Frame::Command(first)) => first,
            Ok(Frame::Garbled { sequence, .. }) | Err(Garbage::Length { sequence }) => {
                self.nack(CommandStatus::EsmeRinvcmdlen, sequence).await?;
                return Err("garbage");
            }
            Err(Garbage::Io(_)) => return Err("connection lost"),
        };
        self.heard = self.chassis.clock.instant();
        let sequence = first.sequence_number();
        let Some(Pdu::BindTransceiver(request)) = first.pdu() else {
            self.nack(CommandStatus::EsmeRinvbndsts, sequence).await?;
            return Err("something else than a bind came first");
        };
        let right = request.password.as_str() == password;
        let status = if right { CommandStatus::EsmeRok } else { CommandStatus::EsmeRinvpaswd };
        self.say(status, sequence, bind_answer()).await?;
        if right { Ok(()) } else { Err("wrong password") }
    }

    async fn say(
        &mut self,
        status: CommandStatus,
        sequence: u32,
        pdu: impl Into<Pdu>,
    ) -> Result<(), &'static str> {
        say(&self.chassis.clock, &mut self.frames, Command::new(status, sequence, pdu)).await
    }

    async fn nack(&mut self, status: CommandStatus, sequence: u32) -> Result<(), &'static str> {
        self.say(status, sequence, Pdu::GenericNack).await
    }

    /// Until something ends it. What was on its way here from the network goes back.
    async fn run(&mut self) -> &'static str {
        let Some(mut next) = self.network.next().await else { return "stopping" };
        let Err(why) = self.take_turns(&mut next).await;
        next.close();
        if let Ok(outgoing) = next.try_recv() {
            self.network.back(vec![outgoing]).await;
        }
        why
    }

    async fn take_turns(
        &mut self,
        next: &mut oneshot::Receiver<Outgoing>,
    ) -> Result<Infallible, &'static str> {
        let (clock, stop) = (self.chassis.clock.clone(), self.chassis.tasks.stop_token());
        let mut look_at = clock.instant() + LOOK_EVERY;
        loop {
            let again_at = self.refused.front().map(|(due, _)| *due);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err("stopping"),
                () = clock.sleep_until(again_at.unwrap_or(look_at)), if again_at.is_some() => {
                    let due = self.refused.iter().take_while(|(due, _)| *due <= clock.instant()).count();
                    self.network.back(self.refused.drain(..due).map(|(_, outgoing)| outgoing).collect()).await;
                }
                () = clock.sleep_until(look_at) => {
                    look_at = clock.instant() + LOOK_EVERY;
                    self.look_after().await?;
                }
                frame = self.frames.next() => match frame {
                    Some(Ok(Frame::Command(command))) => self.command(*command).await?,
                    Some(Ok(Frame::Garbled { sequence, .. })) => {
                        self.nack(CommandStatus::EsmeRinvcmdlen, sequence).await?;
                    }
                    Some(Err(Garbage::Length { sequence })) => {
                        self.nack(CommandStatus::EsmeRinvcmdlen, sequence).await?;
                        return Err("garbage");
                    }
                    Some(Err(Garbage::Io(_))) => return Err("connection lost"),
                    None => return Err("closed"),
                },
                outgoing = &mut *next, if self.window.len() + self.refused.len() < WINDOW => {
                    let outgoing = outgoing.map_err(|_| "stopping")?;
                    *next = self.network.next().await.ok_or("stopping")?;
                    self.deliver(outgoing).await?;
                },
            }
        }
    }

    async fn deliver(&mut self, outgoing: Outgoing) -> Result<(), &'static str> {
        self.sequence = if self.sequence >= 0x7fff_ffff { 1 } else { self.sequence + 1 };
        let deliver = pdu::deliver(&outgoing.short, outgoing.receipt);
        self.window.insert(self.sequence, (outgoing, self.chassis.clock.instant()));
        self.say(CommandStatus::EsmeRok, self.sequence, deliver).await
    }

    async fn command(&mut self, command: Command) -> Result<(), &'static str> {
        self.heard = self.chassis.clock.instant();
        let sequence = command.sequence_number();
        match (command.id(), command.pdu()) {
            (_, Some(Pdu::SubmitSm(submit))) => {
                let (status, id) = match self.network.submit(pdu::read_submit(submit)).await {
                    Ok(id) => (CommandStatus::EsmeRok, id),
                    Err(status) => (status, String::new()),
                };
                let id = COctetString::from_string(id).unwrap_or_default();
                self.say(status, sequence, SubmitSmResp::builder().message_id(id).build()).await
            }
            // With a body or without.
            (CommandId::DeliverSmResp, _) => {
                let answered = self.window.remove(&sequence);
                if let Some((outgoing, _)) =
                    answered.filter(|_| command.status() == CommandStatus::EsmeRxTAppn)
                {
                    self.refused.push_back((self.heard + AGAIN_AFTER, outgoing));
                }
                Ok(())
            }
            (_, Some(Pdu::EnquireLink)) => {
                self.say(CommandStatus::EsmeRok, sequence, Pdu::EnquireLinkResp).await
            }
            (CommandId::EnquireLinkResp | CommandId::GenericNack, _) => Ok(()),
            (_, Some(Pdu::BindTransceiver(_))) => {
                self.say(CommandStatus::EsmeRalybnd, sequence, bind_answer()).await
            }
            (_, Some(Pdu::Unbind)) => {
                self.say(CommandStatus::EsmeRok, sequence, Pdu::UnbindResp).await?;
                Err("unbound")
            }
            _ => self.nack(CommandStatus::EsmeRinvcmdid, sequence).await,
        }
    }

    /// Delivers that were never answered go out again; a silent bind ends.
    async fn look_after(&mut self) -> Result<(), &'static str> {
        let now = self.chassis.clock.instant();
        if now - self.heard >= SILENT_MOST {
            return Err("silent");
        }
        let late = |(_, since): &(Outgoing, Instant)| now - *since >= DELIVER_WITHIN;
        let late = self.window.extract_if(.., |_, waiting| late(waiting));
        let late: Vec<_> = late.map(|(_, (outgoing, _))| outgoing).collect();
        if !late.is_empty() {
            self.network.back(late).await;
        }
        Ok(())
    }
}

fn bind_answer() -> BindTransceiverResp {
    let system_id = COctetString::from_string("dialtone-centre".to_owned()).unwrap_or_default();
    BindTransceiverResp::builder().system_id(system_id).build()
}
