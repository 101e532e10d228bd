//! Open connections, and an end to those that have had an answer and are silent since, or send their next request too slowly.
//!
//! The HTTP library gives a deadline to the head of a connection's first request, and to the pause before the next one; what it
//! leaves out is a next head that comes byte by byte.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream as Plain;
use prometheus_client::metrics::gauge::Gauge;

/// How often it is looked whose time is over.
const LOOK: Duration = Duration::from_secs(1);
/// In place of a time: a request is being answered.
const BUSY: u64 = u64::MAX;

/// The open connections of a server.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<Vec<Weak<Connection>>>,
    began: Instant,
    /// From the end of an answer to the end of the next request's head, at most.
    patience: Duration,
    count: Gauge,
}

/// One of them, as its requests know it.
#[derive(Debug)]
pub struct Connection {
    /// Of its own, so that it is sure to be this connection that is shut down.
    socket: TcpStream,
    /// Milliseconds since the server began, or [`BUSY`].
    silent_since: AtomicU64,
    began: Instant,
    count: Gauge,
}

impl Connections {
    /// None yet; each may be kept this long between an answer and the end of the next request's head. They are counted there.
    pub fn new(patience: Duration, count: Gauge) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            began: Instant::now(),
            patience,
            count,
        })
    }

    /// Takes a new connection in, and leaves it where its requests find it.
    pub fn enter(&self, stream: &dyn Any, extensions: &mut Extensions) {
        let plain = stream.downcast_ref::<Plain>();
        let plain = plain.or_else(|| Some(stream.downcast_ref::<TlsStream<Plain>>()?.get_ref().0));
        // Where there is no descriptor left, the connection goes without.
        let Some(Ok(socket)) = plain.map(|stream| stream.as_fd().try_clone_to_owned()) else {
            return;
        };
        let connection = Arc::new(Connection {
            socket: socket.into(),
            silent_since: AtomicU64::new(milliseconds(self.began.elapsed())),
            began: self.began,
            count: self.count.clone(),
        });
        self.count.inc();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(&connection));
        extensions.insert(connection);
    }

    /// Shuts down those whose time is over, for as long as it is polled.
    pub async fn keep_ending(self: Arc<Self>) {
        let mut every = tokio::time::interval(LOOK);
        loop {
            every.tick().await;
            let now = milliseconds(self.began.elapsed());
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|connection| {
                let Some(connection) = connection.upgrade() else {
                    return false;
                };
                let since = connection.silent_since.load(Ordering::Relaxed);
                let over = since != BUSY && now.saturating_sub(since) > milliseconds(self.patience);
                if over {
                    // Fails where the other end was faster.
                    _ = connection.socket.shutdown(Shutdown::Both);
                }
                !over
            });
        }
    }
}

impl Connection {
    /// Marks it as busy for as long as what this answers is kept.
    #[must_use]
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.silent_since.store(BUSY, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count.dec();
    }
}

/// A request of the connection is being answered.
#[derive(Debug)]
pub struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = milliseconds(self.0.began.elapsed());
        self.0.silent_since.store(now, Ordering::Relaxed);
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(BUSY - 1)
}
