//! The gateway's settings.

use std::net::SocketAddr;

use serde::Deserialize;

/// `[gateway]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect: gRPC and gRPC-Web.
    pub listen: SocketAddr,
    /// Whether the services may be looked up by reflection.
    pub reflection: bool,
}
