//! Every subject there is, on one page: what travels, who publishes it, who takes it. The page `docs/subjects.md` and what
//! a nats-server allows to whom are made from it.

use dialtone_proto::bus::v1 as bus;
use dialtone_vocab::NodeId;

use crate::Service::{self, Contacts, Gateway, Identity, Offline, Presence, Routing, Sms};
use crate::Subject;

/// The part of a pattern that stands for a process.
const NODE: &str = "{node}";
/// Every process, whatever lives in it.
const ALL: &[Service] = &Service::ALL;

/// How messages of a subject travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In batches, to the process that the subject names.
    Process,
    /// To one process of the service, which answers.
    Request,
    /// To every process of the services.
    Everybody,
}

/// A row of the subjects page.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The subject, with placeholders in braces.
    pub pattern: &'static str,
    /// What travels.
    pub message: &'static str,
    /// Who publishes.
    pub from: &'static [Service],
    /// Who subscribes.
    pub to: &'static [Service],
    /// How.
    pub way: Way,
    note: &'static str,
}

impl Row {
    /// The subject for every process, as a nats-server wants it.
    pub fn filter(&self) -> String {
        self.pattern.replace(NODE, "*")
    }

    /// Who publishes, in words.
    pub fn publishers(&self) -> String {
        words(self.from)
    }

    /// Who subscribes, in words.
    pub fn takers(&self) -> String {
        match self.way {
            Way::Process => words(self.to),
            Way::Request => format!("{} (group)", words(self.to)),
            Way::Everybody if self.to == ALL => words(self.to),
            Way::Everybody => format!("every {} process", words(self.to)),
        }
    }

    /// How, in words.
    pub fn how(&self) -> String {
        match (self.way, self.note) {
            (Way::Process, note) => format!("batches; {note}"),
            (Way::Request, "") => "request".to_owned(),
            (Way::Request, note) => format!("request; {note}"),
            (Way::Everybody, note) => note.to_owned(),
        }
    }
}

fn words(services: &[Service]) -> String {
    if services == ALL {
        return "every process".to_owned();
    }
    services.iter().map(|service| service.name()).collect::<Vec<_>>().join(", ")
}

macro_rules! node_subjects {
    ($($(#[$doc:meta])* $name:ident, $pattern:literal, $prefix:literal, $message:ident, $from:expr => $to:expr, $note:literal;)*) => {
        $($(#[$doc])*
        pub fn $name(node: &NodeId) -> Subject<bus::$message> {
            Subject::of(format!(concat!($prefix, "{}"), node), $pattern)
        })*
        const NODE_ROWS: &[Row] = &[$(Row {
            pattern: $pattern, message: stringify!($message), from: $from, to: $to, way: Way::Process, note: $note,
        },)*];
    };
}

macro_rules! fixed_subjects {
    ($($(#[$doc:meta])* $name:ident, $pattern:literal, $message:ident, $from:expr => $way:ident $to:expr, $note:literal;)*) => {
        $($(#[$doc])*
        pub const fn $name() -> Subject<bus::$message> {
            Subject::fixed($pattern)
        })*
        const FIXED_ROWS: &[Row] = &[$(Row {
            pattern: $pattern, message: stringify!($message), from: $from, to: $to, way: Way::$way, note: $note,
        },)*];
    };
}

node_subjects! {
    /// To the routing process that owns a sender's outbox.
    routing, "dialtone.routing.{node}", "dialtone.routing.", ToRouting, &[Gateway, Offline, Sms] => &[Routing],
        "sends, answers, watermarks and results are repeated until answered";
    /// To the offline process that owns a receiver's inbox.
    offline, "dialtone.offline.{node}", "dialtone.offline.", ToOffline, &[Gateway, Routing, Sms] => &[Offline],
        "offers are repeated until answered, acks are cumulative";
    /// To the presence process of a user.
    presence, "dialtone.presence.{node}", "dialtone.presence.", ToPresence,
        &[Gateway, Presence, Contacts] => &[Presence], "told once, leases repair";
    /// To the gateway at which a session is.
    gateway, "dialtone.gateway.{node}", "dialtone.gateway.", ToGateway, &[Routing, Offline, Presence] => &[Gateway],
        "frames are numbered, a new generation repairs";
    /// To the SMS process that asked.
    sms, "dialtone.sms.{node}", "dialtone.sms.", ToSms, &[Offline, Routing] => &[Sms],
        "answers to what sms repeats until answered";
}

fixed_subjects! {
    /// An SMS to be sent.
    sms_send, "dialtone.sms.send", SmsSubmit, &[Routing, Identity] => Request &[Sms],
        "answered once it is durable, taken once per message id";
    /// Whose is this SMS that came in.
    identity_mo, "dialtone.identity.mo", MoClaim, &[Sms] => Request &[Identity], "";
    /// A number got or lost its user.
    contacts_fact, "dialtone.contacts.fact", NumberFact, &[Identity] => Request &[Contacts], "repeated until answered";
    /// A user blocks or unblocks another.
    offline_fact, "dialtone.offline.fact", BlockFact, &[Contacts] => Request &[Offline], "repeated until answered";
    /// A session was ended.
    gateway_fact, "dialtone.gateway.fact", SessionEnded, &[Identity] => Everybody &[Gateway],
        "told once; tokens run out anyway";
    /// A process is alive and runs these services.
    heartbeat, "dialtone.cluster.heartbeat", Heartbeat, ALL => Everybody ALL, "every second";
    /// A process has renewed its lease, or given shards back.
    lease, "dialtone.cluster.lease", LeaseNews, &[Routing, Offline, Sms] => Everybody &[Routing, Offline, Sms],
        "twice a second; the store repairs";
}

/// Every subject.
pub fn all() -> impl Iterator<Item = &'static Row> {
    NODE_ROWS.iter().chain(FIXED_ROWS)
}

/// Whether the inbox of a process of this name would be a subject that is one for all.
pub fn is_taken(node: &NodeId) -> bool {
    let is_own =
        |fixed: &Row| NODE_ROWS.iter().any(|row| row.pattern.replace(NODE, node.as_str()) == fixed.pattern);
    FIXED_ROWS.iter().any(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_subjects_for_all_have_are_no_processes() {
        let taken = |name: &str| is_taken(&NodeId::new(name));
        assert!(taken("send") && taken("fact"));
        assert!(!taken("node-1") && !taken("sms") && !taken("mo"));
    }

    #[test]
    fn names_are_whole_tokens_under_one_root() {
        let node = NodeId::new("node-1");
        assert_eq!(routing(&node).name(), "dialtone.routing.node-1");
        assert_eq!(routing(&node).pattern(), "dialtone.routing.{node}");
        for row in all() {
            assert!(
                row.pattern.starts_with("dialtone.") && row.pattern.split('.').count() == 3,
                "{}",
                row.pattern
            );
        }
    }
}
