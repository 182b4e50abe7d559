//! Frames of SMPP 3.4: how long a PDU says it is, checked before a byte of it is waited for; then its content, decoded
//! from exactly its own octets, so that a damaged one can't reach into the next.

use std::io;

use dialtone_chassis::Clock;
use futures::SinkExt;
use rusmpp::decode::DecodeWithLength;
use rusmpp::tokio_codec::{CommandCodec, EncodeError};
use rusmpp::{Command, CommandId};
use tokio::io::AsyncWrite;
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder, Framed};

use crate::limits::{PDU_OCTETS, WRITE_WITHIN};

/// Octets of a header, and so of the shortest PDU.
const HEADER: usize = 16;

/// A PDU that came.
#[derive(Debug)]
pub(crate) enum Frame {
    Command(Box<Command>),
    /// Its length is right and its content is not: the next one can be read.
    Garbled {
        id: CommandId,
        sequence: u32,
    },
}

/// What can't be read on from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Garbage {
    #[error("the connection is lost")]
    Io(#[from] io::Error),
    /// Shorter than a header, or longer than any PDU may be.
    #[error("a length that no PDU has")]
    Length { sequence: u32 },
}

/// The codec.
#[derive(Debug, Default)]
pub(crate) struct Codec(CommandCodec);

impl Decoder for Codec {
    type Item = Frame;
    type Error = Garbage;

    fn decode(&mut self, octets: &mut BytesMut) -> Result<Option<Frame>, Garbage> {
        let Some(header) = octets.first_chunk::<HEADER>() else { return Ok(None) };
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, id, sequence) = (word(0) as usize, CommandId::from(word(4)), word(12));
        if !(HEADER..=PDU_OCTETS).contains(&length) {
            return Err(Garbage::Length { sequence });
        }
        if octets.len() < length {
            octets.reserve(length - octets.len());
            return Ok(None);
        }
        let mut pdu = octets.split_to(length);
        pdu.advance(4);
        Ok(Some(match Command::decode(&mut pdu, length - 4) {
            Ok((command, _length)) => Frame::Command(Box::new(command)),
            Err(_) => Frame::Garbled { id, sequence },
        }))
    }
}

impl Encoder<Command> for Codec {
    type Error = io::Error;

    fn encode(&mut self, command: Command, octets: &mut BytesMut) -> io::Result<()> {
        self.0.encode(command, octets).map_err(|error| match error {
            EncodeError::Io(error) => error,
            other => io::Error::other(other.to_string()),
        })
    }
}

/// Sends a PDU; whoever does not read holds nobody up for longer than the limit.
pub(crate) async fn say<W: AsyncWrite + Unpin>(
    clock: &Clock,
    frames: &mut Framed<W, Codec>,
    command: Command,
) -> Result<(), &'static str> {
    match clock.timeout(WRITE_WITHIN, frames.send(command)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("connection lost"),
        Err(_) => Err("the other side does not read"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusmpp::{CommandStatus, Pdu};

    use super::*;
    use crate::pdu;
    use crate::segment::Encoding;

    /// Everything that is read out of these octets, as the bridge and the centre read it, and the most that was kept.
    fn read(octets: &[u8], step: usize) -> (Vec<Result<Frame, Garbage>>, usize) {
        let (mut codec, mut buffer, mut frames, mut most) =
            (Codec::default(), BytesMut::new(), Vec::new(), 0);
        for chunk in octets.chunks(step.max(1)) {
            buffer.extend_from_slice(chunk);
            loop {
                let read = codec.decode(&mut buffer);
                most = most.max(buffer.capacity());
                match read {
                    Ok(None) => break,
                    Ok(Some(frame)) => frames.push(Ok(frame)),
                    Err(garbage) => {
                        frames.push(Err(garbage));
                        return (frames, most);
                    }
                }
            }
        }
        (frames, most)
    }

    fn look_into(frame: &Frame) {
        let Frame::Command(command) = frame else { return };
        match command.pdu() {
            Some(Pdu::DeliverSm(deliver)) => drop(pdu::read_deliver(deliver)),
            Some(Pdu::SubmitSm(submit)) => drop(pdu::read_submit(submit)),
            Some(Pdu::BindTransceiver(bind)) => drop((bind.system_id.to_string(), bind.password.to_string())),
            Some(Pdu::SubmitSmResp(answer)) => drop(answer.message_id().to_string()),
            _ => {}
        }
    }

    fn encoded(commands: &[Command]) -> Vec<u8> {
        let mut octets = BytesMut::new();
        for command in commands {
            Codec::default().encode(command.clone(), &mut octets).expect("encodes");
        }
        octets.to_vec()
    }

    fn some_commands() -> Vec<Command> {
        let submit = pdu::submit("+15550001", "+14155550101", Encoding::Gsm7, Some((1, 2, 1)), b"text");
        let short = pdu::read_submit(&submit);
        vec![
            Command::new(CommandStatus::EsmeRok, 1, pdu::bind("dialtone", "secret")),
            Command::new(CommandStatus::EsmeRok, 2, submit),
            Command::new(CommandStatus::EsmeRok, 3, pdu::deliver(&short, false)),
            Command::new(CommandStatus::EsmeRok, 4, Pdu::EnquireLink),
        ]
    }

    #[test]
    fn a_length_that_no_pdu_has_is_refused_with_its_sequence_number() {
        for length in [0, 3, 15, PDU_OCTETS as u32 + 1, u32::MAX] {
            let octets = [length, 4, 0, 9].map(u32::to_be_bytes).concat();
            let (frames, most) = read(&octets, 16);
            assert!(matches!(frames[..], [Err(Garbage::Length { sequence: 9 })]), "{length}: {frames:?}");
            assert!(most <= PDU_OCTETS, "nothing is set aside for it");
        }
    }

    #[test]
    fn a_damaged_pdu_does_not_reach_into_the_next() {
        let mut octets = encoded(&some_commands()[1..2]);
        // A submit_sm that ends within its addresses.
        octets.truncate(20);
        octets[3] = 20;
        octets.extend(encoded(&some_commands()[3..]));
        let (frames, _) = read(&octets, octets.len());
        assert!(
            matches!(
                &frames[..],
                [Ok(Frame::Garbled { id: CommandId::SubmitSm, sequence: 2 }), Ok(Frame::Command(next))]
                    if next.sequence_number() == 4
            ),
            "{frames:?}"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_octets_are_read_without_a_panic_and_within_the_limit(
            octets in prop::collection::vec(any::<u8>(), 0..4_000),
            step in 1_usize..200,
        ) {
            let (frames, most) = read(&octets, step);
            frames.iter().flatten().for_each(look_into);
            prop_assert!(most <= 2 * PDU_OCTETS + octets.len(), "{most}");
        }

        #[test]
        fn arbitrary_bodies_of_known_commands_are_read_without_a_panic(
            bodies in prop::collection::vec((0_usize..7, prop::collection::vec(any::<u8>(), 0..400)), 1..8),
            step in 1_usize..500,
        ) {
            let ids = [0x09_u32, 0x04, 0x05, 0x8000_0004, 0x8000_0005, 0x15, 0x8000_0000];
            let pdu = |(id, body): &(usize, Vec<u8>)| {
                let length = u32::try_from(HEADER + body.len()).expect("short");
                [&[length, ids[*id], 0, 7].map(u32::to_be_bytes).concat()[..], body].concat()
            };
            let octets: Vec<u8> = bodies.iter().flat_map(pdu).collect();
            let (frames, _) = read(&octets, step);
            prop_assert_eq!(frames.len(), bodies.len(), "each is a frame of its own");
            frames.iter().flatten().for_each(look_into);
        }

        #[test]
        fn a_flipped_octet_costs_nothing_but_its_pdu(at in 16_usize..400, with in 1_u8..=255) {
            let mut octets = encoded(&some_commands());
            // Behind the length of the first PDU: lengths that lie are another test's.
            let at = 4 + at % (encoded(&some_commands()[..1]).len() - 4);
            octets[at] ^= with;
            let (frames, _) = read(&octets, 7);
            prop_assert_eq!(frames.len(), 4);
            frames.iter().flatten().for_each(look_into);
            let Ok(Frame::Command(last)) = &frames[3] else { panic!("the last one is whole") };
            prop_assert_eq!(last.sequence_number(), 4);
        }
    }
}
