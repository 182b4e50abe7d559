//! A service of identity with its surroundings.

use std::time::Duration;

use dialtone_bus::{Bus, Delivery, Payload, Subscription, subjects};
use dialtone_chassis::{Channel, Chassis, Error, LocalRoutes, Secrets};
use dialtone_identity::Config;
use dialtone_proto::bus::v1::{MoClaim, MoClaimed, SmsSubmit, SmsTaken};
use dialtone_proto::identity::internal::v1::directory_client::DirectoryClient;
use dialtone_proto::identity::v1 as proto;
use dialtone_proto::identity::v1::account_client::AccountClient;
use dialtone_proto::identity::v1::check_code_response::Outcome as Checked;
use dialtone_proto::identity::v1::login_client::LoginClient;
use dialtone_proto::identity::v1::registration_client::RegistrationClient;
use dialtone_proto::types::v1::TypedNumber;
use dialtone_store::{MemoryDisk, StoreUrl};
use dialtone_vocab::Reason;
use ed25519_dalek::SigningKey;
use tokio::sync::mpsc;
use tonic::{Request, Status};

pub(crate) const ANNA: &str = "+14155550101";
pub(crate) const BEN: &str = "+14155550102";
pub(crate) const SERVICE: &str = "+18005550100";

/// Longer than the first pause between two SMS to a number.
pub(crate) const PAUSE: Duration = Duration::from_secs(31);

/// How long something may take that must come.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// One process with identity.
pub(crate) struct World {
    pub(crate) chassis: Chassis,
    pub(crate) bus: Bus,
    pub(crate) disk: MemoryDisk,
    pub(crate) secrets: Secrets,
    config: Config,
    routes: LocalRoutes,
    sms: mpsc::Receiver<SmsSubmit>,
}

pub(crate) async fn world() -> World {
    start(1_000).await
}

/// `prefix` codes may go to numbers of one prefix within an hour.
pub(crate) async fn start(prefix: u32) -> World {
    let config = Config { service_number: SERVICE.into(), prefix_sms_per_hour: prefix };
    open(Chassis::for_tests(7), MemoryDisk::new(), config).await
}

/// One over this disk.
pub(crate) async fn start_over(disk: MemoryDisk, prefix: u32) -> World {
    let config = Config { service_number: SERVICE.into(), prefix_sms_per_hour: prefix };
    open(Chassis::for_tests(7), disk, config).await
}

async fn open(chassis: Chassis, disk: MemoryDisk, config: Config) -> World {
    let bus = Bus::local(&chassis);
    let sms = sms_service(&chassis, &bus).await;
    begin(chassis, bus, sms, (StoreUrl::memory(&disk), disk), config).await
}

/// Two processes over one store, which is one that can be shared, and one bus; the first has the SMS service.
pub(crate) async fn two(url: StoreUrl) -> (World, World) {
    let config = Config { service_number: SERVICE.into(), prefix_sms_per_hour: 1_000 };
    let (one, other) = (Chassis::for_tests(7), Chassis::for_tests(8));
    let bus = Bus::local(&one);
    let sms = sms_service(&one, &bus).await;
    let store = (url, MemoryDisk::new());
    let first = begin(one, bus.clone(), sms, store.clone(), config.clone()).await;
    (first, begin(other, bus, mpsc::channel(1).1, store, config).await)
}

async fn begin(
    chassis: Chassis,
    bus: Bus,
    sms: mpsc::Receiver<SmsSubmit>,
    (url, disk): (StoreUrl, MemoryDisk),
    config: Config,
) -> World {
    let secrets = Secrets::for_tests();
    let identity = dialtone_identity::start(&chassis, &bus, &secrets, url, &config).await.expect("starts");
    World { routes: identity.routes, chassis, bus, disk, secrets, config, sms }
}

/// Takes every SMS.
async fn sms_service(chassis: &Chassis, bus: &Bus) -> mpsc::Receiver<SmsSubmit> {
    let mut asked = bus.subscribe_group(&subjects::sms_send(), "sms").await.expect("subscribed");
    let (sender, sms) = mpsc::channel(64);
    let stop = chassis.tasks.stop_token();
    chassis.tasks.spawn("sms", async move {
        while let Some(Some(submit)) = stop.run_until_cancelled(asked.next()).await {
            sender.send(submit.message.clone()).await.expect("the test reads");
            submit.reply(SmsTaken::default()).await;
        }
    });
    sms
}

pub(crate) fn typed(text: &str) -> Option<TypedNumber> {
    Some(TypedNumber { text: text.to_owned(), region: String::new() })
}

pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Reason {
    Error::from_status(&outcome.expect_err("refused")).reason
}

/// The refusal's reason and how long to wait.
pub(crate) fn wait<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Reason, Duration) {
    let error = Error::from_status(&outcome.expect_err("refused"));
    (error.reason, error.retry_after.expect("RetryInfo"))
}

pub(crate) fn device_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The code in an SMS.
pub(crate) fn code(sms: &SmsSubmit) -> String {
    let code: String = sms.text.chars().filter(char::is_ascii_digit).collect();
    assert_eq!(code.len(), 6, "six digits and no others");
    code
}

/// Another code than this one.
pub(crate) fn wrong(code: &str) -> String {
    let first = if code.starts_with('0') { '1' } else { '0' };
    format!("{first}{}", &code[1..])
}

/// A request with an access token.
pub(crate) fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    request
}

pub(crate) fn not_passed(left: u32) -> Checked {
    Checked::NotPassed(proto::NotPassed { attempts_left: left })
}

pub(crate) fn passed(number: &str) -> Checked {
    Checked::Passed(proto::check_code_response::Passed { number: number.to_owned() })
}

impl World {
    pub(crate) fn registration(&self) -> RegistrationClient<Channel> {
        RegistrationClient::new(Channel::Local(self.routes.clone()))
    }

    pub(crate) fn login(&self) -> LoginClient<Channel> {
        LoginClient::new(Channel::Local(self.routes.clone()))
    }

    pub(crate) fn account(&self) -> AccountClient<Channel> {
        AccountClient::new(Channel::Local(self.routes.clone()))
    }

    pub(crate) fn directory(&self) -> DirectoryClient<Channel> {
        DirectoryClient::new(Channel::Local(self.routes.clone()))
    }

    /// The process stops, and another one goes on with its disk; time goes on too.
    pub(crate) async fn restart(self) -> Self {
        let Self { chassis, disk, config, .. } = self;
        assert!(chassis.tasks.shutdown(Duration::from_secs(10)).await, "stops");
        let mut next = Chassis::for_tests(8);
        next.clock = chassis.clock.clone();
        open(next, disk, config).await
    }

    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }

    /// A new registration; without a number it is the one that texts.
    pub(crate) async fn create(&self, number: &str) -> proto::FlowState {
        let ask = proto::CreateSessionRequest { number: typed(number) };
        let answer = self.registration().create_session(ask).await.expect("opened").into_inner();
        answer.state.expect("a state")
    }

    /// What to text.
    pub(crate) async fn start_mo(&self, flow: &[u8]) -> Result<proto::StartMoResponse, Status> {
        let ask = proto::StartMoRequest { flow_id: flow.to_vec() };
        Ok(self.registration().start_mo(ask).await?.into_inner())
    }

    pub(crate) async fn send_code(&self, flow: &[u8]) -> Result<proto::FlowState, Status> {
        let ask = proto::SendCodeRequest { flow_id: flow.to_vec() };
        let answer = self.registration().send_code(ask).await?.into_inner();
        Ok(answer.state.expect("a state"))
    }

    pub(crate) async fn check(&self, flow: &[u8], code: &str) -> Result<Checked, Status> {
        let ask = proto::CheckCodeRequest { flow_id: flow.to_vec(), code: code.to_owned() };
        let answer = self.registration().check_code(ask).await?.into_inner();
        Ok(answer.outcome.expect("an outcome"))
    }

    /// How a flow stands.
    pub(crate) async fn state(&self, flow: &[u8]) -> proto::FlowState {
        let ask = proto::WatchSessionRequest { flow_id: flow.to_vec() };
        let mut states = self.registration().watch_session(ask).await.expect("watched").into_inner();
        states.message().await.expect("told").expect("a state")
    }

    pub(crate) async fn complete(
        &self,
        flow: &[u8],
        seed: u8,
        nickname: &str,
    ) -> Result<proto::Registered, Status> {
        let ask = proto::CompleteRequest {
            flow_id: flow.to_vec(),
            device_public_key: device_key(seed).verifying_key().as_bytes().to_vec(),
            device_name: "phone".into(),
            nickname: nickname.to_owned(),
        };
        let answer = self.registration().complete(ask).await?.into_inner();
        let Some(proto::complete_response::Outcome::Registered(registered)) = answer.outcome else {
            panic!("no outcome")
        };
        Ok(registered)
    }

    /// A whole registration by a code that we send.
    pub(crate) async fn register(&mut self, number: &str, seed: u8, nickname: &str) -> proto::Registered {
        let flow = self.create(number).await.flow_id;
        self.send_code(&flow).await.expect("sent");
        let code = code(&self.sms().await);
        assert_eq!(self.check(&flow, &code).await.expect("answered"), passed(number));
        self.complete(&flow, seed, nickname).await.expect("registered")
    }

    /// A phone texts the service; whether the text was a registration's.
    pub(crate) async fn text(&self, from: &str, text: &str) -> bool {
        let claim = MoClaim { from: from.to_owned(), to: SERVICE.into(), text: text.to_owned() };
        let within = Duration::from_secs(2);
        let asked = self.bus.request::<_, MoClaimed>(&subjects::identity_mo(), claim, within).await;
        asked.expect("answered").claimed
    }

    /// The next SMS that goes out.
    pub(crate) async fn sms(&mut self) -> SmsSubmit {
        let next = self.chassis.clock.timeout(SOON, self.sms.recv()).await;
        next.expect("an SMS goes out").expect("the SMS service runs")
    }

    /// No SMS goes out within ten seconds of the stopped clock.
    pub(crate) async fn no_sms(&mut self) {
        let waited = self.chassis.clock.timeout(Duration::from_secs(10), self.sms.recv()).await;
        assert!(waited.is_err(), "an SMS went out");
    }

    /// What comes next on a subscription.
    pub(crate) async fn next<M: Payload>(&self, subscription: &mut Subscription<M>) -> Delivery<M> {
        let next = self.chassis.clock.timeout(SOON, subscription.next()).await;
        next.expect("something comes").expect("the bus is open")
    }

    pub(crate) async fn request_code(&self, number: &str) -> Result<proto::FlowState, Status> {
        let ask = proto::RequestCodeRequest { number: typed(number) };
        let answer = self.login().request_code(ask).await?.into_inner();
        Ok(answer.state.expect("a state"))
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<proto::Tokens, Status> {
        let ask = proto::RefreshRequest { refresh: token.to_owned() };
        Ok(self.login().refresh(ask).await?.into_inner().tokens.expect("tokens"))
    }

    pub(crate) async fn get(&self, token: &str) -> Result<proto::GetResponse, Status> {
        Ok(self.account().get(with(token, proto::GetRequest {})).await?.into_inner())
    }
}
