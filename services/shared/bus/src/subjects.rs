//! Every subject there is, on one page.

use dialtone_proto::bus::v1 as bus;
use dialtone_vocab::NodeId;

use crate::Subject;

/// A row of the subjects page.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The subject, with placeholders in braces.
    pub pattern: &'static str,
    /// What travels.
    pub message: &'static str,
    /// Who publishes.
    pub from: &'static str,
    /// Who subscribes.
    pub to: &'static str,
    /// How.
    pub how: &'static str,
}

macro_rules! node_subjects {
    ($($(#[$doc:meta])* $name:ident, $pattern:literal, $prefix:literal, $message:ident, $from:literal, $to:literal, $how:literal;)*) => {
        $($(#[$doc])*
        pub fn $name(node: &NodeId) -> Subject<bus::$message> {
            Subject::of(format!(concat!($prefix, "{}"), node), $pattern)
        })*
        const NODE_ROWS: &[Row] = &[$(Row { pattern: $pattern, message: stringify!($message), from: $from, to: $to, how: $how },)*];
    };
}

macro_rules! fixed_subjects {
    ($($(#[$doc:meta])* $name:ident, $pattern:literal, $message:ident, $from:literal, $to:literal, $how:literal;)*) => {
        $($(#[$doc])*
        pub const fn $name() -> Subject<bus::$message> {
            Subject::fixed($pattern)
        })*
        const FIXED_ROWS: &[Row] = &[$(Row { pattern: $pattern, message: stringify!($message), from: $from, to: $to, how: $how },)*];
    };
}

node_subjects! {
    /// To the routing process that owns a sender's outbox.
    routing, "dialtone.routing.{node}", "dialtone.routing.", ToRouting,
        "gateway, offline, sms", "routing", "batches; sends, answers, watermarks and results are repeated until answered";
    /// To the offline process that owns a receiver's inbox.
    offline, "dialtone.offline.{node}", "dialtone.offline.", ToOffline,
        "gateway, routing, sms", "offline", "batches; offers are repeated until answered, acks are cumulative";
    /// To the presence process of a user.
    presence, "dialtone.presence.{node}", "dialtone.presence.", ToPresence,
        "gateway, presence, contacts", "presence", "batches; told once, leases repair";
    /// To the gateway at which a session is.
    gateway, "dialtone.gateway.{node}", "dialtone.gateway.", ToGateway,
        "routing, offline, presence", "gateway", "batches; frames are numbered, a new generation repairs";
    /// To the SMS process that asked.
    sms, "dialtone.sms.{node}", "dialtone.sms.", ToSms,
        "offline, routing", "sms", "batches; answers to what sms repeats until answered";
}

fixed_subjects! {
    /// An SMS to be sent.
    sms_send, "dialtone.sms.send", SmsSubmit, "routing, identity", "sms (group)", "request; answered once it is durable, taken once per message id";
    /// Whose is this SMS that came in.
    identity_mo, "dialtone.identity.mo", MoClaim, "sms", "identity (group)", "request";
    /// A number got or lost its user.
    contacts_fact, "dialtone.contacts.fact", NumberFact, "identity", "contacts (group)", "request, repeated until answered";
    /// A user blocks or unblocks another.
    offline_fact, "dialtone.offline.fact", BlockFact, "contacts", "offline (group)", "request, repeated until answered";
    /// A session was ended.
    gateway_fact, "dialtone.gateway.fact", SessionEnded, "identity", "every gateway", "told once; tokens run out anyway";
    /// A process is alive and runs these services.
    heartbeat, "dialtone.cluster.heartbeat", Heartbeat, "every process", "every process", "every second";
    /// A process has renewed its lease, or given shards back.
    lease, "dialtone.cluster.lease", LeaseNews, "routing, offline, sms", "routing, offline, sms", "twice a second; the store repairs";
}

/// Every subject, for `docs/subjects.md`.
pub fn all() -> impl Iterator<Item = &'static Row> {
    NODE_ROWS.iter().chain(FIXED_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

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
