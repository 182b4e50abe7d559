//! What phones have before gateways: one address, behind which is whichever answers, as a balancer of connections does it.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Listens on a free port; each connection goes to the first of these that takes it. URL of the address.
pub(crate) async fn before(gateways: Vec<SocketAddr>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((phone, _)) = listener.accept().await {
            tokio::spawn(carry(phone, gateways.clone()));
        }
    });
    url
}

async fn carry(mut phone: TcpStream, gateways: Vec<SocketAddr>) {
    for gateway in gateways {
        if let Ok(mut gateway) = TcpStream::connect(gateway).await {
            // Small frames are not to wait for company on their way.
            let _only_slower = (phone.set_nodelay(true), gateway.set_nodelay(true));
            let _either_end_has_gone = copy_bidirectional(&mut phone, &mut gateway).await;
            return;
        }
    }
}
