//! A real CQL server, with faults: it answers late, or not at all, or with errors, or is not there.
//!
//! ```text
//!   driver ──requests──► CqlProxy ──► server
//!          ◄─answers, late, lost, replaced─┘
//! ```
//! The driver takes the address at which it reached a server for that server's own: of a single one it knows no way
//! around this one.
#![expect(
    clippy::disallowed_types,
    reason = "what the test says and the connections look at; nobody waits in it"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialtone_chassis::Chassis;
use dialtone_store::StoreUrl;
use dialtone_store::scylla::{Scylla, ScyllaConfig};
use dialtone_vocab::NodeId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::CqlStore;
use crate::cql_frame::{CqlError, Frame, Said};

/// What befalls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and answered so much later.
    Late(Duration),
    /// It is done, and never answered.
    Lost,
    /// It is done, and answered as if it were not.
    Denied(CqlError),
    /// It is not done.
    Refused(CqlError),
}

/// Faults of requests whose statement has a word in it.
struct Rule {
    word: String,
    fault: Fault,
    left: usize,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    hits: usize,
    /// Prepared statements by their ids, which are the same for all connections.
    statements: BTreeMap<Vec<u8>, String>,
}

/// Stands before a CQL server until this is dropped.
pub struct CqlProxy {
    chassis: Chassis,
    node: String,
    state: Arc<Mutex<State>>,
    /// Whether it is to be there, and whether it is.
    wanted: watch::Sender<bool>,
    listens: watch::Receiver<bool>,
}

impl CqlProxy {
    /// Before the server of this store, on a port of its own.
    ///
    /// # Panics
    /// If there are several: the driver would hear of their own addresses.
    pub async fn before(store: &CqlStore) -> Self {
        let [server] = &store.config.nodes[..] else { panic!("one CQL server: {:?}", store.config.nodes) };
        let chassis = Chassis::real(NodeId::new("proxy"));
        let node = format!("127.0.0.1:{}", crate::free_port());
        let state = Arc::default();
        let (wanted, mut is_wanted) = watch::channel(true);
        let (sender, listens) = watch::channel(false);
        let door = Door { chassis: chassis.clone(), state: Arc::clone(&state), server: server.clone() };
        let at = node.clone();
        chassis.tasks.spawn("cql proxy", async move {
            while is_wanted.wait_for(|wanted| *wanted).await.is_ok() {
                let listener = TcpListener::bind(&at).await.expect("its own port");
                sender.send_replace(true);
                tokio::select! {
                    () = door.listen(&listener, &is_wanted) => {}
                    _cut = gone(is_wanted.clone()) => {}
                }
                drop(listener);
                sender.send_replace(false);
            }
        });
        let proxy = Self { chassis, node, state, wanted, listens };
        proxy.until(true).await;
        proxy
    }

    /// Its `host:port`.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// How to reach a store by it.
    pub fn config(&self, store: &CqlStore) -> ScyllaConfig {
        ScyllaConfig { nodes: vec![self.node.clone()], ..store.config.clone() }
    }

    /// Opens a store by it.
    ///
    /// # Panics
    /// If it can't be opened.
    pub async fn open(&self, store: &CqlStore) -> StoreUrl {
        StoreUrl::Scylla(Scylla::open(&self.config(store)).await.expect("opens"))
    }

    /// From now on this befalls every request whose statement has the word in it.
    pub fn inflict(&self, word: &str, fault: Fault) {
        self.inflict_times(word, fault, usize::MAX);
    }

    /// The next so many of them. What was said before goes first.
    pub fn inflict_times(&self, word: &str, fault: Fault, left: usize) {
        lock(&self.state).rules.push(Rule { word: word.to_owned(), fault, left });
    }

    /// From now on nothing befalls anybody.
    pub fn heal(&self) {
        lock(&self.state).rules.clear();
    }

    /// How many requests something befell so far.
    pub fn hits(&self) -> usize {
        lock(&self.state).hits
    }

    /// Ends all connections, and refuses others.
    pub async fn cut(&self) {
        self.until(false).await;
    }

    /// Is there again.
    pub async fn mend(&self) {
        self.until(true).await;
    }

    async fn until(&self, there: bool) {
        self.wanted.send_replace(there);
        self.listens.clone().wait_for(|listens| *listens == there).await.expect("its task");
    }

    /// Waits until something has befallen so many requests more than `before`.
    pub async fn hit(&self, before: usize, more: usize) {
        while self.hits() < before + more {
            self.chassis.clock.sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for CqlProxy {
    fn drop(&mut self) {
        self.wanted.send_replace(false);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn gone(mut is_wanted: watch::Receiver<bool>) {
    let _nobody_says_any_more = is_wanted.wait_for(|wanted| !*wanted).await;
}

/// Lets connections through to the server.
#[derive(Clone)]
struct Door {
    chassis: Chassis,
    state: Arc<Mutex<State>>,
    server: String,
}

/// What waits for an answer on a stream.
enum Waits {
    Prepare(String),
    Fault(Fault),
}

type Pending = Mutex<BTreeMap<[u8; 2], Waits>>;

impl Door {
    async fn listen(&self, listener: &TcpListener, is_wanted: &watch::Receiver<bool>) {
        while let Ok((client, _)) = listener.accept().await {
            let (door, is_wanted) = (self.clone(), is_wanted.clone());
            self.chassis.tasks.spawn("cql connection", async move {
                tokio::select! {
                    _ended = door.pass(client) => {}
                    () = gone(is_wanted) => {}
                }
            });
        }
    }

    async fn pass(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((mut asked, mut told), (mut answers, mut asks)) = (client.into_split(), server.into_split());
        let pending = Pending::default();
        let (out, mut frames) = mpsc::unbounded_channel::<Frame>();
        let requests = async {
            loop {
                let frame = Frame::read(&mut asked).await?;
                match self.befalls(&frame) {
                    Some(Waits::Fault(Fault::Refused(error))) => {
                        say(&out, Frame::error(frame.stream(), error));
                    }
                    waits => {
                        if let Some(waits) = waits {
                            wait_for(&pending).insert(frame.stream(), waits);
                        }
                        frame.write(&mut asks).await?;
                    }
                }
            }
        };
        let responses = async {
            loop {
                let frame = Frame::read(&mut answers).await?;
                let waits = wait_for(&pending).remove(&frame.stream());
                self.answer(frame, waits, &out);
            }
        };
        let writes = async {
            while let Some(frame) = frames.recv().await {
                frame.write(&mut told).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = requests => ended,
            ended = responses => ended,
            ended = writes => ended,
        }
    }

    /// What is to be done about a request.
    fn befalls(&self, frame: &Frame) -> Option<Waits> {
        let mut state = lock(&self.state);
        let text = match frame.said() {
            Said::Prepare(text) => return Some(Waits::Prepare(text)),
            Said::Prepared(id) => state.statements.get(&id).cloned()?,
            Said::Text(text) => text,
            Said::Other => return None,
        };
        let rule = state.rules.iter_mut().find(|rule| rule.left > 0 && text.contains(&rule.word))?;
        rule.left -= 1;
        let fault = rule.fault;
        state.hits += 1;
        Some(Waits::Fault(fault))
    }

    fn answer(&self, frame: Frame, waits: Option<Waits>, out: &mpsc::UnboundedSender<Frame>) {
        match waits {
            None => say(out, frame),
            Some(Waits::Prepare(text)) => {
                if let Some(id) = frame.prepared() {
                    lock(&self.state).statements.insert(id, text);
                }
                say(out, frame);
            }
            Some(Waits::Fault(Fault::Lost)) => {}
            Some(Waits::Fault(Fault::Denied(error) | Fault::Refused(error))) => {
                say(out, Frame::error(frame.stream(), error));
            }
            Some(Waits::Fault(Fault::Late(by))) => {
                let (clock, out) = (self.chassis.clock.clone(), out.clone());
                self.chassis.tasks.spawn("late answer", async move {
                    clock.sleep(by).await;
                    say(&out, frame);
                });
            }
        }
    }
}

fn wait_for(pending: &Pending) -> MutexGuard<'_, BTreeMap<[u8; 2], Waits>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(out: &mpsc::UnboundedSender<Frame>, frame: Frame) {
    let _client_has_gone = out.send(frame);
}
