//! A body-discarding stand-in for an S3 store: the fastest possible other end, for measuring uploaders and nothing else.
//!
//! ```text
//! connection ─ tls ─▶ http: head, discarded body ─▶ s3: sizes and ETags of uploads, parts, objects ─▶ answer
//!                └── or plain
//! ```
//!
//! It checks no signature and keeps no byte. A thread a connection, blocking reads of 256 KiB: what it spends is close to
//! what the kernel asks for receiving at all.

mod http;
mod s3;
mod tls;

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::http::Connection;
use crate::s3::Sink;
use crate::tls::Tls;

/// Connections served at once on an address; those beyond are closed unanswered.
const MAX_CONNECTIONS: usize = 1024;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let served = match *arguments.as_slice() {
        [] => serve("127.0.0.1:0", None),
        [address] => serve(address, None),
        [address, certificate, key] => Tls::read(certificate, key).and_then(|tls| serve(address, Some(tls))),
        _ => Err("it takes ADDRESS:PORT, and for TLS beside it the PEM files of a certificate and its key".into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "nullsink: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Listens on `address`, and with `tls` also on another port of it, says where on the first lines of standard output, and
/// serves until killed.
fn serve(address: &str, tls: Option<Tls>) -> Result<(), Box<dyn Error>> {
    let listen = |address| {
        let cannot = move |error| format!("cannot listen on {address}: {error}");
        TcpListener::bind(address).map_err(cannot)
    };
    let sink = Arc::new(Sink::default());
    let plain = listen(address)?;
    let address = plain.local_addr()?;
    let mut endpoints = vec![format!("http://{address}")];
    if let Some(tls) = tls {
        let secured = TcpListener::bind((address.ip(), 0))?;
        endpoints.push(format!("https://{}", secured.local_addr()?));
        let sink = sink.clone();
        thread::spawn(move || accept(&secured, &sink, move |stream| tls.secure(stream)));
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", endpoints.join("\n"))?;
    stdout.flush()?;
    accept(&plain, &sink, Ok)?;
    Ok(())
}

/// Serves every connection on a thread of its own, once `secure` has made of it what is to be spoken through.
fn accept<S: Read + Write>(
    listener: &TcpListener,
    sink: &Arc<Sink>,
    secure: impl Fn(TcpStream) -> io::Result<S> + Clone + Send + 'static,
) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = stream?;
        if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (sink, open, secure) = (Arc::clone(sink), Arc::clone(&open), secure.clone());
        thread::spawn(move || {
            // A client that breaks off, or sends what is not HTTP, is its own affair: the sink only forgets the connection.
            _ = stream
                .set_nodelay(true)
                .and_then(|()| secure(stream))
                .and_then(|stream| converse(stream, &sink));
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// Answers one request after another until the client closes.
fn converse(stream: impl Read + Write, sink: &Sink) -> io::Result<()> {
    sink.count_connection();
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.next_request()? {
        if connection.await_body(&request)? {
            sink.body_begins(&request);
        }
        let received = connection.discard_body(&request)?;
        connection.answer(&request, &sink.handle(&request, received))?;
    }
    Ok(())
}
