//! The generated code of every proto under `proto/dialtone`: the public API, what services ask each other, what
//! they tell each other over the bus, and what stands in the logs.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated code")]
#![allow(
    clippy::semicolon_if_nothing_returned,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    reason = "generated code"
)]

/// All protos as a `FileDescriptorSet`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/dialtone.bin"));

macro_rules! package {
    ($($path:ident)::+ = $name:literal) => { package!(@nest [$($path)*] $name); };
    (@nest [$head:ident $($rest:ident)+] $name:literal) => { pub mod $head { package!(@nest [$($rest)+] $name); } };
    (@nest [$head:ident] $name:literal) => { pub mod $head { tonic::include_proto!($name); } };
}

pub mod types {
    package!(v1 = "dialtone.types.v1");
}
pub mod edge {
    package!(v1 = "dialtone.edge.v1");
}
pub mod identity {
    package!(v1 = "dialtone.identity.v1");
    pub mod internal {
        package!(v1 = "dialtone.identity.internal.v1");
    }
}
pub mod contacts {
    package!(v1 = "dialtone.contacts.v1");
    pub mod internal {
        package!(v1 = "dialtone.contacts.internal.v1");
    }
}
pub mod presence {
    package!(v1 = "dialtone.presence.v1");
}
pub mod routing {
    package!(v1 = "dialtone.routing.v1");
}
pub mod offline {
    package!(v1 = "dialtone.offline.v1");
}
pub mod sms {
    pub mod internal {
        package!(v1 = "dialtone.sms.internal.v1");
    }
    pub mod sim {
        package!(v1 = "dialtone.sms.sim.v1");
    }
}
pub mod bus {
    package!(v1 = "dialtone.bus.v1");
}
pub mod log {
    package!(v1 = "dialtone.log.v1");
}
