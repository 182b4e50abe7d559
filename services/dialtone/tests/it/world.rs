//! A system, its operator and its phones on paused time: three nodes, each a runtime of its own that is dropped to
//! kill it, stepped in turn. Nothing here sleeps for real, and a seed draws the same weather again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dialtone::settings::Settings;
use dialtone::system::{self, Ground, Sabotage};
use dialtone_bus::{Bus, Courier};
use dialtone_chassis::{Chassis, Network, Secrets, SimWall, listen};
use dialtone_client::Api;
use dialtone_routing::ledger::{self, Ledger};
use dialtone_sms::centre::Centre;
use dialtone_sms::{Dial, Wire};
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::NodeId;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

use crate::pipe::{Cut, Pipe};

/// One step of all nodes.
const STEP: Duration = Duration::from_millis(1);
/// How long a commit takes at most when the disk stalls.
const STALL: Duration = Duration::from_millis(1_500);
/// Bytes in a pipe.
const PIPE: usize = 256 * 1024;

/// Where a node takes connections; gone when it is dead.
#[derive(Clone, Default)]
struct Port(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    pipes: Option<mpsc::UnboundedSender<DuplexStream>>,
    /// Of the connections made since it was opened, in order.
    cuts: Vec<Cut>,
}

impl Port {
    fn open(&self) -> mpsc::UnboundedReceiver<DuplexStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().pipes = Some(sender);
        receiver
    }

    /// Nobody connects any more, and whoever is connected notices now, in the order in which they came: a runtime
    /// that is dropped would let go of them in an order of its own.
    fn close(&self) {
        let Open { cuts, .. } = std::mem::take(&mut *self.lock());
        cuts.iter().for_each(Cut::now);
    }

    fn dial(&self) -> io::Result<Pipe> {
        let (near, far) = tokio::io::duplex(PIPE);
        let mut open = self.lock();
        match open.pipes.as_ref().map(|pipes| pipes.send(far)) {
            Some(Ok(())) => {
                let cut = Cut::default();
                open.cuts.push(cut.clone());
                Ok(Pipe { near, cut })
            }
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loses, repeats and delays messages of the bus while it storms.
#[derive(Clone)]
pub(crate) struct Storm {
    seed: u64,
    on: Arc<AtomicBool>,
    /// Messages that were lost, repeated or delayed.
    pub(crate) hits: Arc<AtomicU64>,
}

impl Storm {
    pub(crate) fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }
}

/// SplitMix64: the fate of the n-th message is a pure function of seed and n.
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Courier for Storm {
    fn fate(&self, subject: &str, n: u64) -> Vec<Duration> {
        if !self.on.load(Ordering::Relaxed) || subject == "dialtone.cluster.heartbeat" {
            return vec![Duration::ZERO];
        }
        let roll = mix(self.seed, n);
        let late = Duration::from_millis((roll >> 16) % 200);
        let fate = match roll % 100 {
            0..8 => Vec::new(),
            8..14 => vec![Duration::ZERO, late],
            14..30 => vec![late],
            _ => return vec![Duration::ZERO],
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        fate
    }
}

/// Everything.
pub(crate) struct World {
    seed: u64,
    wall: SimWall,
    disk: MemoryDisk,
    settings: Settings,
    sabotage: Sabotage,
    pub(crate) storm: Storm,
    gateway: Port,
    operator: Port,
    server: Option<Runtime>,
    /// How long the server stands still yet, and for how long it has.
    standing: (Duration, Duration),
    starts: u64,
    operator_node: Runtime,
    pub(crate) centre: Centre,
    phones: Runtime,
    /// How long it takes from phone to server and back, and how much of it has passed.
    far: (Duration, Duration),
    pub(crate) chassis: Chassis,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

fn step(node: Option<&Runtime>, time: Duration) {
    if let Some(node) = node {
        node.block_on(async { tokio::time::sleep(time).await });
    }
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Self {
        // Disks of all speeds: the slower, the more is under way when a kill comes.
        let slowest = [5, 40, 200][usize::try_from(mix(seed, 4) % 3).unwrap_or(0)];
        let delay = Duration::ZERO..=Duration::from_millis(slowest);
        Self::on(MemoryDisk::stalling(delay, STALL), seed, sabotage)
    }

    /// One whose disk is fast and never stalls, and whose phones are so far away, to the server and back.
    pub(crate) fn calm(seed: u64, far: Duration) -> Self {
        let disk = MemoryDisk::with_delay(Duration::ZERO..=Duration::from_millis(5));
        let mut world = Self::on(disk, seed, Sabotage::default());
        world.far.0 = far;
        world
    }

    fn on(disk: MemoryDisk, seed: u64, sabotage: Sabotage) -> Self {
        let wall = SimWall::new(AtomicU64::new(1_767_225_600_000));
        let mut settings = Settings::load(None, Vec::new()).expect("the defaults are in order");
        settings.gateway.reflection = false;
        let (operator_node, phones) = (runtime(), runtime());
        let operator = Port::default();
        let operator_chassis = Chassis::simulated(NodeId::new("operator"), mix(seed, 1), wall.clone());
        let mut pipes = operator.open();
        let config = settings.centre.clone();
        let centre = operator_node.block_on(async {
            let centre = Centre::new(&operator_chassis, &config);
            let serving = centre.clone();
            operator_chassis.tasks.spawn("operator port", async move {
                while let Some(pipe) = pipes.recv().await {
                    serving.serve(pipe);
                }
            });
            centre
        });
        let chassis = Chassis::simulated(NodeId::new("phones"), mix(seed, 2), wall.clone());
        let storm = Storm { seed: mix(seed, 3), on: Arc::default(), hits: Arc::default() };
        let mut world = Self {
            seed,
            wall,
            disk,
            settings,
            sabotage,
            storm,
            gateway: Port::default(),
            operator,
            server: None,
            standing: (Duration::ZERO, Duration::ZERO),
            starts: 0,
            operator_node,
            centre,
            phones,
            far: (STEP, Duration::ZERO),
            chassis,
        };
        world.start_server();
        world
    }

    /// Starts the server process on what the disk has.
    pub(crate) fn start_server(&mut self) {
        self.starts += 1;
        let node = runtime();
        let chassis =
            Chassis::simulated(NodeId::new("server"), mix(self.seed, 100 + self.starts), self.wall.clone());
        let mut pipes = self.gateway.open();
        let operator = self.operator.clone();
        let dial: Dial = Arc::new(move || {
            let pipe = operator.dial().map(|pipe| Box::new(pipe) as Box<dyn Wire>);
            Box::pin(async move { pipe })
        });
        let (settings, disk, storm, sabotage) =
            (self.settings.clone(), self.disk.clone(), self.storm.clone(), self.sabotage);
        node.block_on(async move {
            let ground = Ground {
                bus: Bus::local_with_courier(&chassis, Arc::new(storm)),
                store: Some(StoreUrl::memory(&disk)),
                secrets: Secrets::for_tests(),
                network: Network::new(&chassis, None),
                address: String::new(),
                dial: Some(dial),
                sabotage,
                chassis: chassis.clone(),
            };
            let services = ["gateway", "identity", "contacts", "presence", "routing", "offline", "sms"]
                .map(str::to_owned);
            let system = system::start(&settings, &services, &ground).await.expect("the system starts");
            let routes = system.public.expect("a gateway");
            chassis.tasks.spawn("gateway port", async move {
                let incoming = futures::stream::poll_fn(move |cx| {
                    pipes.poll_recv(cx).map(|pipe| pipe.map(io::Result::Ok))
                });
                let served = listen::server()
                    .accept_http1(false)
                    .add_routes(routes)
                    .serve_with_incoming(incoming)
                    .await;
                served.expect("the server serves");
            });
        });
        self.server = Some(node);
    }

    /// What the outboxes on disk come to. The server is killed first: nobody else has the disk open then.
    pub(crate) fn ledger(&mut self) -> Ledger {
        self.kill_server();
        let (store, chassis) = (StoreUrl::memory(&self.disk), self.chassis.clone());
        runtime().block_on(async {
            let logs = ledger::open(store, None, &chassis).await.expect("the store opens");
            ledger::recount(&logs, &chassis).await.expect("the outboxes are read")
        })
    }

    /// Kills the server process: whatever it had in memory is gone.
    pub(crate) fn kill_server(&mut self) {
        self.gateway.close();
        drop(self.server.take());
        self.standing = (Duration::ZERO, Duration::ZERO);
    }

    /// The server process stands still for so long, as when its machine is short of memory, and does not notice.
    pub(crate) fn pause_server(&mut self, time: Duration) {
        self.standing.0 += time;
    }

    /// The API of a phone.
    pub(crate) fn api(&self) -> Api {
        let gateway = self.gateway.clone();
        let connector = service_fn(move |_: Uri| {
            let pipe = gateway.dial().map(TokioIo::new);
            async move { pipe }
        });
        let endpoint = Endpoint::from_static("http://gateway").timeout(Duration::from_secs(5));
        let _inside = self.phones.enter();
        Api::over(endpoint.connect_with_connector_lazy(connector))
    }

    /// Lets so much time pass for everybody.
    pub(crate) fn pass(&mut self, time: Duration) {
        let steps = time.as_millis() / STEP.as_millis();
        for _ in 0..steps {
            self.step();
        }
    }

    fn step(&mut self) {
        self.wall.fetch_add(1, Ordering::Relaxed);
        let (left, stood) = self.standing;
        if left.is_zero() {
            // Its clock has gone on meanwhile.
            self.standing.1 = Duration::ZERO;
            step(self.server.as_ref(), STEP + stood);
        } else {
            self.standing = (left.saturating_sub(STEP), stood + STEP);
        }
        step(Some(&self.operator_node), STEP);
        let (far, passed) = self.far;
        self.far.1 = passed + STEP;
        if self.far.1 >= far {
            step(Some(&self.phones), self.far.1);
            self.far.1 = Duration::ZERO;
        }
    }

    /// Runs something in the phones' hands while time passes for everybody.
    pub(crate) fn run<T: Send + 'static>(&mut self, what: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, mut outcome) = tokio::sync::oneshot::channel();
        let _inside = self.phones.enter();
        self.chassis.tasks.spawn("scene", async move {
            let _gone = sender.send(what.await);
        });
        for _ in 0..120_000 {
            if let Ok(outcome) = outcome.try_recv() {
                return outcome;
            }
            self.step();
        }
        panic!("two simulated minutes were not enough");
    }

    /// Makes something that needs the phones' runtime.
    pub(crate) fn inside<T>(&self, make: impl FnOnce() -> T) -> T {
        let _inside = self.phones.enter();
        make()
    }

    /// Starts something in the phones' hands.
    pub(crate) fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) {
        let _inside = self.phones.enter();
        self.chassis.tasks.spawn("phone", what);
    }
}
