//! Processes of the real binary, with real files and ports, on 127.0.0.1.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
const DIALTONE: &str = env!("CARGO_BIN_EXE_dialtone");
/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A command of the binary with settings of its own: their environment names, and values.
pub(crate) fn dialtone<'a>(
    args: &[&str],
    settings: impl IntoIterator<Item = (&'a str, String)>,
    folder: &Path,
) -> Command {
    let mut command = Command::new(DIALTONE);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    for (name, value) in settings {
        command.env(format!("DIALTONE__{name}"), value);
    }
    command
}

/// Runs a command that ends by itself.
pub(crate) fn outcome(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    child.wait_with_output().expect("it ends")
}

/// A process that serves until this is dropped; what it says is in a file.
pub(crate) struct Serving {
    child: Child,
    ops: u16,
    log: std::path::PathBuf,
}

impl Serving {
    /// Starts one whose operations port is `ops`.
    pub(crate) fn start(mut command: Command, ops: u16, log: &Path) -> Self {
        let file = File::create(log).expect("a log");
        let child = command
            .env("DIALTONE__OPS__LISTEN", format!("127.0.0.1:{ops}"))
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        Self { child, ops, log: log.to_owned() }
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self) {
        let began = Instant::now();
        while !self.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "it ended at its start:\n{}", self.said());
            assert!(began.elapsed() < PATIENCE, "not ready in time:\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// An answer of the operations port: three lines of HTTP need no client library.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ops)).ok()?;
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
            )
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).expect("its log")).into_owned()
    }

    /// Asks it to stop (SIGTERM) and waits until it has; whether it ended well.
    pub(crate) fn stop(mut self) -> bool {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        assert!(asked.success());
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.success();
            }
            assert!(began.elapsed() < PATIENCE, "it did not stop:\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
