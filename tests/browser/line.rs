//! The line between a browser and the server, which can be cut and mended.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A line. Dropped, it is gone.
pub struct Line {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Line {
    /// A line to a server.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port");
        let whole = watch::Sender::new(true);
        let state = whole.subscribe();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(carry(client, server, state.clone()));
            }
        });
        Self { address, whole, accepting }
    }

    /// Where browsers connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and new ones too.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// New connections pass again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let Ok(mut service) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = whole.wait_for(|whole| !whole) => {}
        _ = copy_bidirectional(&mut client, &mut service) => {}
    }
}
