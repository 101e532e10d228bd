//! Stands in for broker and store where a test needs a fault at an exact place: one port, one script.

// Each test binary uses its own share of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The part that it carries, if it is one.
    pub(crate) fn part(&self) -> Option<u64> {
        let (_, rest) = self.path.split_once("partNumber=")?;
        rest.split('&').next()?.parse().ok()
    }
}

/// What the script does with a request.
pub(crate) enum Reply {
    /// Read it all, then answer.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Read it all, do this, then answer.
    After(Box<dyn FnOnce() + Send>, u16, String),
    /// Answer by the head alone and close, the body unread.
    Early(u16, String),
    /// Close without an answer, the body unread.
    Cut,
    /// Read it all and never answer.
    Silence,
    /// Whatever a sound broker or store would do.
    Normal,
}

pub(crate) const STORE_SECRET: &str = "very-secret-signature";
const UPLOAD_ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
pub(crate) const PART_SIZE: u64 = 5 << 20;

type Script = dyn FnMut(&Request) -> Reply + Send;

/// The double, for as long as the test runs.
pub(crate) struct Double {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Double {
    /// `script` is asked first for every request, with its body still unread.
    pub(crate) fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let script: Arc<Mutex<Box<Script>>> = Arc::new(Mutex::new(Box::new(script)));
        let double = Self {
            address: address.clone(),
            seen: seen.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (address, seen, script) = (address.clone(), seen.clone(), script.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.unwrap());
                    // A client that goes away ends the connection, not the test.
                    while let Some(()) = serve(&mut reader, &address, &seen, &script) {}
                });
            }
        });
        double
    }

    /// Every request so far, with its body where it was read.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How often part `number` was sent.
    pub(crate) fn sendings(&self, number: u64) -> usize {
        self.seen()
            .iter()
            .filter(|request| request.part() == Some(number))
            .count()
    }

    /// How often this was asked.
    pub(crate) fn asked(&self, method: &str, path_end: &str) -> usize {
        let asked = |request: &&Request| request.method == method && request.path.ends_with(path_end);
        self.seen().iter().filter(asked).count()
    }
}

/// One request of a connection; nothing when the connection is over.
fn serve(
    reader: &mut BufReader<TcpStream>,
    address: &str,
    seen: &Mutex<Vec<Request>>,
    script: &Mutex<Box<Script>>,
) -> Option<()> {
    let mut request = read_head(reader)?;
    let reply = (script.lock().unwrap())(&request);
    match reply {
        Reply::Early(status, body) => {
            seen.lock().unwrap().push(request);
            answer(reader.get_mut(), status, &[], &body)?;
            return None;
        }
        Reply::Cut => {
            seen.lock().unwrap().push(request);
            return None;
        }
        Reply::Answer(..) | Reply::After(..) | Reply::Silence | Reply::Normal => {}
    }
    let length = request
        .headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    seen.lock().unwrap().push(request.clone());
    match reply {
        Reply::Answer(status, headers, body) => answer(reader.get_mut(), status, &headers, &body),
        Reply::After(act, status, body) => {
            act();
            answer(reader.get_mut(), status, &[], &body)
        }
        Reply::Silence => {
            // Until the client closes.
            let _ = reader.read(&mut [0]);
            None
        }
        _ => {
            let (status, body) = sound_answer(&request, address);
            answer(reader.get_mut(), status, &[], &body)
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let (first, headers) = lines.split_first()?;
    let mut words = first.split(' ').map(str::to_owned);
    let header = |line: &String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    };
    Some(Request {
        method: words.next()?,
        path: words.next()?,
        headers: headers.iter().map(header).collect(),
        body: Vec::new(),
    })
}

fn answer(stream: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &str) -> Option<()> {
    let mut head = vec![
        format!("HTTP/1.1 {status} X"),
        format!("Content-Length: {}", body.len()),
    ];
    head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    stream
        .write_all(format!("{}\r\n\r\n{body}", head.join("\r\n")).as_bytes())
        .ok()
}

/// What the broker of one upload, and its store, would answer.
fn sound_answer(request: &Request, address: &str) -> (u16, String) {
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let time = "2026-01-01T00:00:00Z";
    match (request.method.as_str(), request.path.rsplit('/').next().unwrap()) {
        ("POST", "uploads") => (201, created(asked["size"].as_u64().unwrap_or(0), &json!([]))),
        ("POST", "parts") => {
            let sign = |part: &Value| {
                let url = format!(
                    "{address}/bucket/key?partNumber={}&X-Sig={STORE_SECRET}",
                    part["number"]
                );
                json!({"number": part["number"], "method": "PUT", "url": url, "headers": {"Content-MD5": part["md5"]},
                    "expires_at": time, "expires_in": 900})
            };
            let parts: Vec<_> = asked["parts"].as_array().unwrap().iter().map(sign).collect();
            (200, json!({"server_time": time, "parts": parts}).to_string())
        }
        ("POST", "complete") => (200, completed(0)),
        // As from a broker that is too old for them: small files go alone then.
        ("POST", "batches") => (404, problem(404, "no_such_route", &[])),
        ("DELETE", _) => (204, String::new()),
        ("PUT", _) => (200, String::new()),
        other => panic!("nobody answers {other:?}"),
    }
}

/// The answer to create, for a file of `size` bytes of which the store holds `parts`.
pub(crate) fn created(size: u64, parts: &Value) -> String {
    let time = "2026-01-01T00:00:00Z";
    json!({"upload_id": UPLOAD_ID, "state": "open", "key": "key", "part_size": PART_SIZE,
        "part_count": size.div_ceil(PART_SIZE), "integrity": "content_md5", "expires_at": time, "expires_in": 900,
        "server_time": time, "parts": parts})
    .to_string()
}

/// The answer to complete.
pub(crate) fn completed(size: u64) -> String {
    json!({"key": "key", "etag": "\"e-1\"", "size": size, "location": "http://store/bucket/key"}).to_string()
}

/// A problem document.
pub(crate) fn problem(status: u16, code: &str, parts: &[u64]) -> String {
    json!({"type": "about:blank", "title": code, "status": status, "detail": format!("it is {code}"), "code": code,
        "request_id": "r1", "parts": parts})
    .to_string()
}

/// S3's error document.
pub(crate) fn s3_error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>")
}

/// A broker and a store to which nothing happens, and files of five bytes are sent.
pub(crate) fn sound() -> Double {
    Double::start(|request| {
        if request.path.ends_with("/complete") {
            Reply::Answer(200, vec![], completed(5))
        } else {
            Reply::Normal
        }
    })
}

/// What a program has printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file of five bytes.
pub(crate) fn file(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, "hello").unwrap();
    path.to_str().unwrap().to_owned()
}
