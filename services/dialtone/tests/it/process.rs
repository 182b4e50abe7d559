//! Processes of the real binary, with real files and ports, on 127.0.0.1.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub(crate) const DIALTONE: &str = env!("CARGO_BIN_EXE_dialtone");
/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a command that ends by itself may take: the tour waits for half a minute where nothing else is running.
const COMMAND_WITHIN: Duration = Duration::from_secs(300);
/// How long the operations port may take to go on with an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
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

/// How a child ended; `None` if it had to be killed.
fn ended(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if began.elapsed() >= within {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Runs a command that ends by itself. What it says goes to files: a pipe would fill up, or be held open by others.
pub(crate) fn outcome(command: Command) -> Output {
    outcome_within(command, COMMAND_WITHIN)
}

fn outcome_within(mut command: Command, within: Duration) -> Output {
    let [stdout, stderr] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
    let same = |file: &File| file.try_clone().expect("a file");
    let mut child = command.stdout(same(&stdout)).stderr(same(&stderr)).spawn().expect("the binary starts");
    let status = ended(&mut child, within);
    let [stdout, stderr] = [stdout, stderr].map(|mut file| {
        let mut said = Vec::new();
        file.rewind().expect("a file");
        file.read_to_end(&mut said).expect("a file");
        said
    });
    match status {
        Some(status) => Output { status, stdout, stderr },
        None => panic!("it did not end: {}", String::from_utf8_lossy(&[stdout, stderr].concat())),
    }
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

    /// Waits until an answer of the operations port has this in it.
    pub(crate) fn wait_for(&mut self, path: &str, word: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(answer) = self.get(path).filter(|answer| answer.contains(word)) {
                return answer;
            }
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "it ended at its start:\n{}", self.said());
            assert!(began.elapsed() < PATIENCE, "{word:?} never came:\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// An answer of the operations port: three lines of HTTP need no client library.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ops)).ok()?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a time limit");
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
        let status = ended(&mut self.child, PATIENCE);
        status.unwrap_or_else(|| panic!("it did not stop:\n{}", self.said())).success()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
#[should_panic(expected = "it did not end")]
fn a_command_that_does_not_end_fails_its_test() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = ["GATEWAY__LISTEN", "OPS__LISTEN", "CENTRE__LISTEN", "INTERNAL__LISTEN"];
    let ports = listen.map(|name| (name, format!("127.0.0.1:{}", dialtone_testkit::free_port())));
    outcome_within(dialtone(&[], ports, folder.path()), Duration::from_secs(1));
}
