//! Listens, serves so many connections at once and no more, and stops without cutting off what is under way.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, info, warn};

use crate::api::{STALL, valid_bucket_name};
use crate::config::StoreConfig;
use crate::disk::{BucketSettings, Disk, DiskError};
use crate::error::StoreError;
use crate::fault::Faults;
use crate::front::Front;
use crate::lifecycle;

/// Connections served at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may take to send a request's head, or stay idle between two requests.
const HEAD_TIME: Duration = Duration::from_mins(1);
/// How long requests under way may take once the store shall stop.
const STOP_TIME: Duration = Duration::from_secs(10);

/// A running store. Dropped, it stops at once; [`Store::stop`] lets requests finish.
#[derive(Debug)]
pub struct Store {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
    sweeping: Option<JoinHandle<()>>,
}

/// The URL of a store that listens there, as S3 tools take an endpoint. Listening on every address, it is told by the loopback one.
pub fn endpoint(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

impl Store {
    /// Opens the directory, finishes or removes what a crash left there, makes the buckets, and serves.
    ///
    /// # Errors
    /// The directory cannot be used, is served by another process or holds data of a newer format; a bucket's name is not
    /// one; the address is taken. Nothing runs then.
    pub async fn start(config: StoreConfig) -> Result<Self, StoreError> {
        Self::start_with(config, None).await
    }

    pub(crate) async fn start_with(config: StoreConfig, faults: Option<Arc<Faults>>) -> Result<Self, StoreError> {
        let StoreConfig {
            dir,
            listen,
            region,
            keys,
            buckets,
            sync,
            min_part_size,
        } = config;
        if let Some(name) = buckets.iter().find(|name| !valid_bucket_name(name)) {
            return Err(StoreError::BucketName(name.clone()));
        }
        if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(StoreError::Region(region));
        }
        // First the address: a second server started by mistake is told that before it touches the data.
        let listener = TcpListener::bind(listen).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StoreError::AddressInUse {
                address: listen,
                source,
            },
            _ => StoreError::Listen {
                address: listen,
                source,
            },
        })?;
        let address = listener.local_addr().map_err(|source| StoreError::Listen {
            address: listen,
            source,
        })?;
        let root = dir.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let disk = Disk::open(dir, sync, min_part_size)?;
            for bucket in &buckets {
                disk.create_bucket(bucket, BucketSettings::default())
                    .map_err(from_disk)?;
            }
            Ok(disk)
        });
        let disk = opened.await.map_err(|stopped| StoreError::Directory {
            doing: "open",
            path: root,
            source: io::Error::other(stopped),
        })??;
        let disk = Arc::new(disk);
        let (stop, stopping) = watch::channel(false);
        let sweeping = tokio::spawn(sweep_by_the_hour(Arc::clone(&disk), stopping.clone()));
        let front = Arc::new(Front::new(disk, keys, region, faults));
        info!(%address, "the store listens");
        Ok(Self {
            address,
            stop,
            accepting: Some(tokio::spawn(accept(listener, front, stopping))),
            sweeping: Some(sweeping),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as S3 tools take an endpoint.
    pub fn endpoint(&self) -> String {
        endpoint(self.address)
    }

    /// Accepts nothing more, lets requests under way finish for at most ten seconds, and lets go of the directory.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        for task in [self.accepting.take(), self.sweeping.take()].into_iter().flatten() {
            if let Err(error) = task.await {
                warn!(%error, "the store stopped by accident");
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        for task in [self.accepting.take(), self.sweeping.take()].into_iter().flatten() {
            task.abort();
        }
    }
}

fn from_disk(failure: DiskError) -> StoreError {
    match failure {
        DiskError::Io { doing, path, source } => StoreError::Directory { doing, path, source },
        other => StoreError::Directory {
            doing: "create a bucket in",
            path: "buckets".into(),
            source: io::Error::other(other),
        },
    }
}

/// Lifecycle rules count in days: an hour is as good as at once.
async fn sweep_by_the_hour(disk: Arc<Disk>, mut stopping: watch::Receiver<bool>) {
    let mut hours = tokio::time::interval(Duration::from_hours(1));
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            _ = hours.tick() => {}
        }
        let (disk, watched) = (Arc::clone(&disk), stopping.clone());
        let round = tokio::task::spawn_blocking(move || {
            lifecycle::sweep(&disk, OffsetDateTime::now_utc(), || *watched.borrow());
        });
        if let Err(stopped) = round.await {
            warn!(error = %stopped, "a round of lifecycle rules stopped early");
        }
    }
}

async fn accept(listener: TcpListener, front: Arc<Front>, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = next => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serving = serve(stream, Arc::clone(&front), stopping.clone());
                connections.spawn(async move {
                    let _place = place;
                    if let Err(error) = serving.await {
                        debug!(%peer, %error, "a connection ended early");
                    }
                });
            }
            // Too many open files, most likely: those served now will close some.
            Err(error) => {
                warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIME, finish).await.is_err() {
        warn!(connections = connections.len(), "requests still under way were cut off");
    }
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, front: Arc<Front>, mut stopping: watch::Receiver<bool>) -> hyper::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    let service = service_fn(move |request: Request<Incoming>| {
        let front = Arc::clone(&front);
        async move { front.answer(request).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that has sent all it will may close its side and still wait for the answer.
        .half_close(true)
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
