//! A nats-server for tests: the one named, or one started here.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::servers::left_out;

/// How long a start may take.
const START_TRIES: u32 = 500;
/// Between two looks whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A nats-server; one that was started here ends with this.
pub struct Nats {
    url: String,
    child: Option<Child>,
}

impl Nats {
    /// `DIALTONE_TEST_NATS`, else a nats-server from the PATH on a free port of 127.0.0.1. `None` if there is none: then
    /// stderr says that `what` was left out.
    ///
    /// # Panics
    /// If there is none and `DIALTONE_TEST_REQUIRE` names `nats`, or if it does not start.
    pub fn find(what: &str) -> Option<Self> {
        if let Ok(url) = std::env::var("DIALTONE_TEST_NATS") {
            return Some(Self { url, child: None });
        }
        let port = free_port();
        let started = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            left_out(what, "nats");
            return None;
        };
        let server = Self { url: format!("nats://127.0.0.1:{port}"), child: Some(child) };
        assert!(listens(port), "nats-server did not listen in time");
        Some(server)
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }
}

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[expect(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
fn listens(port: u16) -> bool {
    (0..START_TRIES).any(|_| {
        let open = TcpStream::connect(("127.0.0.1", port)).is_ok();
        if !open {
            std::thread::sleep(LOOK_EVERY);
        }
        open
    })
}
