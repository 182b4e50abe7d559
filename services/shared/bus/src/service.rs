//! Who is on the bus.

use std::fmt;

/// What may live in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The door.
    Gateway,
    /// Who you are.
    Identity,
    /// Whom you know.
    Contacts,
    /// Who is there.
    Presence,
    /// What becomes of what I send.
    Routing,
    /// What waits for me.
    Offline,
    /// The old network.
    Sms,
    /// The embedded SMS centre.
    Centre,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Gateway,
        Self::Identity,
        Self::Contacts,
        Self::Presence,
        Self::Routing,
        Self::Offline,
        Self::Sms,
        Self::Centre,
    ];

    /// As `dialtone run` names it, and its processes' group on subjects of which they share the messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Identity => "identity",
            Self::Contacts => "contacts",
            Self::Presence => "presence",
            Self::Routing => "routing",
            Self::Offline => "offline",
            Self::Sms => "sms",
            Self::Centre => "centre",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
