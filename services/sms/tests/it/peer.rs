//! The other side of an SMPP connection, by hand: it says what a test wants, right or wrong.

use std::collections::VecDeque;
use std::time::Duration;

use dialtone_chassis::{Chassis, Clock};
use futures::{SinkExt, StreamExt};
use rusmpp::pdus::{BindTransceiver, BindTransceiverResp, DeliverSm, SubmitSm, SubmitSmResp};
use rusmpp::tokio_codec::CommandCodec;
use rusmpp::types::{COctetString, OctetString};
use rusmpp::values::{DataCoding, EsmClass, GsmFeatures, MessageType, Npi, Ton};
use rusmpp::{Command, CommandId, CommandStatus, Pdu};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::codec::Framed;

pub(crate) use rusmpp::CommandStatus as Status;

/// Longer than anything takes: who waits longer waits in vain, and the test fails.
pub(crate) const IN_VAIN: Duration = Duration::from_secs(7_200);

/// One connection.
pub(crate) struct Peer {
    clock: Clock,
    frames: Framed<DuplexStream, CommandCodec>,
    /// Came while something else was waited for.
    aside: VecDeque<Command>,
    sequence: u32,
}

pub(crate) fn c_octets<const MAX: usize>(text: &str) -> COctetString<1, MAX> {
    COctetString::from_string(text.to_owned()).expect("fits")
}

/// An SMS from a phone, GSM 7-bit unless it says otherwise.
pub(crate) fn mo(from: &str, to: &str, octets: &[u8]) -> DeliverSm {
    DeliverSm::builder()
        .source_addr_ton(Ton::International)
        .source_addr_npi(Npi::Isdn)
        .source_addr(c_octets(from.trim_start_matches('+')))
        .dest_addr_ton(Ton::International)
        .dest_addr_npi(Npi::Isdn)
        .destination_addr(c_octets(to.trim_start_matches('+')))
        .short_message(OctetString::from_slice(octets).expect("fits"))
        .build()
}

/// One of several parts, in UCS-2, with whatever header.
pub(crate) fn mo_part(from: &str, to: &str, header: &[u8], octets: &[u8]) -> DeliverSm {
    let mut deliver = mo(from, to, &[header, octets].concat());
    deliver.data_coding = DataCoding::Ucs2;
    deliver.esm_class = EsmClass { gsm_features: GsmFeatures::UdhiIndicator, ..EsmClass::default() };
    deliver
}

/// A delivery receipt.
pub(crate) fn receipt(text: &str) -> DeliverSm {
    let mut deliver = mo("+15550001", "+18005550101", text.as_bytes());
    deliver.esm_class.message_type = MessageType::ShortMessageContainsMCDeliveryReceipt;
    deliver
}

pub(crate) fn bind_with(system_id: &str, password: &str) -> BindTransceiver {
    BindTransceiver::builder().system_id(c_octets(system_id)).password(c_octets(password)).build()
}

/// A PDU as it goes over the wire, whatever its length says.
pub(crate) fn raw_pdu(length: u32, id: u32, status: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    [&[length, id, status, sequence].map(u32::to_be_bytes).concat()[..], body].concat()
}

impl Peer {
    pub(crate) fn new(wire: DuplexStream) -> Self {
        let clock = Chassis::for_tests(0).clock;
        Self { clock, frames: Framed::new(wire, CommandCodec::new()), aside: VecDeque::new(), sequence: 0 }
    }

    /// What comes next; `None` when the other side has closed.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        if let Some(command) = self.aside.pop_front() {
            return Some(command);
        }
        self.read().await
    }

    async fn read(&mut self) -> Option<Command> {
        let read =
            self.clock.timeout(IN_VAIN, self.frames.next()).await.expect("something comes, or the end");
        read.map(|read| read.expect("the other side keeps to the protocol"))
    }

    /// Answers signs of life and keeps everything else for later, without end.
    pub(crate) async fn idle(&mut self) {
        while let Some(command) = self.frames.next().await {
            self.put_aside(command.expect("the other side keeps to the protocol")).await;
        }
        std::future::pending::<()>().await;
    }

    async fn put_aside(&mut self, command: Command) {
        if command.id() == CommandId::EnquireLink {
            self.say(Status::EsmeRok, command.sequence_number(), Pdu::EnquireLinkResp).await;
        } else {
            self.aside.push_back(command);
        }
    }

    /// The next of a kind; signs of life are answered, everything else stays for later.
    pub(crate) async fn next_of(&mut self, id: CommandId, sequence: Option<u32>) -> Command {
        let wanted = |command: &Command| {
            command.id() == id && sequence.is_none_or(|sequence| sequence == command.sequence_number())
        };
        if let Some(at) = self.aside.iter().position(wanted) {
            return self.aside.remove(at).expect("there");
        }
        let until = self.clock.instant() + IN_VAIN;
        while self.clock.instant() < until {
            let command = self.read().await.expect("open");
            if wanted(&command) {
                return command;
            }
            self.put_aside(command).await;
        }
        panic!("{id:?} does not come");
    }

    pub(crate) async fn say(&mut self, status: CommandStatus, sequence: u32, pdu: impl Into<Pdu>) {
        self.frames.send(Command::new(status, sequence, pdu)).await.expect("the other side reads");
    }

    /// Asks something; its sequence number.
    pub(crate) async fn ask(&mut self, pdu: impl Into<Pdu>) -> u32 {
        self.sequence += 1;
        self.say(Status::EsmeRok, self.sequence, pdu).await;
        self.sequence
    }

    /// Octets as they are; whether the other side was still there.
    pub(crate) async fn raw(&mut self, octets: &[u8]) -> bool {
        self.frames.get_mut().write_all(octets).await.is_ok()
    }

    /// Delivers; the status that it is answered with.
    pub(crate) async fn delivered(&mut self, deliver: DeliverSm) -> CommandStatus {
        let sequence = self.ask(deliver).await;
        self.answer_to_deliver(sequence).await
    }

    pub(crate) async fn answer_to_deliver(&mut self, sequence: u32) -> CommandStatus {
        self.next_of(CommandId::DeliverSmResp, Some(sequence)).await.status()
    }

    /// Binds; the status that it is answered with.
    pub(crate) async fn bind(&mut self, system_id: &str, password: &str) -> CommandStatus {
        let sequence = self.ask(bind_with(system_id, password)).await;
        self.next_of(CommandId::BindTransceiverResp, Some(sequence)).await.status()
    }

    /// Submits to the centre; the status and the id that it is answered with.
    pub(crate) async fn submitted(&mut self, to: &str, octets: &[u8]) -> (CommandStatus, String) {
        let submit = SubmitSm::builder()
            .dest_addr_ton(Ton::International)
            .destination_addr(c_octets(to.trim_start_matches('+')))
            .short_message(OctetString::from_slice(octets).expect("fits"))
            .build();
        let sequence = self.ask(submit).await;
        let answer = self.next_of(CommandId::SubmitSmResp, Some(sequence)).await;
        let Some(Pdu::SubmitSmResp(body)) = answer.pdu() else { panic!("an answer with a body") };
        (answer.status(), body.message_id().as_str().to_owned())
    }

    /// The next submit, not yet answered.
    pub(crate) async fn submit(&mut self) -> (u32, SubmitSm) {
        let command = self.next_of(CommandId::SubmitSm, None).await;
        let Some(Pdu::SubmitSm(submit)) = command.pdu() else { panic!("a submit without a body") };
        (command.sequence_number(), submit.clone())
    }

    /// Takes a submit under an id.
    pub(crate) async fn take(&mut self, sequence: u32, id: &str) {
        let answer = SubmitSmResp::builder().message_id(c_octets(id)).build();
        self.say(Status::EsmeRok, sequence, answer).await;
    }

    /// The next submit, taken under an id.
    pub(crate) async fn taken(&mut self, id: &str) -> SubmitSm {
        let (sequence, submit) = self.submit().await;
        self.take(sequence, id).await;
        submit
    }

    /// Refuses a submit.
    pub(crate) async fn refuse(&mut self, sequence: u32, status: CommandStatus) {
        self.say(status, sequence, SubmitSmResp::default()).await;
    }

    /// Waits for a bind and takes it; what it said.
    pub(crate) async fn bound(&mut self) -> BindTransceiver {
        let command = self.next_of(CommandId::BindTransceiver, None).await;
        let Some(Pdu::BindTransceiver(bind)) = command.pdu() else { panic!("a bind without a body") };
        self.say(Status::EsmeRok, command.sequence_number(), BindTransceiverResp::default()).await;
        bind.clone()
    }
}
