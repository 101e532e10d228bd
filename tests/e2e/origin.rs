//! A host of links that answers by script, so that connections break where the test wants it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request's head.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Path and query.
    pub(crate) target: String,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Asked {
    /// The first byte that `Range` asks for.
    pub(crate) fn from(&self) -> Option<usize> {
        let range = self.headers.get("range")?;
        range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// An answer: bytes as they are, and how the connection ends behind them.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    /// Nothing more comes, for so long.
    silent: Duration,
}

impl Reply {
    /// A status with header lines and a body.
    pub(crate) fn new(status: u16, headers: &[String], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status} Whatever\r\nConnection: close\r\n").into_bytes();
        for header in headers {
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        let silent = Duration::ZERO;
        Self { bytes, silent }
    }

    /// 200 with all of `body`, its length and these header lines.
    pub(crate) fn whole(headers: &[&str], body: &[u8]) -> Self {
        let length = format!("Content-Length: {}", body.len());
        let headers = headers.iter().map(|&header| header.to_owned());
        Self::new(200, &headers.chain([length]).collect::<Vec<_>>(), body)
    }

    /// 200 with all of `body` in chunks, without a length.
    pub(crate) fn chunked(headers: &[&str], body: &[u8]) -> Self {
        let mut chunks = Vec::new();
        for chunk in body.chunks(100_000) {
            chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunks.extend_from_slice(chunk);
            chunks.extend_from_slice(b"\r\n");
        }
        chunks.extend_from_slice(b"0\r\n\r\n");
        let headers = headers.iter().map(|&header| header.to_owned());
        let headers: Vec<_> = headers.chain(["Transfer-Encoding: chunked".to_owned()]).collect();
        Self::new(200, &headers, &chunks)
    }

    /// 206 with `body` from `start` on.
    pub(crate) fn rest(headers: &[&str], body: &[u8], start: usize) -> Self {
        let size = body.len();
        let own = [
            format!("Content-Range: bytes {start}-{}/{size}", size - 1),
            format!("Content-Length: {}", size - start),
        ];
        let headers = headers.iter().map(|&header| header.to_owned());
        Self::new(206, &headers.chain(own).collect::<Vec<_>>(), &body[start..])
    }

    /// A status with these header lines and no content.
    pub(crate) fn status(status: u16, headers: &[&str]) -> Self {
        let headers = headers.iter().map(|&header| header.to_owned());
        Self::new(
            status,
            &headers.chain(["Content-Length: 0".to_owned()]).collect::<Vec<_>>(),
            b"",
        )
    }

    /// The connection ends `missing` bytes too early.
    pub(crate) fn cut(mut self, missing: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - missing);
        self
    }

    /// `missing` bytes never come, and the connection stays.
    pub(crate) fn stalled(self, missing: usize) -> Self {
        let silent = Duration::from_mins(10);
        Self {
            silent,
            ..self.cut(missing)
        }
    }
}

/// A host on a free port, which ends when it is dropped.
pub(crate) struct Origin {
    base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    listening: JoinHandle<()>,
}

impl Origin {
    /// One that answers as `script` says, which gets each request and how many there were before it.
    pub(crate) async fn start(script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (script, noted) = (Arc::new(script), asked.clone());
        let listening = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let (script, noted) = (script.clone(), noted.clone());
                tokio::spawn(async move {
                    let mut connection = BufReader::new(connection);
                    let Some(asked) = head(&mut connection).await else {
                        return;
                    };
                    let before = {
                        let mut noted = noted.lock().unwrap();
                        noted.push(asked.clone());
                        noted.len() - 1
                    };
                    let reply = script(&asked, before);
                    // Whoever asked may have gone.
                    let _ = connection.write_all(&reply.bytes).await;
                    tokio::time::sleep(reply.silent).await;
                    let _ = connection.shutdown().await;
                });
            }
        });
        Self { base, asked, listening }
    }

    /// A link to `path` on it.
    pub(crate) fn link(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The same with `user` before the host.
    pub(crate) fn link_as(&self, user: &str, path: &str) -> String {
        self.link(path).replacen("http://", &format!("http://{user}@"), 1)
    }

    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Reads a request as far as the empty line.
async fn head(connection: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = connection.lines();
    let first = lines.next_line().await.ok()??;
    let target = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    while let Some(line) = lines.next_line().await.ok()?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    Some(Asked { target, headers })
}
