//! A system of one's own, for the tour and for load tests: a child process on free ports in a temporary folder.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dialtone_chassis::Chassis;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a start may take.
const START_WITHIN: Duration = Duration::from_secs(30);
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

/// The child process and where it listens.
pub struct OwnSystem {
    launch: Launch,
    folder: TempDir,
    ports: [u16; 3],
    child: Child,
}

impl OwnSystem {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub async fn start(chassis: &Chassis, launch: Launch) -> Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let ports = free_ports()?;
        let child = spawn(&launch, &folder, ports)?;
        let mut own = Self { launch, folder, ports, child };
        own.ready(chassis).await?;
        Ok(own)
    }

    /// URL of its gateway.
    pub fn gateway_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// URL of its operations port, where the handsets are.
    pub fn centre_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[1])
    }

    /// Process id, for those who measure it.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// When it can't be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the process")
    }

    /// Starts it again on the same ports and folder.
    ///
    /// # Errors
    /// When it does not become ready in time.
    pub async fn start_again(&mut self, chassis: &Chassis) -> Result<()> {
        self.child = spawn(&self.launch, &self.folder, self.ports)?;
        self.ready(chassis).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it can't be ended.
    pub async fn stop(mut self) -> Result<()> {
        self.kill().await
    }

    async fn ready(&mut self, chassis: &Chassis) -> Result<()> {
        let look = async {
            while !answers_ready(self.ports[1]).await {
                ensure!(self.child.try_wait()?.is_none(), "the process ended at its start");
                chassis.clock.sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        chassis.clock.timeout(START_WITHIN, look).await.ok().context("not ready in time")?
    }
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

fn free_ports() -> Result<[u16; 3]> {
    // All three are held at once, so that they differ.
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn spawn(launch: &Launch, folder: &TempDir, [gateway, ops, smpp]: [u16; 3]) -> Result<Child> {
    let exe = std::env::current_exe().context("this program's path")?;
    let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log"))?;
    Command::new(exe)
        .args(&launch.args)
        .envs(launch.settings.iter().cloned())
        .env("DIALTONE__GATEWAY__LISTEN", format!("127.0.0.1:{gateway}"))
        .env("DIALTONE__OPS__LISTEN", format!("127.0.0.1:{ops}"))
        .env("DIALTONE__CENTRE__LISTEN", format!("127.0.0.1:{smpp}"))
        .env("DIALTONE__SMS__PROVIDER", format!("127.0.0.1:{smpp}"))
        .env("DIALTONE__STORE__URL", format!("embedded:{}", folder.path().join("data").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        .kill_on_drop(true)
        .spawn()
        .context("starting the process")
}
