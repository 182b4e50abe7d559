//! As much of CQL's native protocol, version 4, as one needs to meddle with it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A header: version, flags, stream, opcode, length.
const HEADER: usize = 9;
/// The longest frame there may be.
const LONGEST: usize = 256 * 1024 * 1024;
/// A response, version 4.
const RESPONSE: u8 = 0x84;

const ERROR: u8 = 0x00;
const QUERY: u8 = 0x07;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;
/// A result that says under which id a statement was prepared.
const PREPARED: i32 = 4;
/// A statement of a batch that was prepared.
const BY_ID: u8 = 1;
/// LOCAL_QUORUM.
const CONSISTENCY: u16 = 6;

/// An error as a server says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CqlError {
    /// It has too much to do.
    Overloaded,
    /// Too few replicas are alive.
    Unavailable,
    /// Too few replicas answered a write in time.
    WriteTimeout,
    /// It knows nothing of what the request speaks of.
    Invalid,
}

/// What every error here says; what a server says may quote values, so nobody should repeat it.
pub const CQL_MESSAGE: &str = "quotes a value";

/// One frame.
pub(crate) struct Frame {
    header: [u8; HEADER],
    body: Vec<u8>,
}

/// What a request says.
pub(crate) enum Said {
    /// Prepare this.
    Prepare(String),
    /// Do what was prepared under this id.
    Prepared(Vec<u8>),
    /// Do this.
    Text(String),
    /// Nothing about rows.
    Other,
}

impl Frame {
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header).await?;
        let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        from.read_exact(&mut body).await?;
        Ok(Self { header, body })
    }

    pub(crate) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        to.write_all(&self.header).await?;
        to.write_all(&self.body).await
    }

    /// What asks and what answers have this in common.
    pub(crate) fn stream(&self) -> [u8; 2] {
        [self.header[2], self.header[3]]
    }

    /// What a request says; of a batch its first statement.
    pub(crate) fn said(&self) -> Said {
        let mut body = Reader(&self.body);
        let said = match self.header[4] {
            PREPARE => body.long_string().map(Said::Prepare),
            QUERY => body.long_string().map(Said::Text),
            EXECUTE => body.short_bytes().map(Said::Prepared),
            BATCH => body.batch(),
            _ => None,
        };
        said.unwrap_or(Said::Other)
    }

    /// The id in an answer to [`Said::Prepare`].
    pub(crate) fn prepared(&self) -> Option<Vec<u8>> {
        let mut body = Reader(&self.body);
        let is_prepared =
            self.header[4] == RESULT && body.take::<4>().map(i32::from_be_bytes) == Some(PREPARED);
        if is_prepared { body.short_bytes() } else { None }
    }

    /// An answer on this stream.
    pub(crate) fn error(stream: [u8; 2], error: CqlError) -> Self {
        let (code, more): (i32, Vec<u8>) = match error {
            CqlError::Overloaded => (0x1001, Vec::new()),
            CqlError::Unavailable => (0x1000, counts(2, 1)),
            CqlError::WriteTimeout => (0x1100, [counts(1, 2), string("SIMPLE")].concat()),
            CqlError::Invalid => (0x2200, Vec::new()),
        };
        let body = [code.to_be_bytes().to_vec(), string(CQL_MESSAGE), more].concat();
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        let mut header = [RESPONSE, 0, stream[0], stream[1], ERROR, 0, 0, 0, 0];
        header[5..].copy_from_slice(&length);
        Self { header, body }
    }
}

fn counts(one: i32, other: i32) -> Vec<u8> {
    [&CONSISTENCY.to_be_bytes()[..], &one.to_be_bytes(), &other.to_be_bytes()].concat()
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short").to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head.to_vec())
    }

    fn long_string(&mut self) -> Option<String> {
        let length = u32::from_be_bytes(self.take()?) as usize;
        String::from_utf8(self.bytes(length)?).ok()
    }

    fn short_bytes(&mut self) -> Option<Vec<u8>> {
        let length = u16::from_be_bytes(self.take()?).into();
        self.bytes(length)
    }

    fn batch(&mut self) -> Option<Said> {
        let [_kind, _high, _low, by] = self.take()?;
        if by == BY_ID { self.short_bytes().map(Said::Prepared) } else { self.long_string().map(Said::Text) }
    }
}
