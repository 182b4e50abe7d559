//! A nats-server for tests: the one named, or one started here.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
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
    own: Option<Own>,
}

/// A server that was started here.
struct Own {
    port: u16,
    config: Option<PathBuf>,
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
            return Some(Self { url, own: None });
        }
        Self::start_own(what, None)
    }

    /// A nats-server from the PATH, on a free port of 127.0.0.1, that can be stopped and started; with this
    /// configuration, if one is given. `None` as with [`Nats::find`].
    ///
    /// # Panics
    /// As with [`Nats::find`].
    pub fn start_own(what: &str, config: Option<&Path>) -> Option<Self> {
        let port = free_port();
        let mut own = Own { port, config: config.map(Path::to_owned), child: None };
        if !own.start() {
            left_out(what, "nats");
            return None;
        }
        Some(Self { url: format!("nats://127.0.0.1:{port}"), own: Some(own) })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it.
    ///
    /// # Panics
    /// If it was not started here.
    pub fn stop(&mut self) {
        self.own.as_mut().expect("a server of our own").stop();
    }

    /// Starts it again, where it was.
    ///
    /// # Panics
    /// If it was not started here, or does not start.
    pub fn start(&mut self) {
        assert!(self.own.as_mut().expect("a server of our own").start(), "nats-server has gone");
    }
}

impl Own {
    /// Whether there is a program for it.
    fn start(&mut self) -> bool {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else { return false };
        self.child = Some(child);
        assert!(listens(self.port), "nats-server did not listen in time");
        true
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop();
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
