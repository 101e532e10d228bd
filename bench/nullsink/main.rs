//! A body-discarding stand-in for an S3 store: the fastest possible other end, for measuring uploaders and nothing else.
//!
//! ```text
//! connection ─ http: head, discarded body ─▶ s3: sizes and ETags of uploads, parts, objects ─▶ answer
//! ```
//!
//! It checks no signature and keeps no byte. A thread a connection, blocking reads of 256 KiB: what it spends is close to
//! what the kernel asks for receiving at all.

mod http;
mod s3;

use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::http::Connection;
use crate::s3::Sink;

/// Connections served at once; those beyond are closed unanswered.
const MAX_CONNECTIONS: usize = 1024;

fn main() -> ExitCode {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    match serve(&address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(io::stderr(), "nullsink: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Listens on `address`, says where on the first line of standard output, and serves until killed.
fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "http://{}", listener.local_addr()?)?;
    stdout.flush()?;

    let sink = Arc::new(Sink::default());
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let stream = stream?;
        if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (sink, open) = (Arc::clone(&sink), Arc::clone(&open));
        thread::spawn(move || {
            // A client that breaks off, or sends what is not HTTP, is its own affair: the sink only forgets the connection.
            _ = converse(stream, &sink);
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(())
}

/// Answers one request after another until the client closes.
fn converse(stream: TcpStream, sink: &Sink) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sink.count_connection();
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.next_request()? {
        let received = connection.discard_body(&request)?;
        connection.answer(&request, &sink.handle(&request, received))?;
    }
    Ok(())
}
