//! Several servers at one address, as a Service has them.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes each connection on to the next server that is there.
pub struct Splitter(JoinHandle<()>);

impl Splitter {
    /// For these servers, at this port.
    pub async fn start(port: u16, servers: Vec<SocketAddr>) -> Splitter {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.expect("a free port");
        Splitter(tokio::spawn(async move {
            for turn in 0.. {
                let (stream, _) = listener.accept().await.expect("a connection");
                let mut servers = servers.clone();
                let first = turn % servers.len();
                servers.rotate_left(first);
                tokio::spawn(pass(stream, servers));
            }
        }))
    }
}

impl Drop for Splitter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pass(mut client: TcpStream, servers: Vec<SocketAddr>) {
    for address in servers {
        if let Ok(mut server) = TcpStream::connect(address).await {
            client.set_nodelay(true).expect("an option");
            server.set_nodelay(true).expect("an option");
            copy_bidirectional(&mut client, &mut server).await.ok();
            return;
        }
    }
}
