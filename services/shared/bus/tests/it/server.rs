//! A nats-server for the tests: the one named, or one started here.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

pub(crate) struct Server {
    url: String,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }
}

/// The server, or `None` with a line on stderr if there is none and none is required.
pub(crate) async fn nats() -> Option<Server> {
    if let Ok(url) = std::env::var("DIALTONE_TEST_NATS") {
        return Some(Server { url, child: None });
    }
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let started = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(child) = started else {
        let required = std::env::var("DIALTONE_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "nats"), "nats is required and not there");
        // Straight to the terminal: the test runner keeps what passes to itself.
        writeln!(std::io::stderr().lock(), "left out: the bus contract over NATS (no nats-server)")
            .expect("stderr");
        return None;
    };
    let server = Server { url: format!("nats://127.0.0.1:{port}"), child: Some(child) };
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::task::yield_now().await;
    }
    Some(server)
}
