//! The embedded SMS centre: a real SMPP 3.4 server with simulated handsets. The bridge binds to it like to any
//! operator; every SMS between bridge and handset crosses SMPP.

mod bind;
mod handsets;
mod rpc;

use std::net::SocketAddr;
use std::sync::Arc;

use dialtone_chassis::Chassis;
use dialtone_proto::sms::sim::v1::Sms;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::service::Routes;

use crate::limits::CENTRE_BINDS;
use handsets::Network;

/// `[centre]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the SMPP server listens.
    pub listen: SocketAddr,
    /// Numbers that belong to whoever is bound, not to handsets.
    pub service_numbers: Vec<String>,
    /// The password a bind must have.
    pub password: String,
}

/// A running centre.
#[derive(Clone)]
pub struct Centre {
    chassis: Chassis,
    network: Network,
    password: String,
    binds: Arc<Semaphore>,
}

impl Centre {
    /// A centre that nobody can reach yet.
    pub fn new(chassis: &Chassis, config: &Config) -> Self {
        Self {
            chassis: chassis.clone(),
            network: Network::start(chassis, config.service_numbers.clone()),
            password: config.password.clone(),
            binds: Arc::new(Semaphore::new(CENTRE_BINDS)),
        }
    }

    /// `sms.sim.v1.Handsets`, for the operations port.
    pub fn handsets(&self) -> Routes {
        rpc::routes(self.network.clone())
    }

    /// What lies on a handset, oldest first.
    pub async fn sms_of(&self, number: &str) -> Vec<Sms> {
        self.network.list(number.to_owned()).await
    }

    /// Takes binds on a port.
    pub fn listen(&self, listener: TcpListener) {
        self.chassis.tasks.spawn("centre accept", self.clone().accept(listener));
    }

    async fn accept(self, listener: TcpListener) {
        let stop = self.chassis.tasks.stop_token();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.serve(stream),
                    Err(error) => tracing::warn!(%error, "a connection was not accepted"),
                },
            }
        }
    }

    /// Serves one connection; too many are closed at once.
    pub fn serve(&self, wire: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Ok(slot) = self.binds.clone().try_acquire_owned() else {
            tracing::warn!("too many connections to the SMS centre");
            return;
        };
        let (chassis, network, password) =
            (self.chassis.clone(), self.network.clone(), self.password.clone());
        self.chassis.tasks.spawn("centre bind", async move {
            bind::serve(chassis, network, password, wire).await;
            drop(slot);
        });
    }
}
