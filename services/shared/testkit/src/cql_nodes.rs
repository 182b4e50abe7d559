//! Three CQL servers that hold everything three times.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{CqlStore, free_port, repository};

/// The nodes that there are.
pub const CQL_NODES: [u8; 3] = [1, 2, 3];

/// Three CQL servers of our own (see `deploy/local/cql-nodes`); they end with this.
pub struct CqlNodes {
    home: TempDir,
    urls: String,
}

impl CqlNodes {
    /// Starts them, which takes half a minute and 4 GB.
    ///
    /// # Panics
    /// If they don't start.
    pub fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut nodes = Self { home, urls: String::new() };
        let ports = [free_port(), free_port()].map(|port| port.to_string());
        nodes.urls = nodes.run(&["start", "--port", &ports[0], "--storage-port", &ports[1]]);
        nodes
    }

    /// A name for a keyspace on them, with nothing behind it yet.
    pub fn store(&self) -> CqlStore {
        CqlStore::on(self.urls.trim_start_matches("scylla://").split(',').map(str::to_owned).collect())
    }

    /// Lets a node stand still; [`CqlNodes::resume`] lets it go on.
    pub fn pause(&self, node: u8) {
        self.run(&["pause", &node.to_string()]);
    }

    /// Lets a node go on.
    pub fn resume(&self, node: u8) {
        self.run(&["resume", &node.to_string()]);
    }

    /// Kills a node; [`CqlNodes::revive`] starts it again.
    pub fn kill(&self, node: u8) {
        self.run(&["kill", &node.to_string()]);
    }

    /// Starts a node that was killed, and waits until it answers.
    pub fn revive(&self, node: u8) {
        self.run(&["revive", &node.to_string()]);
    }

    /// Runs the script, which has to succeed; what it prints.
    fn run(&self, args: &[&str]) -> String {
        let done = Command::new(repository().join("deploy/local/cql-nodes"))
            .args(args)
            .env("DIALTONE_CQL_NODES", self.home.path().join("nodes"))
            .stdin(Stdio::null())
            .output()
            .expect("runs");
        let text = |said: &[u8]| String::from_utf8_lossy(said).trim().to_owned();
        assert!(done.status.success(), "cql-nodes {args:?}: {}", text(&done.stderr));
        text(&done.stdout)
    }
}

impl Drop for CqlNodes {
    fn drop(&mut self) {
        self.run(&["stop"]);
    }
}
