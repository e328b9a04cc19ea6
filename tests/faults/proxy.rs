//! A small TCP proxy that stands before a service and breaks what flows through it: it cuts, it
//! stalls or slows one direction, and it can swallow exactly the reply that a test names, such as
//! that to the COMMIT of the booking desk.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where the service listens.
#[derive(Clone)]
pub enum Upstream {
    /// On a port.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Unix(PathBuf),
}

/// What happens to bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// They pass.
    Pass,
    /// Connections are ended, and new ones too.
    Cut,
    /// What the service says is held back until the flow changes; clients are heard.
    Mute,
}

/// What a trap does with the connection it caught.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Catch {
    /// Ends it; the reply is lost.
    Cut,
    /// Leaves it hanging; the reply does not come.
    Hang,
}

struct Trap {
    reply: Vec<u8>,
    /// How many more replies pass before the one that is caught.
    pass: usize,
    catch: Catch,
}

struct Inner {
    upstream: Upstream,
    flow: watch::Sender<Flow>,
    /// So much later the service hears what clients say, in milliseconds.
    lag_ms: AtomicU64,
    /// How many bytes the service has heard.
    heard: AtomicU64,
    /// Connections whose client once said this are marked: traps look at no others.
    mark: Vec<u8>,
    trap: Mutex<Option<Trap>>,
    caught: watch::Sender<bool>,
}

/// A proxy before one service. Dropped, it is gone with all its connections.
pub struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own. `mark` is what the connections that traps are for say first.
    pub async fn start(upstream: Upstream, mark: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for a proxy");
        let address = listener.local_addr().expect("the port of a proxy");
        let inner = Arc::new(Inner {
            upstream,
            flow: watch::Sender::new(Flow::Pass),
            lag_ms: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            mark: mark.as_bytes().to_vec(),
            trap: Mutex::new(None),
            caught: watch::Sender::new(false),
        });
        let shared = Arc::clone(&inner);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(serve(Arc::clone(&shared), client));
            }
        });
        Self { address, inner, accepting }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets everything pass again, what was held back first.
    pub fn pass(&self) {
        self.inner.flow.send_replace(Flow::Pass);
    }

    /// Holds back whatever the service says.
    pub fn mute(&self) {
        self.inner.flow.send_replace(Flow::Mute);
    }

    /// How many bytes the service has heard.
    pub fn heard(&self) -> u64 {
        self.inner.heard.load(Ordering::Relaxed)
    }

    /// Lets the service hear everything so much later.
    pub fn lag(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap();
        self.inner.lag_ms.store(ms, Ordering::Relaxed);
    }

    /// Catches a reply on a marked connection, after `pass` others like it.
    pub fn trap(&self, reply: &[u8], pass: usize, catch: Catch) {
        self.inner.caught.send_replace(false);
        let trap = Trap { reply: reply.to_vec(), pass, catch };
        *self.inner.trap.lock().unwrap() = Some(trap);
    }

    /// Waits until the trap has caught its reply.
    pub async fn caught(&self, within: Duration) {
        let mut caught = self.inner.caught.subscribe();
        tokio::time::timeout(within, caught.wait_for(|caught| *caught))
            .await
            .expect("the reply that the trap is for never came")
            .expect("the proxy lives");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.inner.flow.send_replace(Flow::Cut);
    }
}

async fn serve(inner: Arc<Inner>, client: TcpStream) {
    if *inner.flow.borrow() == Flow::Cut {
        return;
    }
    client.set_nodelay(true).ok();
    match &inner.upstream {
        Upstream::Tcp(address) => {
            let Ok(service) = TcpStream::connect(address).await else { return };
            service.set_nodelay(true).ok();
            join(inner, client, service).await;
        }
        Upstream::Unix(path) => {
            let Ok(service) = UnixStream::connect(path).await else { return };
            join(inner, client, service).await;
        }
    }
}

/// Passes bytes both ways until either side ends or the flow is cut.
async fn join<S: AsyncRead + AsyncWrite>(inner: Arc<Inner>, client: TcpStream, service: S) {
    let mut flow = inner.flow.subscribe();
    let marked = AtomicBool::new(inner.mark.is_empty());
    let (client_read, client_write) = client.into_split();
    let (service_read, service_write) = split(service);
    tokio::select! {
        _ = flow.wait_for(|flow| *flow == Flow::Cut) => {}
        () = ask(&inner, &marked, client_read, service_write) => {}
        () = reply(&inner, &marked, service_read, client_write) => {}
    }
}

async fn ask(
    inner: &Inner,
    marked: &AtomicBool,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) {
    let mut seen = Matcher::default();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if !marked.load(Ordering::Relaxed) && seen.count(&buffer[..read], &inner.mark) > 0 {
            marked.store(true, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(inner.lag_ms.load(Ordering::Relaxed))).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        inner.heard.fetch_add(u64::try_from(read).unwrap(), Ordering::Relaxed);
    }
}

async fn reply(
    inner: &Inner,
    marked: &AtomicBool,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) {
    let mut seen = Matcher::default();
    let mut flow = inner.flow.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if marked.load(Ordering::Relaxed)
            && let Some(catch) = spring(inner, &mut seen, &buffer[..read])
        {
            if catch == Catch::Hang {
                std::future::pending::<()>().await;
            }
            return;
        }
        if flow.wait_for(|flow| *flow != Flow::Mute).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// What is to be done with the connection, if these bytes complete the reply of the trap.
fn spring(inner: &Inner, seen: &mut Matcher, bytes: &[u8]) -> Option<Catch> {
    let mut trap = inner.trap.lock().unwrap();
    let set = trap.as_mut()?;
    let found = seen.count(bytes, &set.reply);
    if found <= set.pass {
        set.pass -= found;
        return None;
    }
    let catch = set.catch;
    *trap = None;
    inner.caught.send_replace(true);
    Some(catch)
}

/// Counts a pattern in a stream that comes in pieces.
#[derive(Default)]
struct Matcher(Vec<u8>);

impl Matcher {
    fn count(&mut self, bytes: &[u8], pattern: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        let found = self.0.windows(pattern.len()).filter(|window| *window == pattern).count();
        let keep = self.0.len().min(pattern.len() - 1);
        self.0.drain(..self.0.len() - keep);
        found
    }
}
