//! The other end of a webhook: hears every request, checks its signature by other code than the broker's, answers as told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A small HTTP server. Ends when dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    status: u16,
    heard: Vec<Heard>,
}

/// A request that came.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heard {
    /// Its headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Receiver {
    /// What [`Heard::is_signed`] goes by.
    pub const SECRET: &str = "the secret that both of them know";

    /// On a free port, taking everything.
    pub async fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same where another one was.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, heard) = (200, Vec::new());
        let shared = Arc::new(Mutex::new(Shared { status, heard }));
        let accepting = tokio::spawn(accept(listener, address, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the broker is to be told. There is a secret in its query, as in some services' URLs.
    pub fn url(&self) -> String {
        format!("http://{}/hook?token=hunter2", self.address)
    }

    /// From now on, answers with this status.
    pub fn answers(&self, status: u16) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).status = status;
    }

    /// All that came, in its order.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).heard.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Heard {
    /// A header; nothing if it did not come.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The event's id, by which duplicates are dropped.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether who sent it knows the secret.
    pub fn is_signed(&self) -> bool {
        let mut message = format!("{}.{}.", self.id(), self.header("webhook-timestamp")).into_bytes();
        message.extend(&self.body);
        let expected = STANDARD.encode(hmac(Receiver::SECRET.as_bytes(), &message));
        self.header("webhook-signature")
            .split(' ')
            .any(|signature| signature == format!("v1,{expected}"))
    }
}

/// HMAC-SHA256 by its definition (RFC 2104 section 2), for keys of at most a block.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Mutex<Shared>>) {
    // With this task go the connections.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, address, Arc::clone(&shared)));
    }
}

/// Answers one request after another until the other side has enough.
async fn serve(stream: TcpStream, address: SocketAddr, shared: Arc<Mutex<Shared>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut headers = BTreeMap::new();
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        loop {
            line.clear();
            stream.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        let status = {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.heard.push(Heard { headers, body });
            shared.status
        };
        // Whoever follows a redirect comes here again.
        let answer = format!("HTTP/1.1 {status} Said\r\nlocation: http://{address}/\r\ncontent-length: 3\r\n\r\nyes");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}
