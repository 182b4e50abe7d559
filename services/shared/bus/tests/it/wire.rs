//! A client that speaks NATS by hand: what it says has been judged, and what it is owed has come, when it has its pong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

/// What came until the pong.
#[derive(Debug, Default)]
pub(crate) struct Came {
    /// Subject and reply of messages.
    pub(crate) messages: Vec<(String, Option<String>)>,
    /// Complaints of the server.
    pub(crate) errors: Vec<String>,
}

impl Wire {
    pub(crate) fn connect(url: &str, user: &str, password: &str) -> Self {
        let address = url.strip_prefix("nats://").expect("a NATS address");
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut wire = Self { stream: BufReader::new(stream) };
        assert!(wire.line().starts_with("INFO "));
        wire.say(&format!(
            "CONNECT {{\"user\":\"{user}\",\"pass\":\"{password}\",\"verbose\":false,\"pedantic\":false,\"lang\":\"hand\",\
             \"version\":\"0\",\"protocol\":1,\"echo\":false}}"
        ));
        let came = wire.settle();
        assert!(came.errors.is_empty(), "{user}: {came:?}");
        wire
    }

    pub(crate) fn publish(&mut self, subject: &str, reply: &str) {
        self.say(&format!("PUB {subject} {reply} 1\r\nx"));
    }

    pub(crate) fn subscribe(&mut self, subject: &str, group: &str, id: usize) {
        self.say(&format!("SUB {subject} {group} {id}"));
    }

    pub(crate) fn unsubscribe(&mut self, id: usize) {
        self.say(&format!("UNSUB {id}"));
    }

    /// Everything that was said so far has its effect, also on others, when this returns.
    pub(crate) fn settle(&mut self) -> Came {
        self.say("PING");
        let mut came = Came::default();
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                ["PONG"] => return came,
                ["PING"] => self.say("PONG"),
                ["MSG", subject, _id, reply @ .., length] => {
                    let length: usize = length.parse().expect("a length");
                    self.stream.read_exact(&mut vec![0; length + 2]).expect("a body");
                    came.messages
                        .push(((*subject).to_owned(), reply.first().map(|reply| (*reply).to_owned())));
                }
                ["-ERR", ..] => came.errors.push(line),
                _ => assert!(line.starts_with("INFO "), "{line}"),
            }
        }
    }

    fn say(&mut self, words: &str) {
        self.stream.get_mut().write_all(format!("{words}\r\n").as_bytes()).expect("sent");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).expect("an answer in time");
        assert!(read > 0, "the server hung up");
        line.trim_end().to_owned()
    }
}
