//! A system of one's own, for the tour and for load tests: a child process on free ports in a temporary folder.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dialtone_chassis::Chassis;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a start may take: over a CQL server that makes tables it takes some time.
const START_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What differs from this program without arguments and settings.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Arguments that make this program the server.
    pub args: Vec<String>,
    /// Settings by their environment names.
    pub settings: Vec<(String, String)>,
}

/// A process of this program that serves until this is dropped.
pub struct Process {
    child: Child,
    ops: u16,
}

impl Process {
    /// Starts this program with these arguments and settings; what it says is added to the file `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(launch: &Launch, ops: u16, log: &Path) -> Result<Self> {
        let exe = std::env::current_exe().context("this program's path")?;
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        let child = Command::new(exe)
            .args(&launch.args)
            .envs(launch.settings.iter().cloned())
            .env("DIALTONE__OPS__LISTEN", local(ops))
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .context("starting the process")?;
        Ok(Self { child, ops })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub async fn ready(&mut self, chassis: &Chassis) -> Result<()> {
        let look = async {
            while !answers_ready(self.ops).await {
                ensure!(self.child.try_wait()?.is_none(), "the process ended at its start");
                chassis.clock.sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        chassis.clock.timeout(START_WITHIN, look).await.ok().context("not ready in time")?
    }

    /// Process id, for those who measure it.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// URL of its operations port.
    pub fn ops_url(&self) -> String {
        format!("http://{}", local(self.ops))
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the process")
    }
}

/// The child process and where it listens.
pub struct OwnSystem {
    launch: Launch,
    folder: TempDir,
    ops: u16,
    gateway: u16,
    process: Process,
}

impl OwnSystem {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub async fn start(chassis: &Chassis, mut launch: Launch) -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let [gateway, ops, smpp] = free_ports()?;
        let settings = [
            ("DIALTONE__GATEWAY__LISTEN", local(gateway)),
            ("DIALTONE__CENTRE__LISTEN", local(smpp)),
            ("DIALTONE__SMS__PROVIDER", local(smpp)),
            ("DIALTONE__STORE__URL", format!("embedded:{}", folder.path().join("data").display())),
        ];
        launch.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        let mut process = Process::start(&launch, ops, &folder.path().join("log"))?;
        process.ready(chassis).await?;
        Ok(Self { launch, folder, ops, gateway, process })
    }

    /// URL of its gateway.
    pub fn gateway_url(&self) -> String {
        format!("http://{}", local(self.gateway))
    }

    /// URL of its operations port, where the handsets are.
    pub fn centre_url(&self) -> String {
        self.process.ops_url()
    }

    /// Process id, for those who measure it.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again on the same ports and folder.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub async fn start_again(&mut self, chassis: &Chassis) -> Result<()> {
        self.process = Process::start(&self.launch, self.ops, &self.folder.path().join("log"))?;
        self.process.ready(chassis).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it can't be ended.
    pub async fn stop(mut self) -> Result<()> {
        self.kill().await
    }
}

/// A port of this machine alone.
pub fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// `GET /readyz`, by hand: three lines of HTTP need no client library.
async fn answers_ready(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask.await.unwrap_or(false)
}

/// Ports of 127.0.0.1 that nobody listens on.
///
/// # Errors
/// When there are none.
pub fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT]> {
    // All are held at once, so that they differ.
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; COUNT];
    for (port, listener) in ports.iter_mut().zip(listeners.iter()) {
        *port = listener.as_ref().ok().context("a free port")?.local_addr()?.port();
    }
    Ok(ports)
}
