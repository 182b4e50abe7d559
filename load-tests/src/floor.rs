//! The floor: the least that any gRPC messenger must do with the same frames. A bare tonic relay that answers a send
//! with ACCEPTED, passes the message on and an ack back as a receipt. No tokens, no logs, no store, no actors, one hop.
//!
//! Users are numbered by their bearer token; 2n writes to 2n + 1.

use std::pin::Pin;
use std::sync::{Arc, RwLock};

use anyhow::{Context, Result};
use dialtone_proto::edge::v1::client_frame::Frame as Up;
use dialtone_proto::edge::v1::server_frame::Frame as Down;
use dialtone_proto::edge::v1::session_server::{Session, SessionServer};
use dialtone_proto::edge::v1::{CaughtUp, ClientFrame, Receipt, ServerFrame, Welcome};
use dialtone_proto::offline::v1::Message;
use dialtone_proto::routing::v1::Accepted;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Frames waiting for one stream.
const QUEUE: usize = 256;

type Out = mpsc::Sender<Result<ServerFrame, Status>>;

#[derive(Clone, Default)]
struct Relay(Arc<RwLock<Vec<Option<Out>>>>);

/// Serves on a free port, which is its first line of output, until it is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("a free port")?;
    println!("http://{}", listener.local_addr()?);
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(SessionServer::new(Relay::default()))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .context("the relay")
}

fn frame(frame: Down) -> Result<ServerFrame, Status> {
    Ok(ServerFrame { frame: Some(frame) })
}

impl Relay {
    fn enter(&self, user: usize, out: Out) {
        let mut users = self.0.write().expect("nobody panics while holding it");
        if users.len() <= user {
            users.resize(user + 1, None);
        }
        users[user] = Some(out);
    }

    async fn tell(&self, user: usize, down: Down) {
        let out = self.0.read().expect("nobody panics while holding it").get(user).cloned().flatten();
        if let Some(out) = out {
            // Whoever left is told nothing.
            drop(out.send(frame(down)).await);
        }
    }

    async fn take(&self, user: usize, up: Up, sent: &mut u64, passed_on: &mut u64) {
        let partner = user ^ 1;
        match up {
            Up::Hello(_) => {
                self.tell(user, Down::Welcome(Welcome::default())).await;
                self.tell(user, Down::CaughtUp(CaughtUp::default())).await;
            }
            Up::Send(request) => {
                *sent += 1;
                let message_id = vec![0; 16];
                let accepted = Accepted {
                    client_seq: request.client_seq,
                    message_id: message_id.clone(),
                    sent_idx: *sent,
                    ..Default::default()
                };
                self.tell(user, Down::Accepted(accepted)).await;
                *passed_on += 1;
                let message =
                    Message { idx: *passed_on, message_id, body: request.body, ..Default::default() };
                self.tell(partner, Down::Message(message)).await;
            }
            Up::Ack(ack) => {
                let receipt = Receipt { delivered_sent_idx: ack.idx, ..Default::default() };
                self.tell(partner, Down::Receipt(receipt)).await;
            }
            _ => {}
        }
    }
}

#[tonic::async_trait]
impl Session for Relay {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ServerFrame, Status>> + Send>>;

    #[expect(clippy::disallowed_methods, reason = "the floor is tonic and tokio, bare")]
    async fn connect(
        &self,
        request: Request<Streaming<ClientFrame>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let token = request.metadata().get("authorization").and_then(|token| token.to_str().ok());
        let user = token.and_then(|token| token.strip_prefix("Bearer ")?.parse::<usize>().ok());
        let user = user.ok_or_else(|| Status::unauthenticated("a number as token"))?;
        let (out, frames) = mpsc::channel(QUEUE);
        self.enter(user, out);
        let relay = self.clone();
        let mut frames_up = request.into_inner();
        tokio::spawn(async move {
            let (mut sent, mut passed_on) = (0, 0);
            while let Ok(Some(ClientFrame { frame: Some(up) })) = frames_up.message().await {
                relay.take(user, up, &mut sent, &mut passed_on).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}
