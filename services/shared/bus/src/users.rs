//! Who may do what on a nats-server that others use too: a user a process's services, with what the subjects page says
//! and nothing else, and the server's configuration for such users.
//!
//! ```text
//!   subjects::all() ──► Grants of a set of services ──► server_config() ──► nats-server -c FILE
//!   asks on a subject          and hears answers on its own _INBOX_<user>.> alone
//!   answers on a subject       and may publish once to the inbox that a request names, for a minute
//! ```
//! No user has the inbox of another in its grants: it can neither hear the answers to others nor answer what it was not
//! asked.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::Service;
use crate::limits::{ANSWER_SECONDS, MAX_MESSAGE};
use crate::subjects::{self, Row, Way};

/// What every inbox begins with.
pub(crate) const INBOX: &str = "_INBOX";
/// The longest name of a user.
const NAME_CHARS: usize = 63;

/// The inbox of a user of a nats-server: where answers to it come.
pub fn inbox(user: &str) -> String {
    format!("{INBOX}_{user}")
}

/// Whether a user may have this name: it is a part of subjects.
pub fn is_user_name(name: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=NAME_CHARS).contains(&name.len()) && name.chars().all(is_fine)
}

/// Whether this can be a password in the server's configuration: there it must be neither escaped nor taken for a hash.
pub fn is_password(text: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_graphic() && c != '"' && c != '\\';
    !text.is_empty() && !text.starts_with('$') && text.chars().all(is_fine)
}

/// What a user may publish and subscribe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Subjects to publish to.
    pub publish: BTreeSet<String>,
    /// Of those not these.
    pub publish_not: BTreeSet<String>,
    /// Subjects to subscribe, with the group after a space if it must be in that.
    pub subscribe: BTreeSet<String>,
    /// Of those not these.
    pub subscribe_not: BTreeSet<String>,
    /// Whether it may answer requests.
    pub answers: bool,
}

impl Grants {
    /// Of a user in whose processes these services live.
    pub fn of(user: &str, services: &[Service]) -> Self {
        let lives = |of: &[Service]| services.iter().any(|service| of.contains(service));
        // Whoever asks hears answers there, and whoever subscribes hears itself, and so that the server has read it.
        let own = BTreeSet::from([format!("{}.>", inbox(user))]);
        let mut grants = Self { publish: own.clone(), subscribe: own, ..Self::default() };
        let (mut publishes, mut subscribes) = (Vec::new(), Vec::new());
        for row in subjects::all() {
            if lives(row.from) {
                publishes.push(row);
                grants.publish.insert(row.filter());
            }
            for taker in row.to.iter().filter(|taker| services.contains(taker)) {
                subscribes.push(row);
                grants.answers |= row.way == Way::Request;
                grants.subscribe.insert(match row.way {
                    Way::Request => format!("{} {taker}", row.filter()),
                    Way::Process | Way::Everybody => row.filter(),
                });
            }
        }
        grants.publish_not = caught(&publishes);
        grants.subscribe_not = caught(&subscribes);
        grants
    }
}

/// Subjects that a filter among `allowed` catches without their being allowed themselves: `dialtone.sms.*` is every
/// process, and `dialtone.sms.send` is none.
fn caught(allowed: &[&Row]) -> BTreeSet<String> {
    let is_allowed = |row: &Row| allowed.iter().any(|other| other.pattern == row.pattern);
    let others = subjects::all().filter(|row| row.way != Way::Process && !is_allowed(row));
    let is_caught = |row: &&Row| allowed.iter().any(|filter| catches(&filter.filter(), row.pattern));
    others.filter(is_caught).map(|row| row.pattern.to_owned()).collect()
}

fn catches(filter: &str, subject: &str) -> bool {
    let head = filter.strip_suffix('*').and_then(|head| subject.strip_prefix(head));
    head.is_some_and(|token| !token.contains('.'))
}

/// How a configuration says a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// As it is; see [`is_password`].
    Text(String),
    /// By the variable of the server's environment that holds it.
    Variable(String),
}

/// A user of a nats-server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What lives in its processes.
    pub services: Vec<Service>,
    /// Its password.
    pub password: Password,
}

/// A certificate and its key, PEM, for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The configuration of a nats-server for these users and nobody else. Where it listens is left to its command line, or
/// to a configuration that includes this one.
pub fn server_config(users: &[User], tls: Option<&ServerTls>) -> String {
    let mut config = String::from(
        "# Made by `dialtone nats-config` from the page of subjects: make it anew with every version of Dialtone.\n",
    );
    writeln!(config, "max_payload: {MAX_MESSAGE}").expect("a string");
    if let Some(ServerTls { certificate, key }) = tls {
        let (certificate, key) = (certificate.display(), key.display());
        writeln!(config, "tls {{\n  cert_file: \"{certificate}\"\n  key_file: \"{key}\"\n}}")
            .expect("a string");
    }
    config.push_str("authorization {\n  users: [\n");
    for user in users {
        config.push_str(&entry(user));
    }
    config.push_str("  ]\n}\n");
    config
}

fn entry(user: &User) -> String {
    let grants = Grants::of(&user.name, &user.services);
    let services: Vec<_> = user.services.iter().map(|service| service.name()).collect();
    let password = match &user.password {
        Password::Text(text) => format!("\"{text}\""),
        Password::Variable(name) => format!("${name}"),
    };
    let mut entry = format!(
        "    # {}\n    {{\n      user: \"{}\"\n      password: {password}\n      permissions: {{\n",
        services.join(", "),
        user.name,
    );
    for (what, allow, deny) in [
        ("publish", &grants.publish, &grants.publish_not),
        ("subscribe", &grants.subscribe, &grants.subscribe_not),
    ] {
        writeln!(entry, "        {what}: {{\n          allow: [{}]", list(allow)).expect("a string");
        if !deny.is_empty() {
            writeln!(entry, "          deny: [{}]", list(deny)).expect("a string");
        }
        entry.push_str("        }\n");
    }
    if grants.answers {
        writeln!(entry, "        allow_responses: {{ max: 1, expires: \"{ANSWER_SECONDS}s\" }}")
            .expect("a string");
    }
    entry.push_str("      }\n    }\n");
    entry
}

fn list(subjects: &BTreeSet<String>) -> String {
    subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(subjects: &[&str]) -> BTreeSet<String> {
        subjects.iter().map(|subject| (*subject).to_owned()).collect()
    }

    #[test]
    fn who_asks_hears_its_own_inbox_and_who_is_asked_only_shares() {
        let grants = Grants::of("identity", &[Service::Identity]);
        assert!(grants.answers);
        let own = ["_INBOX_identity.>", "dialtone.cluster.heartbeat", "dialtone.identity.mo identity"];
        assert_eq!(grants.subscribe, set(&own));
        let gateway = Grants::of("gateway", &[Service::Gateway]);
        assert!(!gateway.answers && !gateway.subscribe.contains(own[0]));
    }

    #[test]
    fn what_stands_for_processes_does_not_stand_for_what_is_nobodys() {
        let offline = Grants::of("offline", &[Service::Offline]);
        assert!(
            offline.publish.contains("dialtone.sms.*") && offline.publish_not.contains("dialtone.sms.send")
        );
        let routing = Grants::of("routing", &[Service::Routing]);
        assert!(
            routing.publish.contains("dialtone.sms.send")
                && !routing.publish_not.contains("dialtone.sms.send")
        );
        let both = Grants::of("both", &[Service::Offline, Service::Routing]);
        assert!(!both.publish_not.contains("dialtone.sms.send"), "one of them may");
    }

    #[test]
    fn of_several_services_a_user_has_what_each_of_them_has() {
        let of = |services: &[Service]| Grants::of("one", services);
        let (one, other) = (of(&[Service::Identity]), of(&[Service::Contacts]));
        let both = of(&[Service::Identity, Service::Contacts]);
        assert_eq!(both.publish, &one.publish | &other.publish);
        assert_eq!(both.subscribe, &one.subscribe | &other.subscribe);
        let inbox = 1;
        assert_eq!(of(&Service::ALL).publish.len(), subjects::all().count() + inbox, "all have all there is");
    }

    #[test]
    fn names_and_passwords_are_what_the_configuration_takes() {
        for name in ["sms", "core-1", &"x".repeat(63)] {
            assert!(is_user_name(name), "{name}");
        }
        for name in ["", "Sms", "a.b", "a b", ">", "*", "\"", &"x".repeat(64)] {
            assert!(!is_user_name(name), "{name}");
        }
        for (password, fits) in [("s3cr#t$", true), ("", false), ("$2a$11$x", false), ("a\"b", false)] {
            assert_eq!(is_password(password), fits, "{password}");
        }
        assert!(!is_password("a b") && !is_password("a\\b") && !is_password("ä"));
    }
}
