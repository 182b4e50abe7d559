//! What the users of a shared nats-server may do, tried on one: every service and subject, both ways.

use std::fs;
use std::path::PathBuf;

use dialtone_bus::subjects::{self, Row, Way};
use dialtone_bus::users::{Password, User, inbox, server_config};
use dialtone_bus::{Bus, BusConfig, BusError, Login, Service};
use dialtone_chassis::Chassis;
use dialtone_proto::bus::v1::{MoClaim, MoClaimed};
use dialtone_testkit::Nats;
use dialtone_vocab::NodeId;
use std::time::Duration;
use tempfile::TempDir;

use crate::wire::Wire;

/// A user that may do everything, to see what passes; no service has it.
const OVERSEER: &str = "overseer";

fn user(name: &str, services: &[Service]) -> User {
    User { name: name.into(), services: services.to_vec(), password: Password::Text(word(name)) }
}

/// A password of a user.
fn word(name: &str) -> String {
    format!("word-of-{name}")
}

/// A server with a user for each service, these others, and the overseer.
fn server(what: &str, others: &[User]) -> Option<(Nats, TempDir)> {
    let own = Service::ALL.map(|service| user(service.name(), &[service]));
    let users: Vec<User> = own.into_iter().chain(others.iter().cloned()).collect();
    let overseer = format!("  users: [\n    {{ user: {OVERSEER}, password: \"{}\" }}\n", word(OVERSEER));
    let config = server_config(&users, None).replacen("  users: [\n", &overseer, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("nats.conf");
    fs::write(&path, config).expect("written");
    Some((Nats::start_own(what, Some(&path))?, folder))
}

fn wire(server: &Nats, name: &str) -> Wire {
    Wire::connect(server.url(), name, &word(name))
}

/// A subject of the row as a process would name it.
fn concrete(row: &Row) -> String {
    row.pattern.replace("{node}", "node-1")
}

/// Two connections: of the user that is tried, and of the overseer.
struct Trial {
    user: Wire,
    overseer: Wire,
}

impl Trial {
    fn of(server: &Nats, name: &str) -> Self {
        let mut overseer = wire(server, OVERSEER);
        overseer.subscribe(">", "", 1);
        assert!(overseer.settle().errors.is_empty());
        Self { user: wire(server, name), overseer }
    }

    /// Whether what the user publishes arrives; the server says so if it does not.
    fn may_publish(&mut self, subject: &str) -> bool {
        self.user.publish(subject, "");
        let refused = !self.user.settle().errors.is_empty();
        let arrived = self.overseer.settle().messages.iter().any(|(name, _)| name == subject);
        assert_ne!(refused, arrived, "{subject}: it arrives, or it is refused");
        arrived
    }

    /// Whether what others publish to `probe` reaches the user once it subscribes this.
    fn may_subscribe(&mut self, subject: &str, group: &str, probe: &str) -> bool {
        self.user.subscribe(subject, group, 7);
        let refused = !self.user.settle().errors.is_empty();
        self.overseer.publish(probe, "");
        self.overseer.settle();
        let heard = self.user.settle().messages.iter().any(|(name, _)| name == probe);
        self.user.unsubscribe(7);
        assert_ne!(refused, heard, "{subject} {group}: it is heard, or it is refused");
        heard
    }
}

/// Where the server lets `name` do something else than the page says of `services`.
fn complaints(server: &Nats, name: &str, services: &[Service]) -> Vec<String> {
    let mut trial = Trial::of(server, name);
    let mut found = Vec::new();
    let mut compare = |what: String, may: bool, should: bool| {
        if may != should {
            found.push(format!("{name} {} {what}", if may { "may" } else { "may not" }));
        }
    };
    let lives = |of: &[Service]| services.iter().any(|service| of.contains(service));
    for row in subjects::all() {
        let subject = concrete(row);
        compare(format!("publish {subject}"), trial.may_publish(&subject), lives(row.from));
        let alone = lives(row.to) && (row.way != Way::Request || is_caught(row));
        compare(format!("subscribe {subject}"), trial.may_subscribe(&subject, "", &subject), alone);
        for group in Service::ALL {
            let is_theirs = row.to == [group] || row.way != Way::Request;
            let may = trial.may_subscribe(&subject, group.name(), &subject);
            compare(format!("subscribe {subject} in the group {group}"), may, lives(row.to) && is_theirs);
        }
    }
    let (own, answer) = (format!("{}.>", inbox(name)), format!("{}.1.a", inbox(name)));
    compare(format!("subscribe {own}"), trial.may_subscribe(&own, "", &answer), true);
    compare(format!("publish {answer}"), trial.may_publish(&answer), true);
    for (subject, probe) in forbidden(name) {
        compare(format!("subscribe {subject}"), trial.may_subscribe(&subject, "", &probe), false);
        compare(format!("publish {probe}"), trial.may_publish(&probe), false);
    }
    found
}

/// Whether who takes it also takes `dialtone.<service>.*`: then the server can't tell the group from the process.
fn is_caught(row: &Row) -> bool {
    let (service, _) = row.pattern.rsplit_once('.').expect("tokens");
    subjects::all().any(|other| {
        other.way == Way::Process && other.to == row.to && other.filter() == format!("{service}.*")
    })
}

/// What nobody may subscribe, and what would be heard there; nobody may publish that either.
fn forbidden(name: &str) -> Vec<(String, String)> {
    let pair = |subject: &str, probe: &str| (subject.to_owned(), probe.to_owned());
    let mut all = vec![
        pair(">", "anything"),
        pair("*.>", "any.thing"),
        pair("dialtone.>", "dialtone.some.thing.else"),
        pair("dialtone.*.*", "dialtone.some.thing"),
        pair("_INBOX.>", "_INBOX.1.a"),
        pair("$JS.API.>", "$JS.API.INFO"),
        pair("$JS.ACK.>", "$JS.ACK.1"),
        pair("$SYS.>", "$SYS.REQ.SERVER.PING"),
    ];
    for other in Service::ALL.into_iter().filter(|other| other.name() != name) {
        let inbox = inbox(other.name());
        all.push((format!("{inbox}.>"), format!("{inbox}.1.a")));
        all.push((format!("{inbox}.1.b"), format!("{inbox}.1.b")));
    }
    all
}

#[test]
fn every_service_may_do_what_the_page_says_and_nothing_else() {
    let core = [Service::Identity, Service::Contacts];
    let others = [user("core", &core), user("all", &Service::ALL)];
    let Some((server, _folder)) = server("who may do what on a nats-server", &others) else { return };
    for service in Service::ALL {
        assert_eq!(complaints(&server, service.name(), &[service]), [""; 0]);
    }
    assert_eq!(complaints(&server, "core", &core), [""; 0]);
    assert_eq!(complaints(&server, "all", &Service::ALL), [""; 0]);
}

#[test]
fn a_user_with_too_much_or_too_little_is_found() {
    let much = user("much", &[Service::Gateway, Service::Sms]);
    let Some((server, _folder)) = server("users with too much", &[much]) else { return };
    let found = complaints(&server, "much", &[Service::Gateway]);
    for one in [
        "much may publish dialtone.identity.mo",
        "much may subscribe dialtone.sms.node-1",
        "much may subscribe dialtone.sms.send in the group sms",
    ] {
        assert!(found.iter().any(|complaint| complaint == one), "{one}: {found:#?}");
    }
    let found = complaints(&server, "much", &[Service::Gateway, Service::Sms, Service::Identity]);
    assert!(found.contains(&"much may not publish dialtone.gateway.fact".to_owned()), "{found:#?}");
    let found = complaints(&server, OVERSEER, &Service::ALL);
    for one in [">", "dialtone.>", "_INBOX_routing.>", "$JS.API.>", "dialtone.identity.mo"] {
        assert!(found.contains(&format!("{OVERSEER} may subscribe {one}")), "{one}: {found:#?}");
    }
}

#[test]
fn who_is_asked_answers_once_and_nobody_else_hears_or_answers() {
    let Some((server, _folder)) = server("answers over a nats-server", &[]) else { return };
    for row in subjects::all().filter(|row| row.way == Way::Request) {
        let taker = row.to[0].name();
        for asker in row.from.iter().map(|service| service.name()) {
            let (mut asks, mut answers) = (wire(&server, asker), wire(&server, taker));
            answers.subscribe(row.pattern, taker, 1);
            answers.settle();
            let reply = format!("{}.1.a", inbox(asker));
            asks.subscribe(&format!("{}.1.*", inbox(asker)), "", 1);
            asks.publish(row.pattern, &reply);
            assert_eq!(asks.settle().errors, [""; 0]);
            let asked = answers.settle();
            assert_eq!(asked.messages, [(row.pattern.to_owned(), Some(reply.clone()))], "{asker} → {taker}");

            let others = Service::ALL.into_iter().filter(|other| ![asker, taker].contains(&other.name()));
            for other in others {
                let mut forger = wire(&server, other.name());
                forger.publish(&reply, "");
                assert_eq!(forger.settle().errors.len(), 1, "{other} answers for {taker}");
            }
            assert_eq!(asks.settle().messages, []);

            answers.publish(&reply, "");
            assert_eq!(answers.settle().errors, [""; 0]);
            assert_eq!(asks.settle().messages, [(reply.clone(), None)]);
            answers.publish(&reply, "");
            assert_eq!(answers.settle().errors.len(), 1, "{taker} answers twice");
        }
    }
}

/// The bus of a service that logs in.
async fn bus(
    server: &Nats,
    folder: &TempDir,
    name: &str,
    password: &str,
) -> Result<(Bus, Chassis), BusError> {
    let password_file = folder.path().join(name);
    fs::write(&password_file, format!("{password}\n")).expect("written");
    let login = Some(Login { user: name.into(), password_file });
    let config = BusConfig { login, ..BusConfig::at(server.url()) };
    let chassis = Chassis::real(NodeId::new(name));
    Ok((Bus::connect(&config, &chassis).await?, chassis))
}

#[tokio::test]
async fn services_that_log_in_ask_and_answer() {
    let Some((server, folder)) = server("requests of users", &[]) else { return };
    let (sms, _) = bus(&server, &folder, "sms", &word("sms")).await.expect("let in");
    let (identity, _) = bus(&server, &folder, "identity", &word("identity")).await.expect("let in");
    let mut door = identity.subscribe_group(&subjects::identity_mo(), "identity").await.expect("subscribed");
    for text in ["one", "two"] {
        let claim = MoClaim { text: text.into(), ..Default::default() };
        let subject = subjects::identity_mo();
        let asking = sms.request::<_, MoClaimed>(&subject, claim, Duration::from_secs(10));
        let answering = async {
            let asked = door.next().await.expect("open");
            assert_eq!(asked.message.text, text);
            asked.reply(MoClaimed { claimed: true }).await;
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer, Ok(MoClaimed { claimed: true }), "{text}");
    }
}

#[tokio::test]
async fn a_process_that_may_not_hear_its_subjects_is_not_ready() {
    let Some((server, folder)) = server("what is forbidden", &[]) else { return };
    let (bus, chassis) = bus(&server, &folder, "presence", &word("presence")).await.expect("let in");
    assert!(chassis.ready.is_ready());
    let _deaf = bus.subscribe(&subjects::routing(&chassis.node)).await.expect("the client does not know");
    let clock = chassis.clock.clone();
    let told = async {
        while chassis.ready.is_ready() {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    chassis.clock.timeout(Duration::from_secs(10), told).await.expect("it is no longer ready");
    let report = chassis.ready.report();
    let why = report[0].1.as_deref().expect("why");
    assert!(why.contains("dialtone.routing.presence"), "{why}");
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_once_and_the_setting_named() {
    let Some((server, folder)) = server("wrong passwords", &[]) else { return };
    let refused = |outcome: Result<(Bus, Chassis), BusError>| match outcome.err() {
        Some(BusError::Connect(why)) => why,
        other => panic!("not refused: {other:?}"),
    };
    let why = refused(bus(&server, &folder, "sms", "word-of-identity").await);
    assert!(why.contains("bus.password_file") && why.contains("sms") && !why.contains("word-of"), "{why}");
    let why = refused(bus(&server, &folder, "nobody", "x").await);
    assert!(why.contains("bus.password_file"), "{why}");
    let why = refused(bus(&server, &folder, "sms", " ").await);
    assert!(why.contains("bus.password_file") && why.contains("no password"), "{why}");

    let chassis = Chassis::real(NodeId::new("x"));
    let open = BusConfig::at(server.url());
    let why = refused(Bus::connect(&open, &chassis).await.map(|bus| (bus, chassis.clone())));
    assert!(why.contains("bus.user"), "{why}");
    let login = Some(Login { user: "sms".into(), password_file: PathBuf::from("/nowhere") });
    let lost = BusConfig { login, ..open };
    let why = refused(Bus::connect(&lost, &chassis).await.map(|bus| (bus, chassis.clone())));
    assert!(why.contains("bus.password_file: /nowhere"), "{why}");
}
