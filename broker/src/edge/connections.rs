//! Open connections: how many an address may have, and an end to those that have had an answer and are silent since, or send
//! their next request too slowly.
//!
//! The HTTP library gives a deadline to the head of a connection's first request, and to the pause before the next one; what it
//! leaves out is a next head that comes byte by byte. A body in chunks, whose length nobody knows, it reads on after the answer
//! for as long as it comes: such a request is the last of its connection. And it has all connections wait where the most are open
//! that may be: so that nobody takes them all, an address has a share, and silence is suffered for shorter when they run low.

use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream as Plain;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::address::TrustedProxies;
use super::rates::household;

/// How long silence is suffered when three quarters of the connections that may be are open.
const PATIENCE_WHEN_FULL: Duration = Duration::from_secs(5);
/// How long the other end has to read the last answer, and may go on with the body of its request meanwhile.
const LAST: Duration = Duration::from_secs(2);
/// How often it is looked whose time is over.
const LOOK: Duration = Duration::from_secs(1);
/// In place of a time: a request is being answered.
const BUSY: u64 = u64::MAX;
/// How long an answer may take on its way beyond [`Allowance::patience`], which counts from when it is known.
const ANSWER: Duration = Duration::from_mins(5);

/// What a server allows its connections.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// Open at once.
    pub connections: u32,
    /// Of these, from one address; 0 for any number.
    pub per_address: u32,
    /// From the end of an answer to the end of the next request's head, at most.
    pub patience: Duration,
    /// Speak for many: their connections do not count for their addresses.
    pub proxies: TrustedProxies,
}

/// What is counted of connections. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSeries {
    /// Those that are open.
    pub open: Gauge,
    /// Those that were ended at once, since their address had too many.
    pub refused: Counter,
}

/// The open connections of a server.
#[derive(Debug)]
pub struct Connections {
    allowed: Allowance,
    open: Mutex<Vec<Weak<Connection>>>,
    of_each: Arc<Mutex<HashMap<IpAddr, u32>>>,
    began: Instant,
    series: ConnectionSeries,
    /// The server is about to stop: nothing more is expected on silent connections.
    stopping: AtomicBool,
}

/// One of them, as its requests know it.
#[derive(Debug)]
pub struct Connection {
    /// Of its own, so that it is sure to be this connection that is shut down.
    socket: TcpStream,
    /// Milliseconds since the server began, or [`BUSY`].
    silent_since: AtomicU64,
    /// No other request is expected.
    last: AtomicBool,
    began: Instant,
    address: Option<IpAddr>,
    of_each: Arc<Mutex<HashMap<IpAddr, u32>>>,
    open: Gauge,
}

impl Connections {
    /// None yet.
    pub fn new(allowed: Allowance, series: ConnectionSeries) -> Arc<Self> {
        Arc::new(Self {
            allowed,
            open: Mutex::default(),
            of_each: Arc::default(),
            began: Instant::now(),
            series,
            stopping: AtomicBool::new(false),
        })
    }

    /// Takes a new connection in, and leaves it where its requests find it; or ends it, if its address has enough.
    pub fn enter(&self, stream: &dyn Any, extensions: &mut Extensions) {
        let plain = stream.downcast_ref::<Plain>();
        let plain = plain.or_else(|| Some(stream.downcast_ref::<TlsStream<Plain>>()?.get_ref().0));
        // Where there is no descriptor left, the connection goes without.
        let Some((stream, Ok(socket))) = plain.map(|stream| (stream, stream.as_fd().try_clone_to_owned())) else {
            return;
        };
        let socket = TcpStream::from(socket);
        let address = stream
            .peer_addr()
            .ok()
            .and_then(|peer| self.counts(peer.ip().to_canonical()));
        if let Some(address) = address {
            let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
            let held = of_each.entry(address).or_default();
            if *held >= self.allowed.per_address {
                self.series.refused.inc();
                _ = socket.shutdown(Shutdown::Both);
                return;
            }
            *held += 1;
        }
        let connection = Arc::new(Connection {
            socket,
            silent_since: AtomicU64::new(milliseconds(self.began.elapsed())),
            last: AtomicBool::new(false),
            began: self.began,
            address,
            of_each: Arc::clone(&self.of_each),
            open: self.series.open.clone(),
        });
        self.series.open.inc();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(&connection));
        extensions.insert(connection);
    }

    /// What a connection from there counts for, if it counts.
    fn counts(&self, address: IpAddr) -> Option<IpAddr> {
        let Allowance {
            per_address, proxies, ..
        } = &self.allowed;
        // As requests of this machine do.
        let own = address.is_loopback() && !proxies.are_configured();
        (*per_address > 0 && !own && !proxies.trust(address)).then(|| household(address))
    }

    /// Silent connections are ended from now on, so that the server need not wait for them.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Shuts down those whose time is over, for as long as it is polled.
    pub async fn keep_ending(self: Arc<Self>) {
        let mut every = tokio::time::interval(LOOK);
        loop {
            every.tick().await;
            let now = milliseconds(self.began.elapsed());
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|connection| connection.strong_count() > 0);
            let full = open.len() as u64 * 4 >= u64::from(self.allowed.connections) * 3;
            let patience = match self.allowed.patience {
                _ if self.stopping.load(Ordering::Relaxed) => Duration::ZERO,
                patience if full => patience.min(PATIENCE_WHEN_FULL),
                patience => patience,
            };
            open.retain(|connection| {
                let Some(connection) = connection.upgrade() else {
                    return false;
                };
                let since = connection.silent_since.load(Ordering::Relaxed);
                let patience = if connection.last.load(Ordering::Relaxed) {
                    patience.min(LAST)
                } else {
                    patience
                };
                let over = since != BUSY && now.saturating_sub(since) > milliseconds(patience);
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
        Busy(Arc::clone(self), Duration::ZERO)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
        let Some(address) = self.address else { return };
        let mut of_each = self.of_each.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = of_each.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                of_each.remove(&address);
            }
        }
    }
}

/// A request of the connection is being answered.
#[derive(Debug)]
pub struct Busy(Arc<Connection>, Duration);

impl Busy {
    /// The answer is long, and may be on its way for a while.
    pub fn answers_at_length(&mut self) {
        self.1 = ANSWER;
    }

    /// This is the last answer on the connection, which ends soon after it whatever is still being sent.
    pub fn answers_last(&self) {
        self.0.last.store(true, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = milliseconds(self.0.began.elapsed() + self.1);
        self.0.silent_since.store(now, Ordering::Relaxed);
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(BUSY - 1)
}
